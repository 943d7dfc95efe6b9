"""A proposal on its way to a commit: what it may touch, carried over, never tried before."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

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
    size = (*scope.count_lines(files, changed), scope.count_nodes(files, changed))
    claim = commits.claim_of(proposal, *size)
    tree = _tree(repo, history, base, changed, claim)
    return tree, claim, novelty.check(history, proposal, files, changed)


def check_fix(
    repo: Repo, history: History, number: int, proposal: Proposal, files: Mapping[str, str]
) -> tuple[str, Claim, str]:
    """The tree of a fix on the experiment's own parent, its claim with the fix, its fingerprint.

    ``files`` are the experiment's texts. Raises ScopeError when the fix is refused: also when
    with it nothing is left of the change.
    """
    study, experiment = history.study, history.experiments[number]
    before = commits.files_in_scope(repo, study, experiment.parent)
    whole: dict[str, str | None] = {path: None for path in before if path not in files}
    whole |= {**files, **proposal.files}
    # A file that the change had added and the fix removes is not there before or after.
    whole = {p: t for p, t in whole.items() if t is not None or p in before}
    for path in proposal.files:
        whole.setdefault(path, proposal.files[path])  # refused by name where it is out of scope
    changed = scope.check(whole, before, study.edit)
    added, removed = scope.count_lines(before, changed)
    said = commits.one_line(proposal.description)
    hypothesis = f"{experiment.claim.hypothesis}\n\nMended after a crash: {said}".strip()
    claim = msgspec.structs.replace(
        experiment.claim,
        hypothesis=hypothesis[:2000],
        lines_added=added,
        lines_removed=removed,
        nodes=scope.count_nodes(before, changed),
    )
    inside = {study.in_repo(path): text for path, text in changed.items()}
    tree = repo.write_tree(experiment.parent, inside)
    _check_new(history, tree)
    nameless = msgspec.structs.replace(proposal, description="")  # its experiment has the name
    return tree, claim, novelty.check(history, nameless, before, changed, own=number)


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
            answer="overtaken",
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
