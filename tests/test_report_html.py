"""The debrief as a page: its numbers computed again, and nothing of anybody's comes alive in it."""

import base64
import datetime as dt
import hashlib
import itertools
import re
from html.parser import HTMLParser
from statistics import fmean, median

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightlab import phases, plot, report
from nightlab.errors import UsageError
from nightlab.events import IdeaAdded, Noted
from nightlab.model import Better, Change, Outcome, Verdict
from nightlab.model import Idea as Waiting
from nightlab.report import document, summary
from nightlab.report.words import clean, number, signed

from .simulated import BASELINE, Idea, Night, night
from .test_report import HOSTILE, fair_values, of, pooled

VOID = {"meta", "input", "link", "img", "br", "hr", "base"}


class Node(dict):
    """An element's attributes; its "text" is all that stands in it."""

    def __missing__(self, name):
        if name != "text":
            raise KeyError(name)
        return "".join(self.words[self.start : self.stop])


class Page(HTMLParser):
    """A page as the browser's own rules of text see it: elements in order, with their text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.all, self.words = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        node = Node(dict(attrs) | {"tag": tag, "in": tuple(self.open)})
        node.words, node.start, node.stop = self.words, len(self.words), None
        self.all.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open[-1]["tag"] == tag
        self.open.pop().stop = len(self.words)

    def handle_data(self, data):
        self.words.append(data)

    def find(self, tag, **attributes):
        return [
            n for n in self.all
            if n["tag"] == tag and all(n.get(k.rstrip("_")) == v for k, v in attributes.items())
        ]  # fmt: skip

    def inside(self, node, tag):
        return [n for n in self.all if n["tag"] == tag and any(o is node for o in n["in"])]

    def table(self, section):
        """The cells of a section's first table, row by row."""
        place = self.find("section", id=section)[0]
        rows = self.inside(self.inside(place, "table")[0], "tr")[1:]
        return [[" ".join(c["text"].split()) for c in self.inside(r, "td")] for r in rows]

    def tiles(self):
        found = {}
        for tile in (d for d in self.find("div") if "tile" in (d.get("class") or "").split()):
            value = self.inside(tile, "b")[0]["text"]
            found[self.inside(tile, "dt")[0]["text"]] = value
        return found


DIFF = """\
diff --git a/train.py b/train.py
--- a/train.py
+++ b/train.py
@@ -1,2 +1,2 @@
-LR = 0.1
+LR = 0.2
 x = 1
"""


def look(numbers):
    return {n: report.Evidence(DIFF if n > 1 else "", f"step 1\nval_bpb: {n}") for n in numbers}


def written(made, *, evidence=look, **other):
    history = made.fold()
    facts = report.facts(history, locked=False, now=made.at, most_rows=document.ROWS, **other)
    drawing = plot.inside(history, facts) if len(history.settled()) > 1 else None
    return report.html(facts, drawing=drawing, final=report.told(history), look=evidence)


@pytest.fixture(scope="module")
def usual():
    return night(60, seed=3, scale=0.003, extra={"peak_vram_mb": 41_000.0}).end()


@pytest.fixture(scope="module")
def page(usual):
    return Page(written(usual))


# --- the numbers, each computed again -------------------------------------------------------


def test_the_gain_on_top_is_that_of_the_runs(usual, page):
    history = usual.history
    sigma, _ = pooled(history)
    effect = fmean(fair_values(history, 1)) - fmean(fair_values(history, history.incumbent_number))
    first = history.baseline.runs[0].metrics["val_bpb"]
    crashed = {e.number for e in history.settled() if e.verdict is Verdict.CRASH}
    lucky = min(
        r.metrics["val_bpb"]
        for e in history.settled() if e.number not in crashed
        for r in e.runs if r.metrics
    )  # fmt: skip
    tiles = page.tiles()
    assert tiles["gain, provisional"] == signed(effect, sigma)
    assert tiles["naive gain"] == signed(first - lucky, sigma)
    kept = sum(e.verdict is Verdict.KEEP for e in history.settled()) - 1
    assert tiles["kept"] == f"{kept} of 59"
    seconds = sum(r.duration_s for e in history.experiments.values() for r in e.runs)
    assert tiles["device time"] == f"{seconds / 3600:.1f} h"


