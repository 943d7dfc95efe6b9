"""A proposal on its way to a commit: what it may touch, carried over, never tried before."""

from __future__ import annotations

from collections.abc import Mapping

from nightlab import commits, novelty, scope
from nightlab.errors import DuplicateError, ScopeError
from nightlab.git import Repo
from nightlab.history import History
from nightlab.model import Claim, Proposal


def check(
    repo: Repo, history: History, proposal: Proposal, files: Mapping[str, str], base: str
) -> tuple[str, Claim, str]:
    """The tree of a proposal on the incumbent, what the journal keeps of it, its fingerprint.

    ``files`` and ``base`` are the texts and the commit that the researcher was shown. Writes
    objects only. Raises ScopeError, in words for the researcher, when it is refused.
    """
    study = history.study
    changed = scope.check(proposal.files, files, study.edit)
    claim = commits.claim_of(proposal, *scope.count_lines(files, changed))
    tree = _tree(repo, history, base, changed, claim)
    return tree, claim, novelty.check(history, proposal, files, changed)


def _tree(
    repo: Repo, history: History, base: str, changed: Mapping[str, str | None], claim: Claim
) -> str:
    study, parent = history.study, history.tip
    inside = {study.in_repo(path): text for path, text in changed.items()}
    tree: str | None = repo.write_tree(base, inside)
    if tree is not None and base != parent:
        tree = commits.carry_over(repo, study, claim, base, tree, parent)
    if tree is None:
        raise ScopeError(
            "the proposal changes lines that the incumbent has changed meanwhile",
            f"it was made for {base[:7]}, the incumbent is {parent[:7]} now",
            "propose it again on the incumbent",
        )
    _check_new(history, tree)
    return tree


def _check_new(history: History, tree: str) -> None:
    before = history.tried.get(tree)
    if before is not None:
        raise DuplicateError(
            f"experiment {before} already tried exactly these files",
            novelty.verdict_of(history.experiments[before]),
            "propose something else",
        )
