"""Opening a study for writing: a new one or one to resume, with everything it needs in place."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

from nightlab import __version__, config, devices, git, ledger, scope, seal
from nightlab.config import Paths, Settings
from nightlab.engine import Engine
from nightlab.errors import ConfigError, GitError, NightlabError
from nightlab.events import Imported, StudyStarted
from nightlab.executors import Executor
from nightlab.git import Repo
from nightlab.history import History, fold
from nightlab.journal import Journal
from nightlab.judge import Judge, open_judge
from nightlab.model import Guard, Objective, Study, Verdict
from nightlab.sandboxes import Options, Sandbox, open_sandbox


@dataclass(frozen=True)
class Opened:
    """An engine ready to drive, and what a person should be told about how it came to be.

    ``resumed`` is False for a new study. ``told`` are sentences for the person: what
    recovery did, uncommitted files that are not part of the study.
    """

    engine: Engine
    resumed: bool
    told: tuple[str, ...]


def open_study(
    root: Path,
    *,
    tag: str | None = None,
    settings: Settings | None = None,
    executor: Executor | None = None,
    sandbox: Sandbox | None = None,
    judge: Judge | None = None,
    now: Callable[[], float] = time.time,
) -> Opened:
    """Open the study ``tag`` of the project in ``root``: the current one, or today's, by default.

    Takes the lock, recovers what a crash cut short, and leaves the person's checkout alone.
    Raises ConfigError, GitError, JournalError, LockedError, SandboxError.
    """
    root = root.resolve()
    settings = settings or config.load(root)
    repo = git.discover(root)
    head = repo.head()
    paths = Paths(root)
    judge = judge or open_judge(settings.judge, line_margin=settings.line_margin)
    sandbox = sandbox or open_sandbox(
        settings.sandbox, Options(settings.image, settings.processes, settings.disk_bytes)
    )
    tag = config.check_tag(tag or _choose_tag(paths, repo, now()))
    _check_data(root, settings)
    known = _set_failed_baseline_aside(paths, tag)
    existed = paths.journal(tag).exists()
    if not existed:
        _check_new(repo, head, tag, settings)
        paths.make_state()
    repo.keep_indexes_in(paths.indexes(tag))
    journal = Journal(paths.journal(tag))
    try:
        if existed and paths.journal(tag).stat().st_size > 0:
            history = fold(journal.events())
            _check_same(history.study, _study(settings, tag, repo.prefix))
        else:
            study = _study(settings, tag, repo.prefix)
            protected = seal.digests(root, (*settings.protect, *settings.final.hidden))
            history = _start(journal, study, head, protected, now(), known)
        engine = Engine(
            paths=paths,
            settings=settings,
            repo=repo,
            journal=journal,
            history=history,
            executor=executor or _local(settings),
            sandbox=sandbox,
            judge=judge,
            now=now,
        )
        told = (*(engine.recover() if existed else ()), *_moved_on(head, history))
        told = (*told, *_left_out(repo, history))
        paths.current.write_text(tag + "\n", encoding="utf-8")
        ledger.publish(paths.public_ledger(), paths.ledger(tag))
    except BaseException:
        journal.close()
        raise
    return Opened(engine, existed, told)


def _local(settings: Settings) -> Executor:
    from nightlab.executors.local import LocalExecutor  # noqa: PLC0415  loaded on use

    return LocalExecutor(devices.slots(settings.slots))


def current_tag(paths: Paths) -> str | None:
    """The study that was worked on last, None where there is none."""
    try:
        tag = paths.current.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        tag = ""
    known = paths.tags()
    return tag if tag in known else (known[-1] if known else None)


def _choose_tag(paths: Paths, repo: Repo, now: float) -> str:
    current = current_tag(paths)
    if current is not None:
        return current
    # The reference's rule: a fresh tag. A branch of another project's study takes the name.
    tag: str = config.default_tag(now)
    for letter in ("", *ascii_lowercase[1:]):
        if repo.resolve(f"refs/heads/autoresearch/{tag}{letter}") is None:
            return f"{tag}{letter}"
    return tag


def _check_new(repo: Repo, head: str, tag: str, settings: Settings) -> None:
    branch = f"autoresearch/{tag}"
    if repo.resolve(f"refs/heads/{branch}") is not None:
        raise ConfigError(
            f"the branch {branch} exists already",
            "it belongs to an earlier study, whose journal is not in .nightlab/ here",
            f"nightlab run --tag {tag}b",
        )
    if repo.resolve("refs/heads/autoresearch") is not None:
        raise ConfigError(
            "there is a branch called autoresearch",
            f"git cannot have {branch} beside it",
            "git branch -m autoresearch autoresearch-old",
        )
    prefix = f"{repo.prefix}/" if repo.prefix else ""
    inside = [p[len(prefix) :] for p in repo.files(head) if p.startswith(prefix)]
    for pattern in settings.edit:
        if not any(scope.matches(path, [pattern]) for path in inside):
            there = (repo.top / prefix / pattern).exists()
            raise ConfigError(
                f"{pattern} is not in the last commit",
                "it exists but was never committed" if there else "[study] edit names it",
                f"git add {pattern} && git commit -m 'start'" if there else "mend [study] edit",
            )


def _check_data(root: Path, settings: Settings) -> None:
    for name in (*settings.data, *settings.protect, *settings.hidden, *settings.final.hidden):
        if not (root / name).exists():
            raise ConfigError(
                f"{root / name} is not there",
                "nightlab.toml names it, and runs need it",
                f"restore {name}, or take it out of nightlab.toml",
            )
    for name in (*settings.hidden, *settings.final.hidden):
        for place in settings.read:
            if Path(place).resolve().is_relative_to((root / name).resolve()):
                raise ConfigError(
                    f"[sandbox] read shows {place} to every run, and {name} is hidden",
                    "what a run may read is not hidden from it",
                    "take one of them out of nightlab.toml",
                )


def _study(settings: Settings, tag: str, prefix: str) -> Study:
    return Study(
        tag=tag,
        command=settings.command,
        edit=settings.edit,
        budget_s=settings.budget_s,
        objective=settings.objective,
        kill_factor=settings.kill_factor,
        guards=settings.guards,
        checks=dict(settings.checks),
        pareto=settings.pareto,
        data=settings.data,
        protect=settings.protect,
        evaluate=settings.evaluate,
        hidden=settings.hidden,
        seed_env=settings.seed_env,
        prefix=prefix,
    )


def _start(
    journal: Journal,
    study: Study,
    head: str,
    protected: dict[str, str],
    now: float,
    known: tuple[Imported, ...] = (),
) -> History:
    for _ in journal.events():  # nothing is there: this only readies the journal for appending
        break
    first = journal.append(
        StudyStarted(
            study=study,
            base_commit=head,
            version=__version__,
            machine=devices.described(),
            protected=protected,
            at=now,
        )
    )
    history = History(first)
    for prior in known:
        history.apply(journal.append(prior))
    return history


def _said(value: object) -> str:
    """A setting as a person would say it."""
    if isinstance(value, tuple):
        return ", ".join(map(_said, value)) or "nothing"
    if isinstance(value, Guard):
        return f"{value.metric} {value.text}"
    if isinstance(value, Objective):
        whole = f" = {value.expression}" if value.expression else ""
        return f"{value.metric}{whole} ({value.better} is better)"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {command}" for name, command in value.items()) or "nothing"
    return str(value) or "nothing"


def _check_same(was: Study, now: Study) -> None:
    changed: list[str] = [f for f in Study.__struct_fields__ if getattr(was, f) != getattr(now, f)]
    if changed:
        field = changed[0]
        raise ConfigError(
            f"{field} was {_said(getattr(was, field))} when study {was.tag} began, "
            f"and is {_said(getattr(now, field))} now",
            "results before and after would not compare; a study keeps its ruler for life",
            f"put it back in nightlab.toml, or start anew: nightlab run --tag {was.tag}b",
        )


def _set_failed_baseline_aside(paths: Paths, tag: str) -> tuple[Imported, ...]:
    """A study whose untouched code never ran holds nothing: it gives its tag back.

    Returns what the new one is to know all the same: the ledgers that were imported into it.
    """
    path = paths.journal(tag)
    if not path.exists() or path.stat().st_size > 1_000_000:
        return ()
    try:
        with Journal(path) as journal:  # the lock: a running lab's folder is not moved away
            history = fold(journal.events())
    except NightlabError:
        return ()  # the open that follows says it better
    baseline = history.baseline
    if baseline is not None and baseline.verdict is Verdict.CRASH:
        number = 1
        while (aside := paths.state / f"{tag}~{number}").exists():
            number += 1
        paths.study(tag).rename(aside)
        return tuple(history.priors.values())
    return ()


def _moved_on(head: str, history: History) -> tuple[str, ...]:
    if head == history.base_commit or head in history.kept:
        return ()
    was = history.base_commit[:7]
    again = f"nightlab run --tag {history.study.tag}b"
    return (f"your HEAD has moved on; this study goes on from {was} (on the new code: {again})",)


def _left_out(repo: Repo, history: History) -> tuple[str, ...]:
    try:
        own = {config.CONFIG_NAME, "program.md", "results.tsv"}
        names = [n for n in repo.uncommitted() if n.rsplit("/", 1)[-1] not in own]
        elsewhere = (f"{config.STATE_NAME}/", "knowledge/")  # read where they lie, never in a run
        names = [n for n in names if not n.endswith(elsewhere)]
    except GitError:
        return ()
    if not names:
        return ()
    shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    return (f"the study stands on commit {history.base_commit[:7]}; not in it: {shown}",)
