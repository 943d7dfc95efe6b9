"""Commit messages of experiments: a subject a person wrote or could have, then trailers. Pure."""

from __future__ import annotations

from nightlab.model import (
    Experiment,
    Study,
    Verdict,
    values_of,
)

_SUBJECT_CHARS = 72


def proposal(study: Study, experiment: Experiment) -> str:
    """The message before the run: what is claimed, by whom."""
    return _message(experiment, [], _trailers(study, experiment))


def verdict(study: Study, experiment: Experiment, verdict: Verdict) -> str:
    """The message after the judgement: the claim, the reason, and the evidence as trailers."""
    runs = [r for r in experiment.runs if r.outcome.counts]
    metric = study.objective.metric
    values = values_of(runs, metric)
    trailers = _trailers(study, experiment)
    trailers.append(("Verdict", verdict.value))
    if values:
        mean = sum(values) / len(values)
        count = f"{len(values)} run" + ("s" if len(values) > 1 else "")
        trailers.append(("Metric", f"{metric} {mean:.6g} ({count})"))
    if runs:
        trailers.append(("Seeds", " ".join(str(r.seed) for r in runs)))
    reason = experiment.decision.reason if experiment.decision else ""
    found = experiment.decision.evidence.e_value if experiment.decision else None
    if found is not None:
        trailers.append(("E-value", f"{found:.3g}"))
    return _message(experiment, [reason], trailers)


def final(study: Study, experiment: Experiment, said: str, trailers: list[tuple[str, str]]) -> str:
    """The message of a surviving change on the final branch: the claim, and what it is worth."""
    return _message(experiment, [said], [*_trailers(study, experiment), *trailers])


def _trailers(study: Study, experiment: Experiment) -> list[tuple[str, str]]:
    found = [("Experiment", f"{study.tag}/{experiment.number}")]
    if experiment.claim.researcher:
        found.append(("Researcher", experiment.claim.researcher))
    if experiment.claim.category:
        found.append(("Category", experiment.claim.category))
    return found


def _message(experiment: Experiment, paragraphs: list[str], trailers: list[tuple[str, str]]) -> str:
    subject = experiment.claim.description
    body = []
    if len(subject) > _SUBJECT_CHARS:
        body.append(subject)
        subject = subject[: _SUBJECT_CHARS - 1].rstrip() + "…"
    # A model wrote the hypothesis: quoted, it cannot pose as our trailers.
    hypothesis = experiment.claim.hypothesis.strip()
    if hypothesis:
        body.append("\n".join(f"> {line}" for line in hypothesis.split("\n")))
    body += [p for p in paragraphs if p]
    lines = "\n".join(f"Nightlab-{name}: {' '.join(value.split())}" for name, value in trailers)
    return "\n\n".join([subject, *body, lines]) + "\n"
