"""Read models as lines for a person. Pure: dicts in, lines out."""

from __future__ import annotations

from typing import Any

from nightlab.cli import words

_STAGES = {  # of nightlab.plateau, as a person would say what is asked for
    "refine": "build on what was kept",
    "change category": "leave what was tried last",
    "restart": "start again from a near miss",
    "moonshot": "bold ideas only",
}
_FRONT = 8  # lines of a Pareto front


def status(found: dict[str, Any]) -> list[str]:
    """``views.status`` in words."""
    objective, counts = found["objective"], found["experiments"]
    lines = [
        f"study      {found['tag']} on {found['branch']}: {_state(found)}",
        f"objective  {objective['name']}, {objective['better']} is better",
        f"baseline   {words.spread(found['baseline'])}",
        f"incumbent  {_incumbent(found['incumbent'])}",
        f"gain       {words.short(found['gain'])}; {_noise(found['noise'])}",
        f"tried      {_counts(found)}; {words.count(found['runs'], 'run')}",
        f"cost       {words.cost(found['cost'])}",
        *_per_keep(found["cost"]),
        *_asked(found["cost"]),
    ]
    if objective["expression"]:
        lines.insert(2, f"           = {objective['expression']}")
        lines[5:5] = [f"  {name:<9}{_part(part)}" for name, part in objective["parts"].items()]
    if found["certificates"]["keeps"]:
        lines.append(f"certified  {certified(found['certificates'])}")
    lines += [f"stopped    {text}" for text in _stopped(found["early_stop"])]
    lines += pareto(found["pareto"])
    lines += [f"final      {text}" for text in _final(found["final"])]
    if found["quarantined"]:
        names = ", ".join(f"exp {n}" for n in found["quarantined"])
        lines.append(f"put aside  {names}: not believable; look at them: nightlab show N --diff")
    if counts["refused"]:
        lines.append(f"refused    {words.count(counts['refused'], 'proposal')}")
    lines += _directions(found)
    lines += [f"running    {_running(r)}" for r in found["running"]]
    lines += [f"warning    {text}" for text in found["warnings"]]
    return lines


def _stopped(found: dict[str, Any]) -> list[str]:
    """What early stop did, and what its audit found."""
    if not found["stopped"] and not found["audited"]:
        return []
    saved = words.seconds(found["saved_seconds"])
    text = f"{words.count(found['stopped'], 'hopeless run')}, {saved} saved"
    if found["audited"]:
        text += f"; of {found['audited']} let run on to see, {found['wrong']} became a keep"
    return [text]


