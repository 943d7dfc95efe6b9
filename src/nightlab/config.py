"""nightlab.toml and flags -> settings; and every path that nightlab uses on disk."""

from __future__ import annotations

import difflib
import math
import os
import re
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightlab.errors import ConfigError
from nightlab.judge import parse_guard
from nightlab.model import Better, Guard, Objective

CONFIG_NAME = "nightlab.toml"
STATE_NAME = ".nightlab"

# Every key there is, with the type its value must have; docs/configuration.md lists them and
# tests/test_config.py holds one test per key that it changes behaviour.
KEYS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "study": {
        "command": str,
        "edit": list,
        "budget": (str, int, float),
        "kill_factor": (int, float),
        "data": list,
        "protect": list,
        "seed_env": str,
    },
    "objective": {"metric": str, "better": str, "evaluate": str, "hidden": list},
    "guards": {},
    "researcher": {"use": str, "seed": int, "values": dict, "script": str},
    "judge": {"use": str},
    "sandbox": {
        "use": str,
        "image": str,
        "read": list,
        "env": list,
        "memory": (str, int),
        "processes": int,
        "disk": (str, int),
        "log": (str, int),
    },
    "devices": {"slots": int},
}
_REQUIRED = (("study", "command"), ("study", "edit"), ("objective", "metric"))
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_S = 3650 * 86400.0
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Settings:
    """All of nightlab.toml. ``edit`` and ``data`` are relative to the project's folder."""

    command: str
    edit: tuple[str, ...]
    objective: Objective
    budget_s: float = 300.0
    kill_factor: float = 2.0
    data: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()
    evaluate: str = ""
    hidden: tuple[str, ...] = ()
    seed_env: str = "NIGHTLAB_SEED"
    guards: tuple[Guard, ...] = ()
    researcher: Mapping[str, Any] = field(default_factory=dict)
    judge: str = "default"
    sandbox: str = "auto"
    image: str | None = None
    read: tuple[str, ...] = ()
    memory_bytes: int | None = None
    processes: int | None = None
    disk_bytes: int | None = None
    log_bytes: int = 8 * 1024**2
    pass_env: tuple[str, ...] = ()
    slots: int | None = None


@dataclass(frozen=True)
class Paths:
    """Where things lie. ``root`` is the project's folder, which holds nightlab.toml."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / CONFIG_NAME

    @property
    def state(self) -> Path:
        return self.root / STATE_NAME

    @property
    def current(self) -> Path:
        """A file that holds the tag of the study that was worked on last."""
        return self.state / "current"

    def study(self, tag: str) -> Path:
        return self.state / tag

    def journal(self, tag: str) -> Path:
        return self.study(tag) / "journal.jsonl"

    def lock(self, tag: str) -> Path:
        return self.study(tag) / "lock"

    def inbox(self, tag: str) -> Path:
        """Where notes and requests to stop are dropped for a running lab."""
        return self.study(tag) / "inbox"

    def run(self, tag: str, run_id: int) -> Path:
        return self.study(tag) / "runs" / f"{run_id:06d}"

    def log(self, tag: str, run_id: int) -> Path:
        return self.run(tag, run_id) / "log.txt"

    def indexes(self, tag: str) -> Path:
        """Where the private git indexes lie."""
        return self.study(tag) / "index"

    def ledger(self, tag: str) -> Path:
        return self.study(tag) / "results.tsv"

    def public_ledger(self) -> Path:
        """results.tsv where the reference's users look for it: a link to ``ledger``."""
        return self.root / "results.tsv"

    def report(self, tag: str) -> Path:
        return self.study(tag) / "report"

    def tags(self) -> list[str]:
        """Studies that exist here, oldest journal first; those set aside (``tag~1``) are not."""
        found = (p for p in self.state.glob("*/journal.jsonl") if _TAG.fullmatch(p.parent.name))
        return [p.parent.name for p in sorted(found, key=lambda p: p.stat().st_ctime)]

    def make_state(self) -> None:
        """Create the state folder, invisible to the person's git."""
        self.state.mkdir(exist_ok=True)
        ignore = self.state / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")


def find_root(start: Path) -> Path | None:
    """The nearest folder at or above ``start`` that holds nightlab.toml."""
    for folder in (start, *start.parents):
        if (folder / CONFIG_NAME).is_file():
            return folder
    return None


