"""An experiment as git holds it: its commit, its ref, and the study's branch.

Commits are made of recorded facts only (tree, parent, date of the proposal), so that doing it
again after a crash gives the same commit.
"""

from __future__ import annotations

from nightlab import messages, process, scope
from nightlab.errors import NightlabError
from nightlab.git import Repo
from nightlab.history import History
from nightlab.model import Claim, Experiment, Proposal, Study, Verdict


def ref(tag: str, number: int) -> str:
    """Where an experiment's commit stays reachable, kept or not."""
    return f"refs/nightlab/{tag}/{number}"


def one_line(text: str) -> str:
    """A stranger's words as one clean line of at most 300 characters."""
    return " ".join(process.clean(text).split())[:300]


def claim_of(proposal: Proposal, added: int, removed: int, nodes: int | None = None) -> Claim:
    """What of a proposal the journal keeps, cleaned."""
    return Claim(
        description=one_line(proposal.description) or "(no description)",
        hypothesis=process.clean(proposal.hypothesis)[:2000],
        category=one_line(proposal.category),
        researcher=one_line(proposal.researcher),
        changes=proposal.changes,
        lines_added=added,
        lines_removed=removed,
        nodes=nodes,
        expects=one_line(proposal.expects),
        idea=proposal.idea,
    )


def files_in_scope(repo: Repo, study: Study, commit: str) -> dict[str, str]:
    """The texts that may change, as at a commit; paths relative to the project."""
    prefix = study.in_repo("")
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


def carry_over(
    repo: Repo, study: Study, claim: Claim, base: str, ours: str, theirs: str
) -> str | None:
    """The tree of ``theirs`` with what changed from ``base`` to ``ours``; None for a conflict.

    Constants that stand on neighbouring lines conflict as text and do not as constants: where
    the claim names its constants, they are set again.
    """
    tree = repo.merge(base, ours, theirs)
    if tree is None and claim.changes:
        from nightlab.researchers import constants  # noqa: PLC0415  libcst is heavy

        values = {c.name: c.new for c in claim.changes if c.new is not None}
        try:
            files = constants.apply(files_in_scope(repo, study, theirs), values)
        except NightlabError:  # one of them is gone
            return None
        inside = {study.in_repo(path): text for path, text in files.items()}
        tree = repo.write_tree(theirs, inside)
    return None if tree == repo.tree_of(theirs) else tree


def _pin(repo: Repo, study: Study, experiment: Experiment, tree: str, message: str) -> str:
    commit = experiment.parent
    if experiment.number > 1:
        commit = repo.commit_tree(tree, [experiment.parent], message, experiment.started_at)
    repo.update_refs([(ref(study.tag, experiment.number), commit, None)])
    return commit


PUSH_TIMEOUT_S = 30.0  # a remote that hangs costs a keep this much, and no more


def push(repo: Repo, history: History, remote: str) -> str | None:
    """Send the study's branch to a remote; why it did not arrive, None where it did.

    Never by force, and never the night's end: the next keep sends what this one could not.
    """
    branch = history.study.branch
    if repo.resolve(f"refs/heads/{branch}") != history.tip:
        return f"{branch} was not pushed to {remote}: it does not hold the incumbent"
    try:
        repo.push(remote, branch, timeout_s=PUSH_TIMEOUT_S)
    except NightlabError as error:
        return f"{branch} was not pushed to {remote}: {one_line(f'{error.what}: {error.why}')}"
    return None


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
    if at is not None and at != history.base_commit and at not in history.kept:
        return f"{history.study.branch} stays where it is: it was moved by hand to {at[:7]}"
    repo.update_refs([(name, tip, at or "0" * len(tip))])
    return None