def test_discoveries_are_the_keeps_by_effect_with_their_share(usual, page):
    history = usual.history
    sigma, _ = pooled(history)
    kept = sorted(e.number for e in history.settled() if e.verdict is Verdict.KEEP)
    effects = {
        b: fmean(fair_values(history, a)) - fmean(fair_values(history, b))
        for a, b in itertools.pairwise(kept)
    }
    ranked = sorted(effects, key=lambda n: -effects[n])
    rows = page.table("discoveries")
    assert [r[0] for r in rows] == [str(n) for n in ranked]
    assert [r[2] for r in rows] == [signed(effects[n], sigma) for n in ranked]
    whole = sum(effects.values())
    for row, n in zip(rows, ranked, strict=True):
        share = 100 * effects[n] / whole
        assert float(row[5].removesuffix(" %")) == pytest.approx(share, rel=0.06)
    top = 100 * sum(effects[n] for n in ranked[:3]) / whole
    told = page.find("section", id="discoveries")[0]["text"]
    assert f"The top three carry {top:.0f} % of the gain." in told
    looked = sum(e.number > 1 and e.value is not None for e in history.settled())
    chance = sum(1 / k for k in range(2, looked + 2))
    assert f"about {chance:.1f} of {looked} changes" in told


def test_the_map_of_failures_counts_every_change(usual, page):
    history = usual.history
    sigma, _ = pooled(history)
    changes = [e for e in history.settled() if e.number > 1]
    for row in page.table("failures"):
        mine = [e for e in changes if e.claim.category == row[0]]
        effects = [e.decision.evidence.effect for e in mine if e.verdict is not Verdict.CRASH]
        counts = [
            sum(e.verdict.value == v for e in mine) for v in ("keep", "inconclusive", "crash")
        ]
        assert row[1] == str(len(mine))
        assert row[3:6] == [str(n) if n else "·" for n in counts]
        assert row[6:8] == [signed(median(effects), sigma), signed(max(effects), sigma)]


def test_every_experiment_is_in_the_appendix_with_its_value_its_diff_and_its_log(usual, page):
    history = usual.history
    sigma, _ = pooled(history)
    rows = [d for d in page.find("details") if (d.get("class") or "") == "exp"]
    assert [r["id"] for r in rows] == [f"e{n}" for n in history.experiments]
    for row, experiment in zip(rows, history.experiments.values(), strict=True):
        cells = [s["text"] for s in page.inside(row, "span")[:6]]
        values = fair_values(history, experiment.number)
        told = number(fmean(values), sigma) if values else "—"
        assert cells[:3] == [str(experiment.number), experiment.verdict.value, told]
        assert row["data-verdict"] == experiment.verdict.value
        pre = {p["class"]: p["text"] for p in page.inside(row, "pre")}
        assert pre["log"].endswith(f"val_bpb: {experiment.number}")
        assert pre.get("diff") == (DIFF if experiment.number > 1 else None)


def test_sections_stand_in_the_order_that_a_person_wants(page):
    order = [n["id"] for n in page.find("section") if "id" in n]
    assert order == [
        "happened", "discoveries", "failures", "tradeoffs", "next", "appendix", "reproduce",
    ]  # fmt: skip
    figures = page.find("svg", class_="plot")
    assert len(figures) == 1


@pytest.mark.parametrize("better", list(Better))
def test_the_plot_shows_every_experiment_at_its_value(better):
    made = night(50, seed=4, scale=0.003, better=better).end()
    page, history = Page(written(made)), made.history
    points = [a for a in page.find("a") if "p" in (a.get("class") or "").split()]
    shown = {int(a["href"].removeprefix("#e")): a for a in points}
    assert set(shown) == {e.number for e in history.settled()}
    ys = {}
    for n, point in shown.items():
        experiment = history.experiments[n]
        title = page.inside(point, "title")[0]["text"]
        assert title.startswith(f"exp {n} · {experiment.verdict.value}")
        assert clean(experiment.claim.description, 140) in title
        assert experiment.decision.reason in title
        if point["class"] in ("p keep", "p discard"):
            circle = page.inside(point, "circle")[0]
            ys[n] = float(circle["cy"])
    # Heights are the values on one line: fitted through two, it holds for all.
    values = {n: fmean(fair_values(history, n)) for n in ys}
    low, high = min(values, key=values.get), max(values, key=values.get)
    slope = (ys[high] - ys[low]) / (values[high] - values[low])
    assert slope < 0
    for n, y in ys.items():
        assert y == pytest.approx(ys[low] + slope * (values[n] - values[low]), abs=0.15)


