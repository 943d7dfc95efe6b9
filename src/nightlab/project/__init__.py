"""What a folder is about: its script, command, metric, direction, budget, data and seeds.

Everything here is read from the project's own files as text and syntax; nothing of it is run
or imported. What is not certain is left None for a person to say: nothing is guessed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nightlab import git
from nightlab.model import Better
from nightlab.project import reach
from nightlab.project.printing import NAME, printed
from nightlab.project.scripts import command_of, edited_by, named_script, read, scripts_in

__all__ = [
    "NAME",
    "Found",
    "Seed",
    "direction",
    "measured_by",
    "named_script",
    "printed",
    "recognise",
]

_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+[\w.]+|import[ \t]+[\w., \t]+)", re.MULTILINE)
_LOWER = frozenset(
    re.findall(
        r"\w+",
        "loss bpb bpc perplexity ppl error err errors rmse mse mae mape nll wer cer fid rank "
        "regret divergence logloss brier",
    )
)
_HIGHER = frozenset(
    re.findall(
        r"\w+",
        "acc accuracy f1 auc auroc auprc dice iou miou bleu rouge reward recall precision ndcg mrr "
        "psnr ssim r2",
    )
)
# What a run makes by itself (linked, it could not be written to), and what nightlab writes.
_NOT_DATA = {"", ".", "..", ".git", ".nightlab", "nightlab.toml", "program.md", "results.tsv"} | {
    *("knowledge", "bin", "build", "_build", "dist", "obj", "target", "__pycache__"),
    *("wandb", "mlruns"),
}
_SEEDING = re.compile(
    r"(?:torch(?:\.cuda)?\.manual_seed(?:_all)?|np\.random\.seed|numpy\.random\.seed|random\.seed|"
    r"np\.random\.default_rng|numpy\.random\.default_rng|tf\.random\.set_seed|"
    r"jax\.random\.PRNGKey|jax\.random\.key|(?:\w+\.)?seed_everything|(?:\w+\.)?set_seed)"
)


@dataclass(frozen=True)
class Seed:
    """A place where the script fixes its own randomness."""

    file: str
    line: int
    call: str


@dataclass(frozen=True)
class Found:
    """What was recognised; None or empty where it was not certain.

    ``karpathy``: train.py, prepare.py and program.md lie side by side. ``metrics`` are the
    names that the scripts print, ``scripts`` what could be run. ``committed``: every file in
    ``edit`` is in the last commit, ``tracked`` all that is. ``reads_budget``: TIME_BUDGET is
    mentioned, ``reads_seed``: NIGHTLAB_SEED is. ``seed_flag`` is the option by which a script
    takes its seed, ``beside`` what is read by a path that leaves the folder, like ``../data``.
    """

    karpathy: bool
    scripts: tuple[str, ...]
    command: str | None
    edit: tuple[str, ...]
    metrics: tuple[str, ...]
    metric: str | None
    better: Better | None
    budget: str
    data: tuple[str, ...]
    outside: tuple[str, ...]
    seeds: tuple[Seed, ...]
    committed: bool
    reads_budget: bool
    has_program: bool
    tracked: frozenset[str] = frozenset()
    reads_seed: bool = False
    seed_flag: str = ""
    beside: tuple[str, ...] = ()


def recognise(
    folder: Path, *, command: str | None = None, edit: tuple[str, ...] = (), metric: str = ""
) -> Found:
    """Look at the project in ``folder``; what the person already said is taken as given.

    Raises GitError outside a repository and in one without a commit.
    """
    repo = git.discover(folder)
    prefix = f"{repo.prefix}/" if repo.prefix else ""
    tracked = {p[len(prefix) :] for p in repo.files(repo.head()) if p.startswith(prefix)}
    karpathy = all((folder / n).is_file() for n in ("train.py", "prepare.py", "program.md"))
    scripts = ("train.py",) if karpathy else tuple(scripts_in(folder, tracked))
    script = named_script(folder, command) if command else None
    if command is None and len(scripts) == 1:
        script = scripts[0]
    scope = edit or ((edited_by(folder, script),) if script else ())
    sources = _sources(folder, [script, *scope] if script else list(scope))
    metrics = tuple(dict.fromkeys(n for text in sources.values() for n in printed(text)))
    if not metrics:
        metrics = tuple(dict.fromkeys(_named_in_program(folder)))
    chosen = metric or _objective(metrics)
    command = command or (command_of(folder, script, karpathy=karpathy) if script else None)
    data = _data(folder, tracked, sources)
    if command is not None and re.match(r"(?:\./)?\.?venv/", command):
        data = (command.removeprefix("./").split("/")[0], *data)
    return Found(
        karpathy=karpathy,
        scripts=scripts,
        command=command,
        edit=scope,
        metrics=metrics,
        metric=chosen,
        better=direction(chosen) if chosen else None,
        budget=_budget(sources),
        data=data,
        outside=reach.outside(sources.values(), Path.home()),
        seeds=tuple(_seeds(sources)),
        committed=all(path in tracked for path in scope),
        reads_budget=any("TIME_BUDGET" in text for text in sources.values()),
        has_program=(folder / "program.md").exists(),
        tracked=frozenset(tracked),
        reads_seed=any("NIGHTLAB_SEED" in text for text in sources.values()),
        seed_flag=_seed_flag(sources),
        beside=reach.beside(sources.values(), folder),
    )


def measured_by(folder: Path, command: str) -> str | None:
    """The objective that the script in this command prints, where there is one such name."""
    script = named_script(folder, command)
    sources = _sources(folder, [script] if script else [])
    return _objective(tuple(dict.fromkeys(n for t in sources.values() for n in printed(t))))


def direction(metric: str) -> Better | None:
    """Which way a metric improves, where its name leaves no doubt."""
    parts = set(re.split(r"[_./@-]|\d+(?=$)", metric.lower())) | {metric.lower()}
    lower, higher = bool(parts & _LOWER), bool(parts & _HIGHER)
    if lower == higher:
        return None
    return Better.LOWER if lower else Better.HIGHER


def _objective(metrics: tuple[str, ...]) -> str | None:
    """The one printed name that can only be the objective; None when there are several."""
    telling = [name for name in metrics if direction(name) is not None]
    held_out = [n for n in telling if re.match(r"(?:val|valid|validation|dev|eval)[_./-]", n)]
    for names in (held_out, telling, list(metrics)):
        if names:
            return names[0] if len(names) == 1 else None
    return None


# -- what the source says


def _sources(folder: Path, names: list[str]) -> dict[str, str]:
    """The texts of these files and of the project's own modules that they import."""
    texts: dict[str, str] = {}
    waiting = list(dict.fromkeys(names))
    while waiting:
        name = waiting.pop(0)
        if name in texts or not (text := read(folder / name)):
            continue
        texts[name] = text
        parent = Path(name).parent
        for imported in _IMPORT.findall(text):
            for listed in filter(str.strip, imported.split(None, 1)[1].split(",")):
                relative = Path(*listed.split()[0].split(".")).with_suffix(".py")
                here = (parent / relative, relative)
                waiting += [str(p) for p in here if (folder / p).is_file()]
    return texts


