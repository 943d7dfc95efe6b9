"""What models write is read in the shapes that they write it in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nightlab import answers
from nightlab.answers import Planned, Said

PLAIN = """\
I changed the warmup.

```nightlab
description: warmup 0.0 → 0.1
hypothesis: the first steps are unstable;
 a ramp helps
category: schedule
expects: -0.005 val_bpb
idea: 12
scratchpad: warmup matters
- next: cosine
description: this is text of the scratchpad
```
Done.
"""


def test_a_block_is_read_with_its_long_values() -> None:
    assert answers.proposal(PLAIN) == Said(
        description="warmup 0.0 → 0.1",
        hypothesis="the first steps are unstable;\n a ramp helps",
        category="schedule",
        expects="-0.005 val_bpb",
        idea=12,
        scratchpad="warmup matters\n- next: cosine\ndescription: this is text of the scratchpad",
    )


def test_the_last_block_counts_and_an_unclosed_one_too() -> None:
    text = "```nightlab\ndescription: first\n```\nNo, better:\n~~~nightlab\ndescription: second\n"
    assert answers.proposal(text).description == "second"


def test_without_a_block_its_lines_are_read() -> None:
    said = answers.proposal("**Description:** lower LR\n- `category`: tuning\nIdea: none\n")
    assert (said.description, said.category, said.idea) == ("lower LR", "tuning", None)
    assert answers.proposal("I did something.") == Said()


def test_a_scratchpad_may_hold_fences() -> None:
    text = "```nightlab\ndescription: x\nscratchpad: see\n```python\nx = 1\n```\nend\n```\n"
    assert answers.proposal(text).scratchpad == "see\n```python\nx = 1\n```\nend"


def test_a_plan_is_read_idea_by_idea() -> None:
    found = answers.plan(
        "```nightlab\nidea: combine 4 and 9\ncategory: schedule\npriority: high, 5\nafter: exp 4, 9\n"
        "idea: drop the bias\ncost: small\nveto: 3, 7\nscratchpad: mind the noise\n```"
    )
    first, second = found.ideas
    assert (first.text, first.priority, first.after) == ("combine 4 and 9", 5.0, (4, 9))
    assert (second.text, second.cost) == ("drop the bias", "small")
    assert found.vetoed == (3, 7)
    assert found.scratchpad == "mind the noise"


def test_the_forms_that_are_asked_for_can_be_read() -> None:
    assert answers.proposal(answers.PROPOSAL).description
    assert len(answers.plan(answers.PLAN).ideas) == 2


@given(st.text(alphabet="`~nightlab idea: veto\n-*0123456789", max_size=300))
def test_no_text_makes_the_readers_fail(text: str) -> None:
    assert isinstance(answers.proposal(text), Said)
    assert isinstance(answers.plan(text), Planned)