def test_phases_and_drift_are_in_every_plot(tmp_path):
    made = night(120, seed=1, drift=-0.01).end()
    history = made.fold()
    plan = phases.parse("## Phase: tuning (40 experiments)\n## Phase: <b>bold</b>\n").phases
    facts = report.facts(history, locked=False, now=made.at, phases=plan)
    assert [(s.name, s.first, s.last) for s in facts.phases] == [
        ("tuning", 2, 41), ("<b>bold</b>", 42, None),
    ]  # fmt: skip
    drawing = plot.inside(history, facts)
    assert 'class="drift"' in drawing.svg
    assert {"drift", "phase", "floor", "band", "line"} <= {kind for kind, _ in drawing.legend}
    assert "&lt;b&gt;bold&lt;/b&gt;" in drawing.svg
    plain = plot.draw(history, tmp_path / "a.svg").read_text()
    named = plot.draw(history, tmp_path / "b.svg", facts.phases).read_text()
    assert len(named) > len(plain)
    assert "#b0308c" in plain  # the drift's colour


# --- one file, and bounded ------------------------------------------------------------------


def test_the_page_allows_itself_only_its_own_style_and_script(page):
    policy = next(m["content"] for m in page.find("meta") if "http-equiv" in m)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for kind in ("style", "script"):
        (own,) = page.find(kind)
        digest = base64.b64encode(hashlib.sha256(own["text"].encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    for node in page.all:
        assert "style" not in node
        assert not [k for k in node if k.startswith("on")]
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert (node.get(name) or "#").startswith("#")


def test_a_page_of_ten_thousand_experiments_stays_usable():
    made = Night(calibration_runs=2, looks=0, sigma=0.01)
    made.try_(BASELINE)
    for n in range(9999):
        made.try_(Idea(f"idea {n}", 0.05 if n % 400 == 0 else -0.5))
    big = "+" + "x" * 200_000

    def evidence(numbers):
        return {n: report.Evidence(big, big) for n in numbers}

    text = written(made, evidence=evidence)
    assert len(text) < 12_000_000
    page = Page(text)
    rows = [d for d in page.find("details") if (d.get("class") or "") == "exp"]
    assert len(rows) == document.ROWS
    told = page.find("section", id="appendix")[0]["text"]
    assert "8,000 experiments are left out here" in told
    assert re.search(r"The diffs and logs of 1,\d+ experiments are not in this page", told)
    assert "nightlab show 5 --diff" not in text  # it has no row
    caption = page.find("figcaption")[0]["text"]
    silent = 10_000 - document.ROWS
    assert f"{silent:,} experiments are dots only" in caption
    dots = [p for p in page.find("path") if "dots" in (p.get("class") or "")]
    assert sum(p["d"].count("M") for p in dots) == silent


# --- hostile text ---------------------------------------------------------------------------

EVIL = [
    *HOSTILE,
    "</script><script>alert(1)</script>",
    "</style></title></pre></details></textarea><svg onload=alert(1)>",
    "{{ 7 * 7 }} {% for x in y %}",
    "\u202e\u2066 reversed \u2069",
    "' onmouseover='alert(1)' x='",
    '" autofocus onfocus="alert(1)',
]


@pytest.mark.parametrize("words", EVIL)
def test_hostile_text_is_text_wherever_it_stands(words):
    made = Night(tag="t", metric=clean(words, 30) or "m")
    made.try_(BASELINE)
    for effect in (0.5, -0.5, 0.004):
        made.try_(Idea(words, effect, category=words, changes=(Change(name=words, old=1, new=2),)))
    made.try_(Idea(words, outcome=Outcome.CRASHED, detail=words))
    made.record(Noted(text=words))
    made.record(IdeaAdded(idea=Waiting(id=1, text=words, source=words)))
    made.end("error", words)
    history = made.fold()
    facts = report.facts(history, locked=False, now=made.at)
    text = report.html(
        facts,
        drawing=plot.inside(history, facts),
        look=lambda numbers: {n: report.Evidence(f"@@\n+{words}\n", words) for n in numbers},
        sources=[report.Source(words, words, "0" * 64)],
    )
    text.encode()
    page = Page(text)
    kinds = {n["tag"] for n in page.all}
    assert not kinds & {"img", "iframe", "object", "embed", "form", "textarea", "link", "base"}
    assert len(page.find("script")) == len(page.find("style")) == 1
    for node in page.all:
        assert not [k for k in node if k.startswith("on")]
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x00-\x08\x0b\x0c\x0e-\x1f]", text)
    if clean(words, 160):
        cells = [s["text"] for s in page.find("span", class_="words")]
        assert cells.count(clean(words, 160)) >= 4
    assert len(text) < 400_000


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_patch_shows_as_it_is(before, after):
    patch = f"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-{before}\n+{after}\n"
    assert "".join(lines for _, lines in document.hunks(patch)) == patch


def test_a_line_of_a_patch_is_coloured_by_what_it_does():
    kinds = [kind for kind, _ in document.hunks(DIFF)]
    assert kinds == ["f", "h", "r", "a", ""]
    removed = DIFF + "--- a comment in lua\n"  # a removed line that looks like a file's head
    assert list(document.hunks(removed))[-1] == ("r", "--- a comment in lua\n")


# --- every state of a study -----------------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [
        Night,
        lambda: of(Night()),
        lambda: of(Night(calibration_runs=1)),
        lambda: of(Night(sigma=0.0), Idea("a", 0.1)),
        lambda: of(Night(calibration_runs=1, looks=0), Idea("a", 0.1)),
        lambda: of(Night(), *(Idea("x", outcome=Outcome.OOM) for _ in range(30))),
        lambda: of(Night(start=1e9, sigma=1e6), Idea("a", 1e7)),
        lambda: of(Night(start=1e-9, sigma=1e-11), Idea("a", 1e-9)),
    ],
)
def test_every_state_of_a_study_makes_a_page(made):
    page = Page(written(made()))
    assert page.open == []
    assert "None" not in page.find("main")[0]["text"].replace("{True", "")
    assert "nan" not in page.find("main")[0]["text"].split()


