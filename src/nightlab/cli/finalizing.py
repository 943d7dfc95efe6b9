"""``nightlab finalize``: what a night found, verified, pruned, and put on a branch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nightlab.cli import base
from nightlab.cli.base import AsJson, Directory
from nightlab.errors import EXIT_DONE, EXIT_NO_KEEP, UsageError

if TYPE_CHECKING:
    from nightlab.final import Finalization, Turn
    from nightlab.history import History
    from nightlab.model import Run

_EXAMPLES = """[bold]Examples[/bold]
  nightlab finalize                      baseline against final, ablation, a clean branch
  nightlab finalize nov21 --pairs 8      eight fresh seeds for each arm
  nightlab finalize --device-hours 1.5   no more than that, whatever is left undone
  nightlab finalize --again              from the start, on seeds that nobody has seen
  nightlab finalize --json | jq .result.word

Interrupted, the same command goes on where it was. Once it is over, it prints the result.

Exit codes: 0 a win, 1 an error, 2 usage, 3 a bug, 4 no win (or nothing was kept), \
130 interrupted."""


def register(app: typer.Typer) -> None:
    """Add these verbs to the application."""
    app.command(rich_help_panel=base.MORNING, epilog=_EXAMPLES)(finalize)


def finalize(
    tag: Annotated[
        str | None,
        typer.Argument(
            metavar="[TAG]",
            help="Which study. Default: the one worked on last.",
            show_default=False,
        ),
    ] = None,
    directory: Directory = None,
    pairs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=3,
            help="Fresh seeds for baseline and final. Default: as many as show the gain.",
            show_default=False,
        ),
    ] = None,
    device_hours: Annotated[
        float | None,
        typer.Option(
            metavar="HOURS",
            help="Device time at most. Default: 12 % of the study's, enough for the pairs.",
            show_default=False,
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", metavar="", help="Anew, though one was made before.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Verify what was kept on fresh seeds, drop what adds nothing, make a clean branch."""
    from nightlab import config, lab  # noqa: PLC0415  the engine, loaded on use
    from nightlab.finalize import Finalizer, Wish  # noqa: PLC0415

    if device_hours is not None and device_hours <= 0:
        raise UsageError(
            f"--device-hours {device_hours:g} is no time",
            "it bounds the runs of the finalization together",
            "nightlab finalize --device-hours 0.5",
        )
    place = base.place(directory, tag)
    opened = lab.open_study(place.root, tag=place.tag, settings=config.load(place.root))
    engine = opened.engine
    teller = _Teller(as_json=as_json)
    try:
        teller.tell(*opened.told)
        seconds = None if device_hours is None else device_hours * 3600
        wish = Wish(pairs=pairs, device_s=seconds, again=again)
        f = Finalizer(engine, wish, teller.watch).run()
        teller.tell(*_not_needed(f, teller.left))
        _show(place, engine.history, teller, as_json=as_json)
    except KeyboardInterrupt:
        teller.tell("the runs so far are kept: nightlab finalize goes on where it was")
        raise
    finally:
        engine.journal.close()
    result = f.result
    return EXIT_DONE if result is not None and result.word == "win" else EXIT_NO_KEEP


def _show(place: base.Place, history: History, teller: _Teller, *, as_json: bool) -> None:
    """Write final.md and say what was found."""
    from nightlab import report  # noqa: PLC0415  loaded on use

    folder = place.paths.final(place.tag)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "final.md"
    text = report.final_page(history)
    path.write_text(text, encoding="utf-8", errors="replace")
    if as_json:
        found = report.final_facts(history)
        base.emit({**found, "page": str(path), "patches": str(folder / "patches")})
        return
    if not teller.began:
        base.say("this finalization is over; --again makes another, on fresh seeds")
    base.say("", *report.final_lines(history), f"page:    {path}")


class _Teller:
    """One line for the plan, one for each run: which of how many, what it gave, the time left."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.began = False
        self.left = 0  # runs that were still expected after the last one

    def tell(self, *lines: str) -> None:
        base.say(*lines, stderr=self.as_json)

    def watch(self, f: Finalization, turn: Turn | None, run: Run | None) -> None:
        self.began = True
        if turn is None:
            self.tell(*_opening(f))
        elif run is not None:
            self._erase()
            text, self.left = _line(f, turn, run)
            self.tell(text)
        elif base.is_terminal() and not self.as_json:
            sys.stdout.write(f"… {turn.stage}: {turn.arm}, seed {turn.seed}\r")
            sys.stdout.flush()

    def _erase(self) -> None:
        if base.is_terminal() and not self.as_json:
            sys.stdout.write("\x1b[2K")


def _opening(f: Finalization) -> list[str]:
    from nightlab.cli import words  # noqa: PLC0415  loaded on use
    from nightlab.final import expected  # noqa: PLC0415

    plan = f.plan
    runs, left_s = expected(f)
    kept = len(plan.kept)
    changes = f"{kept} kept change{'' if kept == 1 else 's'}"
    lines = [
        f"study    baseline {plan.baseline[:7]} against {plan.final[:7]}, {changes}",
        f"verify   {plan.pairs} pairs on fresh seeds",
    ]
    if plan.ablated:
        many = len(plan.ablated)
        lines.append(f"ablate   {many} of {kept} changes on {plan.blocks} seeds; then verify again")
    else:
        lines.append("ablate   nothing: " + _why_not(f))
    if plan.full:
        what = " and ".join(
            [
                *(["full-length training"] if plan.last.is_long else []),
                *(["the test split"] if plan.last.test else []),
            ]
        )
        lines.append(f"then     {what}, {plan.full} seed{'' if plan.full == 1 else 's'} each")
    if plan.last.test and plan.last.readings:
        lines.append("note     the test split was read before: this reading will not be fresh")
    lines.append(
        f"bound    {words.seconds(plan.device_s)} of device time; at most {runs} runs to come, "
        f"about {words.seconds(left_s)}"
    )
    return [*lines, ""]


def _why_not(f: Finalization) -> str:
    if not any(k.without for k in f.plan.kept):
        return "no change can be taken out by itself"
    return "no device time for it (--device-hours gives more)"


def _line(f: Finalization, turn: Turn, run: Run) -> tuple[str, int]:
    """A run in a line, and how many are expected after it."""
    from nightlab.cli import words  # noqa: PLC0415  loaded on use
    from nightlab.final import NOT_TESTED, TEST, expected  # noqa: PLC0415

    metric = f.plan.objective.metric
    runs, left_s = expected(f)
    said = run.outcome.value + (f": {run.detail}" if run.detail else "")
    if metric in run.metrics:
        said = f"{metric} {words.number(run.metrics[metric])}"
    if TEST + metric in run.metrics:
        said += f", test {words.number(run.metrics[TEST + metric])}"
    elif any(note.startswith(NOT_TESTED) for note in run.notes):
        said += ", test failed"
    done = len(f.measured)
    text = (
        f"{done:>3}/{done + runs:<4} {turn.stage:<8} {turn.arm:<12} seed {turn.seed}  {said}  "
        f"in {words.seconds(run.duration_s)}, about {words.seconds(left_s)} left"
    )
    return text, runs


def _not_needed(f: Finalization, left: int) -> list[str]:
    """Why it is over before the last run that could have come."""
    if not left or f.result is None or (f.cleaned is not None and f.cleaned.commit):
        return []
    return [f"the other {left} were not needed: nothing was dropped, so nothing is verified again"]
