"""The trees and commits of a finalization: the final code without a change, or with only some.

All is made of recorded facts, so that doing it again after a crash gives the same commits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import NamedTuple

from nightlab import commits, messages, views
from nightlab.errors import NightlabError
from nightlab.final import Effect, Finalization, Kept
from nightlab.final.words import amount
from nightlab.git import Repo
from nightlab.history import History
from nightlab.model import Experiment, Study

Chain = list[tuple[int, str]]  # (experiment, tree with it and all before it)


def branch(study: Study) -> str:
    """The branch that holds the outcome, beside the study's own."""
    return f"{study.branch}-final"


def ref(study: Study, number: int, name: str) -> str:
    """Where a commit of the study's ``number``-th finalization stays reachable."""
    return f"refs/nightlab/{study.tag}/final/{number}/{name.replace(' ', '-')}"


def kept_changes(repo: Repo, history: History) -> tuple[Kept, ...]:
    """Every kept change, and the incumbent's tree without it where it can be taken out."""
    found = []
    for experiment in views.keeps(history):
        tree, why = _without(repo, history.study, experiment, history.tip)
        commit = ""
        if tree:
            message = f"without experiment {experiment.number}\n"
            commit = repo.commit_tree(tree, [history.tip], message, history.started.at)
        decision = experiment.decision
        found.append(
            Kept(
                experiment=experiment.number,
                parent=experiment.parent,
                commit=experiment.commit,
                description=experiment.claim.description,
                effect=decision.evidence.effect if decision else None,
                lines_added=experiment.claim.lines_added,
                lines_removed=experiment.claim.lines_removed,
                without=commit,
                why=why,
            )
        )
    return tuple(found)


def _without(repo: Repo, study: Study, experiment: Experiment, final: str) -> tuple[str, str]:
    """The tree of ``final`` with the experiment's own change reversed, or "" and why not."""
    tree = repo.merge(experiment.commit, experiment.parent, final)
    if tree is None:
        tree = _constants_back(repo, study, experiment, final)
    if tree is None:
        return "", "a later change touches the same lines"
    if tree == repo.tree_of(final):
        return "", "a later change has undone it"
    return tree, ""


def _constants_back(repo: Repo, study: Study, experiment: Experiment, final: str) -> str | None:
    """The experiment's constants at their old values; None where that is not all of it.

    Neighbouring lines conflict as text and do not as constants. One that was moved further
    since belongs to the later change.
    """
    from nightlab.researchers import constants  # noqa: PLC0415  libcst is heavy

    changes = experiment.claim.changes
    if not changes or any(c.old is None for c in changes):
        return None
    files = commits.files_in_scope(repo, study, final)
    try:
        names = [c.name for c in changes]
        now = {c.name: c.value for c in constants.survey(files, wanted=names).constants}
        if any(c.name not in now or now[c.name] != c.new for c in changes):
            return None
        changed = constants.apply(files, {c.name: c.old for c in changes if c.old is not None})
    except NightlabError:
        return None
    tree: str = repo.write_tree(final, {study.in_repo(p): t for p, t in changed.items()})
    return tree


def clean(
    repo: Repo, history: History, f: Finalization, dropped: Sequence[int]
) -> tuple[Chain, tuple[int, ...], tuple[str, ...]]:
    """The chain without ``dropped``, as far as the others do not build on it.

    Returns the chain, what is really dropped, and notes on what had to come back.
    """
    left, notes = list(dropped), list[str]()
    while True:
        found = chain(repo, history, f, left)
        if not isinstance(found, int):
            return found, tuple(left), tuple(notes)
        # The last dropped one before what conflicts: that is what it most likely builds on.
        back = max((n for n in left if n < found), default=left[-1])
        left.remove(back)
        notes.append(f"experiment {back} adds nothing, but stays: experiment {found} builds on it")