# --- a part of a study ------------------------------------------------------------------------


def test_what_happened_since_an_experiment_adds_up_to_the_whole(usual):
    history = usual.fold()
    now = {"locked": False, "now": usual.at}
    whole = report.facts(history, **now)
    moment = report.since(usual.events, "30", now=usual.at)
    late = report.facts(history, since=moment, **now)
    early = report.facts(moment.before, locked=False, now=moment.at)
    assert late.totals.experiments == 30
    for name in ("experiments", "keep", "discard", "inconclusive", "crash", "runs"):
        both = getattr(early.totals, name) + getattr(late.totals, name)
        assert both == getattr(whole.totals, name)
    assert early.totals.device_s + late.totals.device_s == pytest.approx(whole.totals.device_s)
    assert {r.experiment for r in late.rows} == set(range(31, 61))
    kept = {d.experiment for d in whole.discoveries}
    assert {d.experiment for d in late.discoveries} == {n for n in kept if n > 30}
    before = max([1, *(n for n in kept if n <= 30)])
    start, end = fair_values(history, before), fair_values(history, history.incumbent_number)
    assert late.start.experiment == before
    assert late.gain.effect == pytest.approx(fmean(start) - fmean(end))
    assert sum(d.effect for d in late.discoveries) == pytest.approx(late.gain.effect)


def test_the_claim_of_a_finalization_is_not_lent_to_the_gain_of_a_part(usual):
    history, now = usual.fold(), {"locked": False, "now": usual.at}
    moment = report.since(usual.events, "30", now=usual.at)
    whole, part = (
        msgspec.structs.replace(report.facts(history, since=since, **now), finalized="win")
        for since in (None, moment)
    )
    assert "finalized on fresh seeds since: win" in summary.gained(whole)
    assert summary.lines(whole)[0].endswith("finalized: win")
    assert "provisional" in summary.gained(part)
    assert "the whole gain since the baseline is finalized: win" in summary.gained(part)
    assert summary.lines(part)[0].endswith("provisional")


def test_a_part_is_titled_as_one_everywhere(usual):
    moment = report.since(usual.events, "30", now=usual.at)
    now = {"locked": False, "now": usual.at}
    short = report.short(usual.fold(), since=moment, **now).split("\n")
    assert short[0].startswith("mar5 since experiment 30: ")
    assert "30 experiments: " in short[1]
    assert report.markdown(usual.fold(), since=moment, **now).startswith(
        "# Debrief of mar5 since experiment 30\n"
    )
    page = Page(written(usual, since=moment))
    assert page.find("h1")[0]["text"] == "Debrief of mar5 since experiment 30"
    assert "incumbent of then, experiment" in page.find("section", id="happened")[0]["text"]
    assert [p for p in page.find("path") if p.get("class") == "moment"]
    assert (
        report.facts(usual.fold(), since=moment, **now).json()["since"]["words"] == "experiment 30"
    )


