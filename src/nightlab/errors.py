"""Everything nightlab raises on purpose.

    NightlabError            exit 1  an expected failure, told in three lines
    ├── UsageError           exit 2  the command line or nightlab.toml is wrong
    │   └── ConfigError      exit 2  a key, a value, a file of the configuration
    ├── ScopeError           exit 1  a proposal touches what is not its to touch
    ├── GitError             exit 1  git refused, or the repository is not as expected
    ├── SealError            exit 1  the ruler is not what it was when the study began
    ├── JournalError         exit 1  the journal is foreign, torn in the middle, unwritable
    │   └── LockedError      exit 1  another nightlab holds this study
    ├── MetricError          exit 1  a measurement that cannot be read
    ├── SandboxError         exit 1  infrastructure: the box could not be built; never a crash
    ├── ExecutorError        exit 1  infrastructure: the machine, not the candidate; never a crash
    └── ResearcherError      exit 1  no proposal came; never a failed experiment
        └── Exhausted        exit 1  the researcher has nothing left to propose

Exit codes: 0 done, 1 expected error, 2 usage, 3 a bug in nightlab, 4 a bound was reached
without a keep, 130 interrupted.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_BUG = 3
EXIT_NO_KEEP = 4
EXIT_INTERRUPTED = 130


class NightlabError(Exception):
    """An expected failure: what happened, why we think so, the command to run next.

    ``hint`` is a command or one short instruction; it is never empty in what a user sees.
    """

    exit_code = EXIT_ERROR

    def __init__(self, what: str, why: str = "", hint: str = "nightlab doctor") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint

    def lines(self) -> tuple[str, str, str]:
        """The three lines, each without a trailing newline."""
        return self.what, self.why, self.hint


class UsageError(NightlabError):
    """The command line is wrong."""

    exit_code = EXIT_USAGE


class ConfigError(UsageError):
    """nightlab.toml is wrong or missing."""


class ScopeError(NightlabError):
    """A proposal touches a path outside the files in scope, or nothing that runs.

    ``answer`` is a ``model.Answer``: what kind of no proposal that is.
    """

    def __init__(
        self,
        what: str,
        why: str = "",
        hint: str = "nightlab doctor",
        *,
        answer: str = "out_of_scope",
    ) -> None:
        super().__init__(what, why, hint)
        self.answer = answer


class DuplicateError(ScopeError):
    """An earlier experiment tried just that; the message names it and its verdict."""

    def __init__(self, what: str, why: str = "", hint: str = "propose something else") -> None:
        super().__init__(what, why, hint, answer="duplicate")


class GitError(NightlabError):
    """git refused, or the repository is not in the state the journal says."""


class SealError(NightlabError):
    """A protected file changed: nothing measured from now on would compare."""


class JournalError(NightlabError):
    """The journal cannot be read or written."""


class LockedError(JournalError):
    """Another nightlab process is the writer of this study."""


class MetricError(NightlabError):
    """A measurement was printed that is not one."""


class SandboxError(NightlabError):
    """The sandbox could not be set up. Infrastructure: retried, never judged."""


class ExecutorError(NightlabError):
    """A run could not be started or was lost. Infrastructure: retried, never judged."""


class ResearcherError(NightlabError):
    """No proposal came of this attempt. The night goes on.

    ``answer`` is a ``model.Answer``, ``usage`` a ``model.Usage`` or None (what the attempt
    cost all the same). ``retry_after_s`` is what a rate limit asked for, None where it did not.
    """

    def __init__(
        self,
        what: str,
        why: str = "",
        hint: str = "nightlab doctor",
        *,
        answer: str = "failed",
        usage: object = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(what, why, hint)
        self.answer = answer
        self.usage = usage
        self.retry_after_s = retry_after_s


class Exhausted(ResearcherError):  # noqa: N818  a state, as StopIteration is
    """The researcher has nothing left to propose: a sweep or a script has ended."""