def chain(repo: Repo, history: History, f: Finalization, dropped: Collection[int]) -> Chain | int:
    """The surviving changes one after another on the baseline; the one that conflicts, if any."""
    plan = f.plan
    if not dropped:
        return [(k.experiment, repo.tree_of(k.commit)) for k in plan.kept]
    at: str = repo.tree_of(plan.baseline)
    found: Chain = []
    for kept in plan.kept:
        if kept.experiment in dropped:
            continue
        tree = repo.merge(kept.parent, kept.commit, at)
        if tree is None:
            claim = history.experiments[kept.experiment].claim
            tree = commits.carry_over(repo, history.study, claim, kept.parent, kept.commit, at)
        if tree is None:
            return kept.experiment
        if tree != at:  # it only changed what another, dropped change had brought
            found.append((kept.experiment, tree))
        at = tree
    return found


class Made(NamedTuple):
    """A commit of the final branch, its message, and its date in Unix seconds."""

    commit: str
    message: str
    at: float


def final_commits(repo: Repo, history: History, f: Finalization) -> list[Made]:
    """One for each surviving change, oldest first, each on the one before."""
    result = f.result
    if result is None:
        raise ValueError("a finalization that is not decided has no commits")
    found = chain(repo, history, f, result.dropped)
    assert not isinstance(found, int), "what was dropped had been tried out"  # noqa: S101
    effects = {e.experiment: e for e in result.effects}
    parent, made = f.plan.baseline, list[Made]()
    for number, tree in found:
        experiment = history.experiments[number]
        message = _message(history.study, f, experiment, effects.get(number))
        parent = repo.commit_tree(tree, [parent], message, experiment.started_at)
        made.append(Made(parent, message, experiment.started_at))
    return made


def _message(study: Study, f: Finalization, experiment: Experiment, effect: Effect | None) -> str:
    metric, sigma = study.objective.metric, f.plan.sigma
    trailers = [("Finalization", str(f.plan.number))]
    if effect is None or effect.effect is None:
        why = f" ({effect.why})" if effect is not None and effect.why else ""
        kept = experiment.decision.evidence.effect if experiment.decision else None
        said = f"Not measured by taking it out{why}; "
        said += f"when it was kept its effect on {metric} seemed to be {amount(kept, sigma)}."
    else:
        low, high = amount(effect.low, sigma), amount(effect.high, sigma)
        level = f"{effect.level * 100:.0f} %"
        said = (
            f"Effect on {metric}, measured by taking it out: {amount(effect.effect, sigma)} "
            f"({level} interval {low} to {high}"
            + (f", p = {effect.p:.2g}" if effect.p is not None else "")
            + f", {effect.n} seeds; positive is better)."
        )
        trailers.append(("Effect", f"{metric} {amount(effect.effect, sigma)} ({low} to {high})"))
        trailers.append(("Seeds", " ".join(map(str, effect.seeds))))
    return messages.final(study, experiment, said, trailers)


def write_patches(repo: Repo, folder: Path, base: str, made: Sequence[Made]) -> list[Path]:
    """One mail a commit in ``folder``, as ``git am`` takes it; older ones there are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("[0-9]*.patch"):
        old.unlink()
    paths, parent = [], base
    for number, (commit, message, at) in enumerate(made, 1):
        subject, _, body = message.partition("\n")
        words = "".join(c if c.isalnum() and c.isascii() else "-" for c in subject)
        name = "-".join(filter(None, words.split("-")))[:50] or "change"
        head = (
            f"From {commit} Mon Sep 17 00:00:00 2001\n"
            "From: nightlab <nightlab@localhost>\n"
            f"Date: {formatdate(at)}\n"
            f"Subject: [PATCH {number}/{len(made)}] {subject}\n"
            "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
            "Content-Transfer-Encoding: 8bit\n"
        )
        path = folder / f"{number:04d}-{name}.patch"
        text = f"{head}\n{body.strip()}\n---\n\n{repo.diff(parent, commit)}"
        path.write_text(text, encoding="utf-8", errors="replace")
        paths.append(path)
        parent = commit
    return paths