def _named_in_program(folder: Path) -> Iterator[str]:
    """Metrics in backticks in program.md, for scripts that print names made at run time."""
    for name in re.findall(rf"`({NAME})`", read(folder / "program.md")):
        if direction(name) is not None and not name.startswith("train"):
            yield name


def _budget(sources: dict[str, str]) -> str:
    """The script's own TIME_BUDGET in seconds where it is written down, else five minutes."""
    for text in sources.values():
        found = re.search(
            r"^TIME_BUDGET\b[^=\n]*=[^#\n]*?(\d+(?:\.\d+)?)[\"')\s]*(?:#.*)?$", text, re.MULTILINE
        )
        if found and float(found[1]) > 0:
            value = float(found[1])
            return f"{value / 60:g}m" if value >= 60 and value % 60 == 0 else f"{value:g}s"
    return "5m"


def _seeds(sources: dict[str, str]) -> Iterator[Seed]:
    """Calls that seed a generator with a number written in the source."""
    for file, text in sources.items():
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            continue
        constants = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign) and _is_number(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or len(node.args) != 1:
                continue
            argument = node.args[0]
            fixed = _is_number(argument) or (
                isinstance(argument, ast.Name) and argument.id in constants
            )
            if fixed and _SEEDING.fullmatch(ast.unparse(node.func)):
                yield Seed(file, node.lineno, ast.unparse(node))


def _seed_flag(sources: dict[str, str]) -> str:
    """``--seed`` or the like, where a script declares such an option; else ""."""
    for text in sources.values():
        if found := re.search(r"add_argument\(\s*[\"'](--(?:random[-_])?seed)[\"']", text):
            return found[1]
    return ""


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


def _data(folder: Path, tracked: set[str], sources: dict[str, str]) -> tuple[str, ...]:
    """Folders and files beside the script that it names, and that git does not hold.

    A run gets a copy of the commit only: what is not in it must be declared.
    """
    tops = {path.split("/")[0] for path in tracked}
    found: dict[str, None] = {}
    for text in sources.values():
        for value in _strings(text):
            top = value.removeprefix("./").split("/")[0]
            usable = top not in _NOT_DATA and "\0" not in top
            if usable and top not in tops and _exists(folder / top):
                found[top] = None
    return tuple(found)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _strings(text: str) -> Iterator[str]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        yield from re.findall(r"[\w./-]+/[\w./-]*", text)
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 256:
            yield node.value
