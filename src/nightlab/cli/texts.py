"""Read models as lines for a person. Pure: dicts in, lines out."""

from __future__ import annotations

from typing import Any

from nightlab.cli import words


def status(found: dict[str, Any]) -> list[str]:
    """``views.status`` in words."""
    objective, counts = found["objective"], found["experiments"]
    lines = [
        f"study      {found['tag']} on {found['branch']}: {_state(found)}",
        f"objective  {objective['name']}, {objective['better']} is better",
        f"baseline   {words.spread(found['baseline'])}",
        f"incumbent  {_incumbent(found['incumbent'])}",
        f"gain       {words.short(found['gain'])}; {_noise(found['noise'])}",
        f"tried      {_counts(counts)}; {found['runs']} runs",
        f"cost       {words.cost(found['cost'])}",
        *_per_keep(found["cost"]),
    ]
    if counts["refused"]:
        lines.append(f"refused    {counts['refused']} proposals")
    lines += _directions(found)
    lines += [f"running    {_running(r)}" for r in found["running"]]
    lines += [f"warning    {text}" for text in found["warnings"]]
    return lines


def _per_keep(cost: dict[str, Any]) -> list[str]:
    """What each kept change cost, where there is one and it cost more than device time."""
    each = cost["per_keep"]
    return [f"           {words.cost(each)} for each keep"] if each and cost["tokens"] else []


def _directions(found: dict[str, Any]) -> list[str]:
    """Where the search stands: the phase, the plateau, the ideas that wait."""
    lines = []
    phase, at, backlog = found["phase"], found["plateau"], found["backlog"]
    if phase is not None:
        if phase["name"] is not None:
            until = f", until {phase['until']}" if phase["until"] else ""
            done = f"{phase['experiments']} experiments in it{until}"
            where = f"{phase['name']} ({phase['number']} of {phase['of']})"
            lines.append(f"phase      {where}: {done}; {', '.join(phase['rules'])}")
        lines += [f"warning    program.md: {text}" for text in phase["warnings"]]
    lines.append(f"plateau    {at['stage']}: {at['since_keep']} experiments since the last keep")
    if backlog["open"]:
        lines.append(f"backlog    {backlog['open']} ideas wait")
        lines += [
            f"           {i['idea']}: {i['text'][:100]} (priority {i['priority']:g})"
            for i in backlog["top"]
        ]
    return lines


def _state(found: dict[str, Any]) -> str:
    state, ended = found["state"], found["ended"]
    if state == "running":
        return f"paused: {found['paused']}" if found["paused"] else "running"
    if ended is None:
        return "stopped; it was cut short and goes on with: nightlab run"
    detail = f" ({ended['detail']})" if ended["detail"] else ""
    return f"{state}: {ended['reason']}{detail}"


def _incumbent(found: dict[str, Any] | None) -> str:
    if found is None:
        return "none yet: the baseline is being calibrated"
    text = f"{words.spread(found)}: exp {found['experiment']}, {found['commit'][:7]}"
    return text if found["experiment"] == 1 else f"{text}, {found['description']}"


def _noise(noise: dict[str, Any]) -> str:
    if noise["sigma"] is None:
        return "the noise is not known yet"
    return f"one run varies by ± {words.short(noise['sigma'])} ({noise['df']} degrees of freedom)"


def _running(run: dict[str, Any]) -> str:
    what = f"exp {run['experiment']}, {run['purpose']}, seed {run['seed']}, on {run['device']}"
    elapsed = run["elapsed_seconds"]
    return f"{what}, for {words.seconds(elapsed)}" if elapsed is not None else f"{what}: cut short"


def _counts(counts: dict[str, Any]) -> str:
    verdicts = ", ".join(
        f"{counts[name]} {name}" for name in ("keep", "discard", "inconclusive", "crash")
    )
    return f"{counts['total']} experiments, the baseline included: {verdicts}"
