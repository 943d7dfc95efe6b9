"""One experiment, in whole: for ``nightlab show``."""

from __future__ import annotations

import sys
from typing import Any

from nightlab import certificates, costs, expression, front, git, views
from nightlab.cli import base, words
from nightlab.cli.base import Place
from nightlab.errors import NightlabError, UsageError
from nightlab.model import Experiment, Run
from nightlab.process import clean


def check(number: int, *, diff: bool, log: bool, run: int | None, as_json: bool) -> None:
    """Raises UsageError where the flags contradict each other."""
    hint = f"nightlab show {number}"
    if diff + log + as_json > 1:
        raise UsageError("--diff, --log and --json exclude each other", "", hint)
    if run is not None and not log:
        raise UsageError("--run says which log", "it goes with --log", f"{hint} --log --run {run}")


def find(place: Place, number: int) -> Experiment:
    """The experiment. Raises UsageError when there is none of that number."""
    history = place.history()
    found = history.experiments.get(number)
    if found is None:
        last = len(history.experiments)
        raise UsageError(
            f"study {place.tag} has no experiment {number}",
            f"they go from 1 to {last}" if last else "it has none yet",
            f"nightlab show {last}" if last else "nightlab status",
        )
    return found


def as_json(place: Place, experiment: Experiment) -> dict[str, Any]:
    """The experiment's row, its runs in full with their logs' paths, and the decision."""
    return views.whole(
        place.history(), experiment, lambda run: str(place.paths.log(place.tag, run))
    )


def lines(place: Place, experiment: Experiment) -> list[str]:
    """The experiment for a person."""
    metric = place.history().study.objective.metric
    claim, decision = experiment.claim, experiment.decision
    verdict = experiment.verdict.value.upper() if experiment.verdict else "OPEN"
    told = [f"exp {experiment.number}: {claim.description}", f"{verdict}"]
    if decision is not None:
        told[-1] += f": {decision.reason}"
        told.append(f"rule       {decision.rule}")
        found = decision.evidence.e_value
        if found is not None:
            sure = experiment.number in certificates.certificates(place.history())["certified"]
            word = "certified" if sure else "not certified"
            told.append(f"e-value    {words.short(found)} from fresh pairs: {word}")
    mean = views.spread(experiment.runs, metric)
    none = "not measured" if experiment.verdict and mean["mean"] is None else ""
    measured = sum(metric in run.metrics for run in experiment.runs)
    aside = measured > (mean["n"] or 0) > 0 and experiment.number > 1
    why = ", without the first look, which selected it" if aside else ""
    told.append(f"{metric:<10} {none or words.spread(mean)}{why}")
    told.append(
        f"commit     {experiment.commit[:10] or 'none yet'} on {experiment.parent[:10]}"
        f" (+{claim.lines_added} -{claim.lines_removed} lines"
        + (f", {claim.nodes:+d} syntax-tree nodes)" if claim.nodes else ")")
    )
    by = claim.researcher + (f", {claim.category}" if claim.category else "")
    told.append(f"proposed   by {by}")
    if claim.hypothesis:
        told += [f"           {line}" for line in claim.hypothesis.splitlines()]
    told += [
        f"           {c.name}: {words.constant(c.old)} → {words.constant(c.new)}"
        for c in claim.changes
    ]
    told.append(f"cost       {words.cost(costs.of_experiment(place.history(), experiment.number))}")
    reason = decision.reason if decision else ""
    told += [_run(run, metric, reason) for run in experiment.runs]
    told += [
        f"check      {run.check}: {words.check(run.outcome)}, {words.seconds(run.duration_s)}"
        + (f": {run.detail}" if run.detail else "")
        for run in experiment.checks
    ]
    others = {n: v for n, v in views.mean_metrics(experiment.runs).items() if n != metric}
    composite = place.history().study.objective.expression
    if composite and others:
        own = {name: others.pop(name) for name in expression.parts(composite) if name in others}
        pairs = ", ".join(f"{name} {words.number(value)}" for name, value in own.items())
        told.append(f"parts      {pairs or 'none measured'}; {metric} = {composite}")
    if others:
        pairs = ", ".join(f"{name} {words.number(value)}" for name, value in others.items())
        told.append(f"also       {pairs}")
    number = experiment.number
    told += _on_front(place, number)
    told.append(f"more       nightlab show {number} --diff, nightlab show {number} --log")
    return told


def _on_front(place: Place, number: int) -> list[str]:
    found = front.front(place.history())
    for point in found["front"] if found else ():
        if point["experiment"] == number:
            rival = point["dominated_within_noise_by"]
            noise = f"; within noise of exp {rival}" if rival else ""
            return [f"front      on the Pareto front of {', '.join(point['values'])}{noise}"]
    return []


def _run(run: Run, metric: str, reason: str) -> str:
    """A run in a line; ``reason`` stands above it already."""
    value = words.number(run.metrics[metric]) if metric in run.metrics else run.outcome.value
    text = (
        f"run {run.id:<6} {value}, {words.purpose(run.purpose)}, seed {run.seed}, "
        f"{words.seconds(run.duration_s)} on {run.device}"
    )
    if run.cpu_s is not None:
        text += f", {words.seconds(run.cpu_s)} of CPU"
    if run.peak_memory_bytes is not None:
        text += f", {words.size(run.peak_memory_bytes)} of memory"
    if run.peak_gpu_bytes is not None:
        text += f", {words.size(run.peak_gpu_bytes)} of the GPU's"
    notes = "; ".join(filter(None, ("" if run.detail == reason else run.detail, *run.notes)))
    return f"{text}: {notes}" if notes else text


def tell_diff(place: Place, experiment: Experiment) -> None:
    """Print the patch: as it is into a pipe, safe and coloured on a terminal."""
    if experiment.number == 1:
        base.say("exp 1 is the untouched code: it changes nothing")
        return
    if not experiment.commit:
        raise NightlabError(
            f"experiment {experiment.number} is not committed yet", "", "nightlab status"
        )
    patch = git.discover(place.root).diff(experiment.parent, experiment.commit)
    if not sys.stdout.isatty():
        sys.stdout.write(patch)
        return
    from rich.text import Text  # noqa: PLC0415  loaded on use

    console = base.console()
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in clean(patch).splitlines():
        heading = line.startswith(("+++", "---", "diff ", "index "))
        style = "bold" if heading else styles.get(line[:1], "none")
        console.print(Text(line, style=style), soft_wrap=True)


def tell_log(place: Place, experiment: Experiment, run_id: int | None) -> None:
    """Print what a run of the experiment printed. Raises UsageError without such a run."""
    known = [run.id for run in (*experiment.runs, *experiment.checks)]
    known += [r.run for r in place.history().pending.values() if r.experiment == experiment.number]
    number = experiment.number
    if not known:
        raise UsageError(
            f"experiment {number} has not run yet", "there is no log", f"nightlab show {number}"
        )
    if run_id is not None and run_id not in known:
        raise UsageError(
            f"run {run_id} is not one of experiment {number}",
            f"its runs: {', '.join(map(str, known))}",
            f"nightlab show {number} --log --run {known[-1]}",
        )
    path = place.paths.log(place.tag, run_id or known[-1])
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError as error:
        raise NightlabError(
            f"the log of run {run_id or known[-1]} is not there",
            f"{path} was deleted, or the run never started",
            f"nightlab show {number}",
        ) from error
    sys.stdout.write(clean(text.replace("\r\n", "\n").replace("\r", "\n")))