def load(root: Path) -> Settings:
    """Read nightlab.toml. Raises ConfigError, naming the nearest valid key for a typo."""
    path = root / CONFIG_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no {CONFIG_NAME} in {root} or above",
            "nightlab.toml says which command to run and which metric counts",
            "nightlab init",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}", str(error), f"mend {path}") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML", str(error), f"mend {path}") from error
    return parse(table)


def parse(table: Mapping[str, Any]) -> Settings:
    """Turn the parsed TOML into Settings. Raises ConfigError."""
    _check_keys(table)
    study, objective = table["study"], table["objective"]
    sandbox = table.get("sandbox", {})
    guards = tuple(_guard(name, text) for name, text in table.get("guards", {}).items())
    slots = table.get("devices", {}).get("slots")
    if slots is not None and slots < 1:
        raise _bad("[devices] slots", slots, "a whole number from 1")
    processes = sandbox.get("processes")
    if processes is not None and processes < 1:
        raise _bad("[sandbox] processes", processes, "a whole number from 1")
    for name, values in table.get("researcher", {}).get("values", {}).items():
        if not isinstance(values, list) or not values:
            raise _bad(f"[researcher.values] {name}", values, "a list of values, like [0.01, 0.1]")
    return Settings(
        command=_text("[study] command", study["command"]),
        edit=_paths("[study] edit", study["edit"]),
        objective=Objective(_metric(objective["metric"]), _better(objective.get("better"))),
        budget_s=duration_s("[study] budget", study.get("budget", "5m")),
        kill_factor=_at_least_one("[study] kill_factor", study.get("kill_factor", 2.0)),
        data=_paths("[study] data", study.get("data", []), empty=True),
        protect=_paths("[study] protect", study.get("protect", []), empty=True),
        evaluate=objective.get("evaluate", ""),
        hidden=_hidden(objective),
        seed_env=_env_name("[study] seed_env", study.get("seed_env", "NIGHTLAB_SEED")),
        guards=guards,
        researcher=dict(table.get("researcher", {})),
        judge=table.get("judge", {}).get("use", "default"),
        sandbox=sandbox.get("use", "auto"),
        image=sandbox.get("image"),
        read=tuple(_place("[sandbox] read", place) for place in sandbox.get("read", [])),
        memory_bytes=_size(sandbox, "memory"),
        processes=processes,
        disk_bytes=_size(sandbox, "disk"),
        log_bytes=_size(sandbox, "log") or Settings.log_bytes,
        pass_env=tuple(_env_name("[sandbox] env", name) for name in sandbox.get("env", [])),
        slots=slots,
    )


def _check_keys(table: Mapping[str, Any]) -> None:
    for name, section in table.items():
        if name not in KEYS:
            raise _unknown(f"[{name}]", name, list(KEYS))
        if not isinstance(section, dict):
            raise _bad(f"[{name}]", section, "a table of keys")
        if name == "guards":
            continue
        for key, value in section.items():
            if key not in KEYS[name]:
                raise _unknown(f"[{name}] {key}", key, list(KEYS[name]))
            wanted = KEYS[name][key]
            if not isinstance(value, wanted) or isinstance(value, bool):
                kinds = wanted if isinstance(wanted, tuple) else (wanted,)
                raise _bad(f"[{name}] {key}", value, " or ".join(k.__name__ for k in kinds))
    for name, key in _REQUIRED:
        if key not in table.get(name, {}):
            raise ConfigError(
                f"nightlab.toml has no [{name}] {key}",
                f"a study needs {', '.join(f'[{s}] {k}' for s, k in _REQUIRED)}",
                "nightlab init --force  (writes a new one), or add the key",
            )


def _hidden(objective: Mapping[str, Any]) -> tuple[str, ...]:
    names = _paths("[objective] hidden", objective.get("hidden", []), empty=True)
    if names and not objective.get("evaluate"):
        raise ConfigError(
            "[objective] hidden is set, but [objective] evaluate is not",
            "what is hidden from training is only seen by a sealed evaluation",
            'add  evaluate = "python evaluate.py"  under [objective]',
        )
    return names


