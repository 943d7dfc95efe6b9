"""The replayed agent: a program that `[researcher] use = "command"` runs, once for each question.

``python agent.py NIGHT.json``: the night's steps, in order. It works as any agent does: it reads
its brief, edits the files of its desk, prints a message, and remembers in its home how far it
is. It proposes the first step whose edits fit the files that it finds; a step that does not
fit goes to the end of its list, once. When nothing is left it says so in its memory and waits
for the end of the night. Standard library only, for it runs in a box.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MEMORY = "night.json"  # in its home
_WAIT_S = 3600.0

BLOCK = """\
{said}

```nightlab
description: {description}
hypothesis: {hypothesis}
category: {category}
expects: {expects}
```
"""
WORDS = {
    "refusal": "I'm sorry, but I can't help with changing this program: {hypothesis}",
    "question": "{hypothesis} Should I go on with that?",
    "prose": "{description}. {hypothesis} I have written down what I would do, in general words.",
}


def fits(edits: Sequence[Sequence[str]], folder: Path) -> bool:
    """Whether each edit's old text stands exactly once in its file, one edit after the other."""
    return _edited(edits, folder) is not None


def apply(edits: Sequence[Sequence[str]], folder: Path) -> list[str]:
    """Write the edits; the names of files that could not be written."""
    refused = []
    for name, text in (_edited(edits, folder) or {}).items():
        try:
            (folder / name).write_text(text, encoding="utf-8")
        except OSError:
            refused.append(name)
    return refused


def _edited(edits: Sequence[Sequence[str]], folder: Path) -> dict[str, str] | None:
    texts: dict[str, str] = {}
    for name, old, new in edits:
        path = folder / name
        if name not in texts:
            texts[name] = path.read_text(encoding="utf-8") if path.is_file() else ""
        if old == "" and texts[name] == "":
            texts[name] = new  # a file of its own
        elif old == "" or texts[name].count(old) != 1:
            return None
        else:
            texts[name] = texts[name].replace(old, new)
    return texts


def main() -> None:
    steps: dict[str, dict[str, Any]] = json.loads(Path(sys.argv[1]).read_text())
    context = json.loads(Path(os.environ["NIGHTLAB_CONTEXT"]).read_text())
    if "# " not in Path(os.environ["NIGHTLAB_BRIEF"]).read_text():
        raise SystemExit("there is no brief")
    memory = Path.home() / MEMORY
    mind: dict[str, Any] = {"waiting": list(steps), "again": [], "given": [], "dropped": []}
    mind |= {"fixes": [], "done": False}
    if memory.exists():
        mind = json.loads(memory.read_text())
    if context["task"] == "fix":
        number = mind["given"][-1]
        mind["fixes"].append(number)
        _save(memory, mind)
        _mend(steps[number])
        return
    _take_back(mind, context)
    number = _next(mind, steps, Path.cwd())
    mind["done"] = number is None
    _save(memory, mind)
    if number is None:
        time.sleep(_WAIT_S)
        return
    step = steps[number]
    words = WORDS.get(step["fails"])
    if words is not None:
        print(words.format(**step))
        return
    refused = apply(step["edits"], Path.cwd())
    said = f"I could not write {', '.join(refused)}." if refused else "Done."
    print(BLOCK.format(said=said, **step))


def _take_back(mind: dict[str, Any], context: dict[str, Any]) -> None:
    """A step that was made for files that changed meanwhile is proposed again."""
    told = context.get("refused") or [""]
    if mind["given"] and "incumbent has changed meanwhile" in told[-1]:
        mind["waiting"].insert(0, mind["given"][-1])


def _next(mind: dict[str, Any], steps: dict[str, Any], folder: Path) -> str | None:
    while mind["waiting"]:
        number = mind["waiting"].pop(0)
        if fits(steps[number]["edits"], folder):
            mind["given"].append(number)
            return str(number)
        if number in mind["again"]:
            mind["dropped"].append(number)
        else:
            mind["again"].append(number)
            mind["waiting"].append(number)
    return None


def _mend(step: dict[str, Any]) -> None:
    """What it does when its crash comes back: the step's own mend, else it gives up."""
    if step["mend"] and fits(step["mend"], Path.cwd()):
        apply(step["mend"], Path.cwd())
        print(BLOCK.format(said="Mended.", **step))
    else:
        print("I do not see how this change could be saved; leave it.")


def _save(memory: Path, mind: dict[str, Any]) -> None:
    draft = memory.with_suffix(".draft")
    draft.write_text(json.dumps(mind))
    draft.replace(memory)


if __name__ == "__main__":
    main()