def _final(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    if found["word"] is None:
        return ["under way: nightlab finalize   (goes on)"]
    where = f", {found['branch']} ({found['commit'][:7]})" if found["branch"] else ""
    where += f", {words.count(found['runs'], 'run')}"
    return [f"{found['word']}{where}; more: nightlab finalize"]


def _per_keep(cost: dict[str, Any]) -> list[str]:
    """What each kept change cost, where there is one and it cost more than device time."""
    each = cost["per_keep"]
    return [f"           {words.cost(each)} for each keep"] if each and cost["tokens"] else []


def _asked(cost: dict[str, Any]) -> list[str]:
    """What came of asking researchers, the most frequent first."""
    came = sorted(cost["answers"].items(), key=lambda item: -item[1])
    told = ", ".join(f"{count} {answer.replace('_', ' ')}" for answer, count in came)
    return [f"asked      {words.count(cost['asked'], 'time')}: {told}"] if came else []


def _directions(found: dict[str, Any]) -> list[str]:
    """Where the search stands: the phase, the plateau, the ideas that wait."""
    lines = []
    phase, at, backlog = found["phase"], found["plateau"], found["backlog"]
    if phase is not None:
        if phase["name"] is not None:
            until = f", until {phase['until']}" if phase["until"] else ""
            done = f"{words.count(phase['experiments'], 'experiment')} in it{until}"
            where = f"{phase['name']} ({phase['number']} of {phase['of']})"
            lines.append(f"phase      {where}: {done}; {', '.join(phase['rules'])}")
        lines += [f"warning    program.md: {text}" for text in phase["warnings"]]
    since = words.count(at["since_keep"], "experiment")
    lines.append(f"plateau    {at['stage']} ({_STAGES[at['stage']]}): {since} since the last keep")
    lines += [
        f"prior      {p['source']}: {words.count(p['rows'], 'row')} of another loop, "
        f"{words.count(p['ideas'], 'idea')} of it known to the researcher"
        for p in found["priors"]
    ]
    if backlog["open"]:
        wait = "waits" if backlog["open"] == 1 else "wait"
        lines.append(f"backlog    {words.count(backlog['open'], 'idea')} {wait}")
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
    if ended["reason"] in (state, "bound"):  # what need not be said twice
        return f"{state}{detail}"
    return f"{state}: {ended['reason']}{detail}"


def _incumbent(found: dict[str, Any] | None) -> str:
    if found is None:
        return "none yet: the baseline is being calibrated"
    text = f"{words.spread(found)}: exp {found['experiment']}, {found['commit'][:7]}"
    return text if found["experiment"] == 1 else f"{text}, {found['description']}"


def certified(found: dict[str, Any]) -> str:
    """``1 of 3 keeps at a false discovery rate of 5 %: exp 4``."""
    keeps, sure = found["keeps"], found["certified"]
    names = ": " + ", ".join(f"exp {n}" for n in sure) if sure else ""
    rate = f"a false discovery rate of {100 * found['level']:.0f} %"
    return f"{len(sure)} of {len(keeps)} keep{'s' * (len(keeps) != 1)} at {rate}{names}"


def pareto(found: dict[str, Any] | None) -> list[str]:
    """The front, an experiment a line; [] where none was declared."""
    if found is None:
        return []
    names = ", ".join(f"{m['name']} ({m['better']})" for m in found["metrics"])
    lines = [f"front      {names}: {len(found['front'])} of {found['measured']}"]
    for point in found["front"][:_FRONT]:
        values = ", ".join(f"{name} {words.number(v)}" for name, v in point["values"].items())
        text = f"  exp {point['experiment']:<5}{values} (n = {point['runs']}), {point['verdict']}"
        rival = point["dominated_within_noise_by"]
        lines.append(f"{text}; within noise of exp {rival}" if rival else text)
    if len(found["front"]) > _FRONT:
        lines.append(f"  and {len(found['front']) - _FRONT} more: nightlab status --json")
    return lines


def _part(part: dict[str, float | None]) -> str:
    return f"{words.number(part['baseline'])} → {words.number(part['incumbent'])}"


def _noise(noise: dict[str, Any]) -> str:
    if noise["sigma"] is None:
        return "the noise is not known yet"
    return f"one run varies by ± {words.short(noise['sigma'])} ({noise['df']} degrees of freedom)"


def _running(run: dict[str, Any]) -> str:
    doing = f"check {run['check']}" if run["check"] else run["purpose"]
    what = f"exp {run['experiment']}, {doing}, seed {run['seed']}, on {run['device']}"
    elapsed = run["elapsed_seconds"]
    return f"{what}, for {words.seconds(elapsed)}" if elapsed is not None else f"{what}: cut short"


def _counts(found: dict[str, Any]) -> str:
    """As the report counts: the baseline is no change, and no keep."""
    counts, baseline = dict(found["experiments"]), found["baseline"]
    first = "keep" if found["incumbent"] is not None else "crash"
    if baseline is not None and counts["total"]:
        counts["total"] -= 1
        counts[first] -= 1
    verdicts = ", ".join(
        f"{counts[name]} {word}"
        for name, word in (
            ("keep", "kept"),
            ("discard", "discarded"),
            ("inconclusive", "inconclusive"),
            ("crash", "crashed"),
        )
    )
    return f"the baseline and {words.count(counts['total'], 'change')}: {verdicts}"