def _unknown(where: str, key: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return ConfigError(
        f"nightlab.toml has {where}, which means nothing",
        "a key that is not understood would silently not do what you think",
        f"{hint}  Mend nightlab.toml, then: nightlab doctor",
    )


def _bad(where: str, value: object, wanted: str) -> ConfigError:
    return ConfigError(f"{where} = {value!r} in nightlab.toml", f"it must be {wanted}", "mend it")


def _text(where: str, value: str) -> str:
    if not value.strip() or "\0" in value:
        raise _bad(where, value, "a command line")
    return value


def _metric(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w./@-]{0,63}", value, re.ASCII):
        raise _bad("[objective] metric", value, "a name as the script prints it, like val_bpb")
    return value


def _better(value: object) -> Better:
    if value not in ("lower", "higher"):
        raise ConfigError(
            f"[objective] better = {value!r} in nightlab.toml",
            'it must be "lower" or "higher"; nightlab never guesses a direction',
            'add  better = "lower"  or  better = "higher"  under [objective]',
        )
    return Better(str(value))


def _guard(name: str, text: object) -> Guard:
    return parse_guard(name, str(text))


def _paths(where: str, values: list[object], *, empty: bool = False) -> tuple[str, ...]:
    if not values and not empty:
        raise _bad(where, values, 'a list of files, like ["train.py"]')
    for value in values:
        parts = value.split("/") if isinstance(value, str) else []
        if not isinstance(value, str) or not value or value.startswith("/") or ".." in parts:
            raise _bad(where, value, "paths inside the project, relative to its folder")
    return tuple(os.path.normpath(str(v)) for v in values)


def _size(sandbox: Mapping[str, Any], key: str) -> int | None:
    value = sandbox.get(key)
    return None if value is None else size_bytes(f"[sandbox] {key}", value)


def _place(where: str, value: object) -> str:
    """A full path; ~ is the home folder."""
    if not isinstance(value, str) or not value.startswith(("/", "~/")) or "\0" in value:
        raise _bad(where, value, 'full paths, like ["~/.cache/autoresearch", "/data/sets"]')
    return os.path.normpath(Path(value).expanduser())


def _env_name(where: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value, re.ASCII):
        raise _bad(where, value, "the name of an environment variable")
    return value


def _at_least_one(where: str, value: float) -> float:
    if not 1.0 <= value < math.inf:
        raise _bad(where, value, "a number from 1: how many budgets until a run is killed")
    return float(value)


def passed_env(names: tuple[str, ...]) -> dict[str, str]:
    """The variables of nightlab's own environment that ``[sandbox] env`` lets through."""
    return {name: os.environ[name] for name in names if name in os.environ}


def duration_s(where: str, value: str | float) -> float:
    """Seconds of "90s", "5m", "1h30m", "8h" or a bare number. Raises ConfigError."""
    text = str(value).strip().lower()
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text).strip():
        raise _bad(where, value, 'a duration like "5m", "90s", "1h30m"')
    seconds = sum(float(number) * _UNITS_S[unit or "s"] for number, unit in parts)
    if not 0 < seconds < _LONGEST_S:
        raise _bad(where, value, "longer than nothing")
    return seconds


def size_bytes(where: str, value: str | int) -> int:
    """Bytes of "8G", "512M" or a bare number of bytes. Raises ConfigError."""
    found = _SIZE.fullmatch(str(value).strip())
    if not found or float(found[1]) <= 0:
        raise _bad(where, value, 'a size like "8G"')
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


def until_unix(text: str, now: float) -> float:
    """The next time that the clock shows "07:00", as Unix seconds. Raises ConfigError."""
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text.strip())
    if not found:
        raise ConfigError(f"--until {text!r}", "it must be a time of day", "--until 07:00")
    day = time.localtime(now)
    at = time.mktime(
        (day.tm_year, day.tm_mon, day.tm_mday, int(found[1]), int(found[2]), 0, 0, 0, -1)
    )
    if at <= now:
        later = time.localtime(now + 86400)
        at = time.mktime(
            (later.tm_year, later.tm_mon, later.tm_mday, int(found[1]), int(found[2]), 0, 0, 0, -1)
        )
    return at


def default_tag(now: float) -> str:
    """The reference's tag: month and day, ``nov21``."""
    day = time.localtime(now)
    months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    return f"{months[day.tm_mon - 1]}{day.tm_mday}"


def check_tag(tag: str) -> str:
    """The tag, if git and the file system can take it. Raises ConfigError."""
    bad_end = tag.endswith((".lock", "."))
    if not _TAG.fullmatch(tag) or ".." in tag or bad_end or tag == "current":
        raise ConfigError(
            f"--tag {tag!r} cannot name a branch and a folder",
            "letters, digits, '.', '_' and '-' only, at most 64",
            "nightlab run --tag nov21",
        )
    return tag
