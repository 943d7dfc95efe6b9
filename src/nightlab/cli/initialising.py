"""Writing nightlab.toml: what was recognised, what was said, what had to be asked."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nightlab import config, project, scope
from nightlab.cli import base, remarks
from nightlab.cli.template import Chosen, config_text, program_text
from nightlab.errors import ConfigError, NightlabError, UsageError
from nightlab.model import Better
from nightlab.process import clean
from nightlab.project import Found, evaluators
from nightlab.researchers import RESEARCHERS

_CURE = 'int(os.environ.get("NIGHTLAB_SEED", 0))'


@dataclass(frozen=True)
class Wanted:
    """What the person said with flags; None or empty where they said nothing."""

    command: str | None = None
    metric: str | None = None
    better: Better | None = None
    edit: tuple[str, ...] = ()
    budget: str | None = None
    researcher: str | None = None
    evaluate: str | None = None


@dataclass(frozen=True)
class Done:
    """What ``init`` did, for a person or a program."""

    root: Path
    written: tuple[Path, ...]
    chosen: Chosen
    found: Found
    more: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        chosen, found = self.chosen, self.found
        shape = "a project shaped like karpathy/autoresearch" if found.karpathy else "a project"
        lines = [
            f"{shape} in {self.root}",
            f"command    {chosen.command}",
            f"objective  {chosen.metric}, {chosen.better.value} is better",
            f"may change {', '.join(chosen.edit)}; everything else is protected",
            f"budget     {chosen.budget} a run, killed at twice that",
        ]
        if chosen.researcher in remarks.TURNS:
            lines.append(f"constants  {_listed(self.constants)}")
        if chosen.evaluate:
            lines.append(f"sealed     {chosen.evaluate} measures, in a box of its own")
        if chosen.data:
            lines.append(f"data       {', '.join(chosen.data)} (not in git: linked into each run)")
        if chosen.outside:
            lines.append(f"reads      {', '.join(chosen.outside)} (shown in the box, read-only)")
        lines += [f"note       {text}" for text in (*notes(found, chosen), *self.more)]
        lines += [f"wrote      {path.name}" for path in self.written]
        missing = [p for p in chosen.edit if not found.committed and (self.root / p).exists()]
        if missing:
            lines.append(f"next       git add {' '.join(missing)} && git commit -m 'start'")
            lines.append("then       nightlab run")
        else:
            lines.append("next       nightlab run      (nightlab doctor checks everything first)")
        return lines

    def as_dict(self) -> dict[str, Any]:
        chosen = self.chosen
        return {
            "root": str(self.root),
            "written": [str(path) for path in self.written],
            "karpathy": self.found.karpathy,
            "command": chosen.command,
            "metric": chosen.metric,
            "better": chosen.better.value,
            "edit": list(chosen.edit),
            "budget": chosen.budget,
            "data": list(chosen.data),
            "read": list(chosen.outside),
            "researcher": chosen.researcher,
            "constants": list(self.constants),
            "evaluate": chosen.evaluate or None,
            "recommended": {"evaluate": chosen.recommended} if chosen.recommended else {},
            "notes": [*notes(self.found, chosen), *self.more],
            "next": "nightlab run",
        }


def notes(found: Found, chosen: Chosen) -> list[str]:
    """What a person should know, a sentence each."""
    told = []
    # Where the script takes its seed already, a fixed one in another file makes or splits data.
    seeds = [s for s in found.seeds if not found.reads_seed or scope.matches(s.file, found.edit)]
    for seed in seeds[:1]:
        more = f" (and {len(seeds) - 1} more)" if len(seeds) > 1 else ""
        told.append(
            f"{seed.file}:{seed.line} fixes its own seed, {seed.call}{more}: nightlab's seeds do "
            f"not reach it, so its runs look less noisy than they are; seed it with {_CURE} "
            "(not where it makes or splits the data)"
        )
    if not found.reads_budget:
        told.append(
            "the script does not read TIME_BUDGET: a run ends when it ends, at the latest "
            f"killed at twice {chosen.budget}; a change that only trains longer may be kept: mark "
            "what sets the length, like  STEPS = 1500  # nightlab: fixed"
        )
    if not chosen.evaluate and chosen.metric not in found.metrics:
        told.append(
            f"{chosen.metric} was not seen in the source; it must be printed as a line "
            f"`{chosen.metric}: value`"
        )
    if chosen.why_sealed:
        told.append(chosen.why_sealed)
    return told


def initialise(root: Path, wanted: Wanted, *, force: bool, ask: bool) -> Done:
    """Recognise, ask where needed and allowed, write. Raises UsageError, ConfigError, GitError."""
    path = root / config.CONFIG_NAME
    if path.exists() and not force:
        raise UsageError(
            f"{path} exists already",
            "init does not overwrite what you may have changed",
            "nightlab run, or to replace it: nightlab init --force",
        )
    if wanted.researcher is not None and wanted.researcher not in RESEARCHERS:
        raise ConfigError(
            f"no researcher is called {wanted.researcher!r}",
            f"nightlab knows {', '.join(RESEARCHERS)}",
            "nightlab init --researcher optuna",
        )
    if wanted.metric is not None and not re.fullmatch(project.NAME, wanted.metric, re.ASCII):
        raise UsageError(
            f"--metric {wanted.metric!r} cannot be a metric's name",
            "it is the name before the colon in a line `name: value` that the script prints",
            "nightlab init --metric val_loss",
        )
    found = _recognise(root, wanted)
    if wanted.command is None and found.command is None:
        wanted = replace(wanted, command=_need_command(root, found, ask=ask))
        found = _recognise(root, wanted)
    wrapped = not wanted.edit and found.edit and found.edit[0].endswith(".sh")
    if ask and (wrapped or not found.edit):
        names = answer("Which files may change? (separated by spaces)").split()
        wanted = replace(wanted, edit=tuple(names))
        found = _recognise(root, wanted)
    chosen = _choose(root, wanted, found, ask=ask)
    text = config_text(chosen, guard="peak_vram_mb" in found.metrics)
    config.parse(tomllib.loads(text))  # what is written can be read
    path.write_text(text, encoding="utf-8")
    written = [path]
    more = remarks.of(root, found, chosen.command, chosen.edit, said=bool(wanted.edit))
    program = root / "program.md"
    if not found.has_program:
        program.write_text(program_text(root.name, chosen), encoding="utf-8", errors="replace")
        written.append(program)
    elif (
        force and not found.karpathy and chosen.metric not in program.read_text("utf-8", "replace")
    ):
        more.append(f"program.md is yours and was left; it does not speak of {chosen.metric}")
    turned: tuple[str, ...] = ()
    try:
        turned = remarks.constants(root, remarks.in_scope(found, chosen.edit))
    except NightlabError as error:
        more.append(f"{error.what}: {error.why}; {error.hint}")
    return Done(root, tuple(written), chosen, found, tuple(more), turned)


def _listed(names: tuple[str, ...]) -> str:
    """The constants that will be turned, for a person."""
    if not names:
        return f"none was found that the embedded researcher could turn: {remarks.NO_CONSTANT}"
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"{shown} (what the embedded researcher turns)"


def _recognise(root: Path, wanted: Wanted) -> Found:
    return project.recognise(
        root, command=wanted.command, edit=wanted.edit, metric=wanted.metric or ""
    )


def _choose(root: Path, wanted: Wanted, found: Found, *, ask: bool) -> Chosen:
    command = wanted.command or found.command or ""
    if not found.edit:
        script = found.scripts[0] if found.scripts else "train.py"
        raise UsageError(
            "which file may change is not clear",
            f"no script of this project was found in the command {command!r}",
            f"nightlab init --command {shlex.quote(command)} --edit {script}",
        )
    for name in wanted.edit:
        if not any(c in name for c in "*?") and not (root / name).exists():
            raise UsageError(f"{name} is not there", "--edit names a file that may change", "ls")
    measures = project.named_script(root, wanted.evaluate) if wanted.evaluate else None
    if measures is not None and scope.matches(measures, found.edit):
        raise UsageError(
            f"{measures} may change, so it cannot measure",
            "what evaluates must be protected from what is evaluated",
            "nightlab init --evaluate 'python evaluate.py'",
        )
    evaluator = _evaluator(root, command, found)
    measured = project.measured_by(root, wanted.evaluate) if wanted.evaluate else None
    metric = wanted.metric or measured or found.metric
    if metric is None:
        metric = _need_metric(root, found, _measuring(root, evaluator), ask=ask)
    better = wanted.better or project.direction(metric) or _need_direction(metric, ask=ask)
    return Chosen(
        command=command,
        metric=metric,
        better=better,
        edit=found.edit,
        budget=wanted.budget or found.budget,
        researcher=wanted.researcher or "optuna",
        data=found.data,
        outside=found.outside,
        evaluate=wanted.evaluate or _sealed_by(evaluator, ask=ask),
        recommended=evaluator.command or "python evaluate.py" if evaluator else "",
        why_sealed="" if wanted.evaluate or evaluator is None else sealing(evaluator),
    )


def _evaluator(root: Path, command: str, found: Found) -> evaluators.Evaluator | None:
    prefix = re.match(r"(?:uv run\s+|(?:[^\s;|&]*/)?python[\d.]*\s+)+", command)
    python = prefix[0].strip() if prefix else "python"
    return evaluators.find(root, found.tracked, edit=found.edit, python=python)


def sealing(evaluator: evaluators.Evaluator) -> str:
    """Why a study should be sealed, and what is to be done for it, in a sentence."""
    where = f"{evaluator.file}:{evaluator.line} loads what training left ({evaluator.loads})"
    gain = "a sealed study, whose script cannot print its own number, is recommended"
    if evaluator.command is None:
        return (
            f"{where}: {gain}; write evaluate.py, which calls it on a file in $NIGHTLAB_ARTIFACT "
            "and prints the metric, and name it in [objective] evaluate"
        )
    line = f'evaluate = "{evaluator.command}" in [objective]'
    if evaluator.wired:
        return f"{where}: {gain}: {line}"
    return (
        f"{where}: {gain}: {line}, with training saving to $NIGHTLAB_ARTIFACT and it loading there"
    )


def _sealed_by(evaluator: evaluators.Evaluator | None, *, ask: bool) -> str:
    """The evaluator that the person agrees to; "" without asking where it would not run yet."""
    if evaluator is None or evaluator.command is None or not (evaluator.wired and ask):
        return ""
    question = f"{evaluator.file} can measure in a box of its own. Seal the study with it?"
    return evaluator.command if answer(question, ("yes", "no")) == "yes" else ""


def _need_command(root: Path, found: Found, *, ask: bool) -> str:
    lone = [path.name for path in root.glob("*.py")]
    lone = lone or [name for name in found.tracked if name.endswith(".py")]
    usual = f"python {shlex.quote(lone[0])}" if len(lone) == 1 else ""
    if ask:
        shown = f" (for example: python {found.scripts[0]})" if found.scripts else ""
        return answer(f"Which command trains and prints the metric?{shown}", usual=usual)
    why = (
        f"several scripts could be meant: {', '.join(found.scripts[:6])}"
        if found.scripts
        else f"no script in {root} was recognised"
    )
    command = usual or f"python {found.scripts[0] if found.scripts else 'train.py'}"
    raise UsageError(
        "which command to run is not clear", why, f"nightlab init --command {shlex.quote(command)}"
    )


def _measuring(root: Path, evaluator: evaluators.Evaluator | None) -> str:
    """The flag that seals the study, where the evaluator alone prints a metric; else ""."""
    command = evaluator.command if evaluator else None
    if command is None or project.measured_by(root, command) is None:
        return ""
    return f"--evaluate {shlex.quote(command)}"


def _need_metric(root: Path, found: Found, flag: str, *, ask: bool) -> str:
    seen = ", ".join(found.metrics[:8])
    none = f"no line `name: value` was found in the source{_nearly(root, found)}"
    if ask:
        listed = f" It prints: {seen}." if seen else f" ({none})"
        return answer(f"Which metric counts?{listed}")
    name = found.metrics[0] if found.metrics else "val_loss"
    flag = flag if flag and not found.metrics else f"--metric {name}"
    print_it = (
        "" if seen or flag != f"--metric {name}" else f", with a line `{name}: 0.123` printed"
    )
    raise UsageError(
        "which metric counts is not clear",
        f"the script prints {seen}" if seen else none,
        f"nightlab init {flag}{print_it}",
    )


def _nearly(root: Path, found: Found) -> str:
    """What is printed almost as a metric would be (`a b: 1`, `a = 1`), as a remark; else ""."""
    for name in found.edit:
        path = root / name
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if match := re.search(r"[\"']([A-Za-z_]\w*(?: \w+)+):\s*(?:\{|%|[\"'],)", text):
            return f" (`{match[1]}: …` is none: a name has no spaces)"
        if match := re.search(r"[\"']([A-Za-z_]\w*) ?= ?(?:\{|%|[\"'],)", text):
            return f" (`{match[1]} = …` is none: a colon, `{match[1]}: …`, makes it one)"
    return ""


def _need_direction(metric: str, *, ask: bool) -> Better:
    if ask:
        return Better(answer(f"Is a lower or a higher {metric} better?", ("lower", "higher")))
    raise UsageError(
        f"whether a lower or a higher {metric} is better is not clear",
        "its name does not tell, and nightlab never guesses a direction",
        f"nightlab init --metric {metric} --better higher",
    )


def answer(question: str, choices: Sequence[str] = (), *, usual: str = "") -> str:
    """Ask until there is an answer, one of ``choices`` where there are any.

    Nothing but Enter answers ``usual``, where there is one.

    Raises KeyboardInterrupt at the end of the input.
    """
    options = f" [{'/'.join(choices) or usual}]" if choices or usual else ""
    while True:
        try:
            given = input(f"{clean(question)}{clean(options)} ").strip() or usual
        except EOFError as error:
            base.say("")
            raise KeyboardInterrupt from error
        if given and (not choices or given in choices):
            return given
