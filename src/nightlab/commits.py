"""An experiment as git holds it: its commit, its ref, and the study's branch.

Commits are made of recorded facts only (tree, parent, date of the proposal), so that doing it
again after a crash gives the same commit.
"""

from __future__ import annotations

from nightlab import messages, scope
from nightlab.git import Repo
from nightlab.history import History
from nightlab.model import Experiment, Study, Verdict

_NO_REF = "0" * 40


def ref(tag: str, number: int) -> str:
    """Where an experiment's commit stays reachable, kept or not."""
    return f"refs/nightlab/{tag}/{number}"


def files_in_scope(repo: Repo, study: Study, commit: str) -> dict[str, str]:
    """The texts that may change, as at a commit; paths relative to the project."""
    prefix = f"{study.prefix}/" if study.prefix else ""
    inside = [
        path
        for path in repo.files(commit)
        if path.startswith(prefix) and scope.matches(path[len(prefix) :], study.edit)
    ]
    texts = repo.read(commit, inside)
    return {path[len(prefix) :]: text for path, text in texts.items()}


def of_proposal(repo: Repo, study: Study, experiment: Experiment, tree: str) -> str:
    """Commit a proposal on its parent and pin it; the baseline is the person's own commit."""
    return _pin(repo, study, experiment, tree, messages.proposal(study, experiment))


def of_verdict(
    repo: Repo, study: Study, experiment: Experiment, tree: str, verdict: Verdict
) -> str:
    """The same tree again with the verdict in the trailers, pinned in place of the first."""
    return _pin(repo, study, experiment, tree, messages.verdict(study, experiment, verdict))


def _pin(repo: Repo, study: Study, experiment: Experiment, tree: str, message: str) -> str:
    commit = experiment.parent
    if experiment.number > 1:
        commit = repo.commit_tree(tree, [experiment.parent], message, experiment.started_at)
    repo.update_refs([(ref(study.tag, experiment.number), commit, None)])
    return commit


def advance_branch(repo: Repo, history: History) -> str | None:
    """Move the study's branch to the incumbent, unless that would disturb someone.

    A branch that a person checked out, or moved by hand, is left alone and the reason is
    returned: the commit stays reachable under its own ref.
    """
    name = f"refs/heads/{history.study.branch}"
    at, tip = repo.resolve(name), history.tip
    if at == tip:
        return None
    if name in repo.checked_out_branches():
        return f"{history.study.branch} stays where it is: it is checked out"
    if at is not None and not _is_ours(history, at):
        return f"{history.study.branch} stays where it is: it was moved by hand to {at[:7]}"
    repo.update_refs([(name, tip, at or _NO_REF)])
    return None


def _is_ours(history: History, commit: str) -> bool:
    known = (e.commit for e in history.experiments.values())
    return commit == history.base_commit or commit in known