def test_nothing_since_claims_nothing(usual):
    moment = report.since(usual.events, "60", now=usual.at)
    facts = report.facts(usual.fold(), locked=False, now=usual.at, since=moment)
    assert (facts.gain, facts.totals.experiments, facts.rows) == (None, 0, ())
    assert "Nothing was kept: the incumbent of then" in report.short(
        usual.fold(), locked=False, now=usual.at, since=moment
    )
    assert Page(written(usual, since=moment)).open == []


def test_a_part_with_the_baseline_in_it_counts_from_the_baseline(usual):
    second = usual.events[1].at + 1
    moment = report.after(usual.events, second, "then")
    facts = report.facts(usual.fold(), locked=False, now=usual.at, since=moment)
    assert facts.since.whole
    assert facts.start.experiment == 1
    assert facts.totals.experiments == 60
    assert report.after(usual.events, usual.events[0].at - 1, "before") is None


UTC = dt.UTC
NOON = dt.datetime(2026, 3, 8, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("words", "at"),
    [
        ("yesterday", "2026-03-07T00:00"), ("today", "2026-03-08T00:00"), ("8h", "2026-03-08T04:00"),
        ("90m", "2026-03-08T10:30"), ("2d", "2026-03-06T12:00"), ("07:00", "2026-03-08T07:00"),
        ("13:00", "2026-03-07T13:00"), ("2026-03-05", "2026-03-05T00:00"),
        ("2026-03-05 06:30", "2026-03-05T06:30"), ("2026-03-08T13:30+02:00", "2026-03-08T11:30"),
    ],
)  # fmt: skip
def test_a_moment_is_read_as_a_person_says_it(words, at):
    made = Night()
    made.at = dt.datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    first = type(made.events[0])(
        **{f: getattr(made.events[0], f) for f in made.events[0].__struct_fields__ if f != "at"},
        at=made.at,
    )
    found = report.since([first], words, now=NOON.timestamp(), zone=UTC)
    assert found.at == dt.datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize("words", ["soon", "25:00", "tomorrow", "2027-01-01", "-3h", "999", ""])
def test_what_is_no_moment_names_what_is(words, usual):
    with pytest.raises(UsageError) as caught:
        report.since(usual.events, words, now=usual.at)
    assert caught.value.hint.startswith("nightlab")


# --- next steps -------------------------------------------------------------------------------


def test_what_waits_on_top_of_the_backlog_is_named():
    made = of(Night(), Idea("a", -0.5))
    made.record(IdeaAdded(idea=Waiting(id=1, text="a later one", priority=1)))
    made.record(IdeaAdded(idea=Waiting(id=2, text="rotary in half", priority=5, source="person")))
    step = next(s for s in facts_of(made).steps if s.kind == "backlog")
    assert step.do.endswith("rotary in half")
    assert step.why.startswith("2 ideas wait there, this one by person")


def facts_of(made):
    return report.facts(made.fold(), locked=False, now=made.at)


def moved(name, effect, **other):
    return Idea(f"{name} up", effect, "tuning", (Change(name=name, old=1, new=2),), **other)


def test_constants_settled_before_the_largest_keep_are_to_be_moved_again():
    made = of(Night(), moved("LR", -0.5), moved("WD", -0.5), Idea("SwiGLU", 0.5), moved("WD", -0.5))
    step = next(s for s in facts_of(made).steps if s.kind == "interaction")
    assert "experiment 4: LR" in step.do
    assert "WD" not in step.do


def test_near_misses_that_change_different_things_are_to_be_tried_together(usual):
    facts = facts_of(usual)
    hopeful = [m for m in facts.near_misses if (m.effect or 0) > 0]
    steps = [s for s in facts.steps if s.kind == "together"]
    assert len(steps) <= 1
    for step in steps:
        first, second = map(int, re.findall(r"\d+", step.do)[:2])
        assert {first, second} <= {m.experiment for m in hopeful}
        names = [
            {c.name for c in usual.history.experiments[n].claim.changes} for n in (first, second)
        ]
        assert not names[0] & names[1]


def test_a_category_with_hope_and_little_of_the_night_is_named():
    ideas = [Idea(f"t{n}", -0.5, "tuning") for n in range(12)]
    ideas += [Idea(f"r{n}", -0.5, "regularisation") for n in range(6)]
    made = of(Night(), *ideas, Idea("SwiGLU", 0.5, "architecture"))
    steps = [s for s in facts_of(made).steps if s.kind == "neglected"]
    assert [s.do for s in steps] == ["Try more in the category architecture"]
    assert steps[0].why.startswith("it had 1 of 19 experiments: 1 of them kept")
