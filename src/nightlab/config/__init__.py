"""nightlab.toml and flags -> settings; and every path that nightlab uses on disk."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightlab.config import final, notify, values
from nightlab.config.asking import asking
from nightlab.config.final import Final
from nightlab.config.keys import KEYS, check_keys
from nightlab.config.notify import Notify
from nightlab.config.paths import (
    CONFIG_NAME,
    STATE_NAME,
    Paths,
    check_tag,
    default_tag,
    find_root,
)
from nightlab.config.values import duration_s, size_bytes, until_unix
from nightlab.errors import ConfigError
from nightlab.model import Guard, Objective

__all__ = [
    "CONFIG_NAME",
    "KEYS",
    "STATE_NAME",
    "Final",
    "Notify",
    "Paths",
    "Settings",
    "asking",
    "check_tag",
    "default_tag",
    "duration_s",
    "find_root",
    "load",
    "parse",
    "passed_env",
    "size_bytes",
    "until_unix",
]


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
    checks: Mapping[str, str] = field(default_factory=dict)
    pareto: tuple[Objective, ...] = ()
    researcher: Mapping[str, Any] = field(default_factory=dict)
    judge: str = "default"
    line_margin: float = 0.0
    covariate: str = ""
    early_stop: float = 0.1
    early_audit: float = 0.1
    curve: str = ""
    sandbox: str = "auto"
    image: str | None = None
    read: tuple[str, ...] = ()
    memory_bytes: int | None = None
    processes: int | None = None
    disk_bytes: int | None = None
    cache: bool = False
    log_bytes: int = 8 * 1024**2
    pass_env: tuple[str, ...] = ()
    slots: int | None = None
    push: str = ""
    final: Final = field(default_factory=Final)
    notify: Notify = field(default_factory=Notify)
    live: str = ""


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
    check_keys(table)
    study, objective = table["study"], table["objective"]
    sandbox, judge = table.get("sandbox", {}), table.get("judge", {})
    guards = tuple(values.guard(name, text) for name, text in table.get("guards", {}).items())
    slots = table.get("devices", {}).get("slots")
    if slots is not None and slots < 1:
        raise values.bad("[devices] slots", slots, "a whole number from 1")
    processes = sandbox.get("processes")
    if processes is not None and processes < 1:
        raise values.bad("[sandbox] processes", processes, "a whole number from 1")
    tokens = table.get("researcher", {}).get("context_tokens")
    if tokens is not None and tokens < 2000:
        raise values.bad("[researcher] context_tokens", tokens, "a whole number from 2000")
    for name, tried in table.get("researcher", {}).get("values", {}).items():
        if not isinstance(tried, list) or not tried:
            raise values.bad(
                f"[researcher.values] {name}", tried, "a list of values, like [0.01, 0.1]"
            )
    asking(table.get("researcher", {}))
    for key in ("fixes", "plan_every"):
        if table.get("researcher", {}).get(key, 0) < 0:
            raise values.bad(f"[researcher] {key}", table["researcher"][key], "0 or more")
    return Settings(
        command=values.text("[study] command", study["command"]),
        edit=values.paths("[study] edit", study["edit"]),
        objective=_objective(objective),
        budget_s=values.duration_s("[study] budget", study.get("budget", "5m")),
        kill_factor=values.at_least_one("[study] kill_factor", study.get("kill_factor", 2.0)),
        data=values.paths("[study] data", study.get("data", []), empty=True),
        protect=values.paths("[study] protect", study.get("protect", []), empty=True),
        evaluate=objective.get("evaluate", ""),
        hidden=_hidden(objective),
        seed_env=values.env_name("[study] seed_env", study.get("seed_env", "NIGHTLAB_SEED")),
        guards=guards,
        checks=values.checks(table.get("checks", {})),
        pareto=values.pareto(table.get("pareto", {})),
        researcher=dict(table.get("researcher", {})),
        judge=judge.get("use", "default"),
        line_margin=values.margin(judge.get("line_margin", 0.0)),
        covariate=judge.get("covariate", ""),
        early_stop=values.share("[judge] early_stop", judge.get("early_stop", 0.1)),
        early_audit=values.share("[judge] early_audit", judge.get("early_audit", 0.1)),
        curve=judge.get("curve", ""),
        sandbox=sandbox.get("use", "auto"),
        image=sandbox.get("image"),
        read=tuple(values.place("[sandbox] read", place) for place in sandbox.get("read", [])),
        memory_bytes=values.size(sandbox, "memory"),
        processes=processes,
        disk_bytes=values.size(sandbox, "disk"),
        cache=sandbox.get("cache", False),
        log_bytes=values.size(sandbox, "log") or Settings.log_bytes,
        pass_env=tuple(values.env_name("[sandbox] env", name) for name in sandbox.get("env", [])),
        slots=slots,
        push=values.remote(table.get("git", {}).get("push", "")),
        final=final.read(table.get("final", {}), _seen(study, objective)),
        notify=notify.read(table.get("notify", {})),
        live=values.tracker(table.get("export", {}).get("live", "")),
    )


def _seen(study: Mapping[str, Any], objective: Mapping[str, Any]) -> tuple[str, ...]:
    """The paths that the runs of a study see by name."""
    names = (*study.get("data", []), *study.get("protect", []), *objective.get("hidden", []))
    return tuple(os.path.normpath(name) for name in names)


def _objective(table: Mapping[str, Any]) -> Objective:
    metric = values.metric(table["metric"])
    composite = values.expression(metric, table.get("expression", ""))
    return Objective(metric, values.better(table.get("better")), composite)


def _hidden(objective: Mapping[str, Any]) -> tuple[str, ...]:
    names = values.paths("[objective] hidden", objective.get("hidden", []), empty=True)
    if names and not objective.get("evaluate"):
        raise ConfigError(
            "[objective] hidden is set, but [objective] evaluate is not",
            "what is hidden from training is only seen by a sealed evaluation",
            'add  evaluate = "python evaluate.py"  under [objective]',
        )
    return names


def passed_env(names: tuple[str, ...]) -> dict[str, str]:
    """The variables of nightlab's own environment that ``[sandbox] env`` lets through."""
    return {name: os.environ[name] for name in names if name in os.environ}
