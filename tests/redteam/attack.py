"""What an attack is: a train.py that does harm, and what each sandbox can do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.redteam.world import Scene

PROCESS, LANDLOCK, CONTAINER, BUBBLEWRAP = "process", "landlock", "container", "bubblewrap"
EVERY = (PROCESS, LANDLOCK, CONTAINER, BUBBLEWRAP)

WRITING = "writing outside"
READING = "reading secrets"
NETWORK = "network"
TIMEOUT = "escaping the timeout"
EXHAUSTING = "exhausting the machine"
RULER = "tampering with the ruler"
FORGING = "forged metrics"
CLOCK = "tampering with the clock"
STATE = "state smuggled between runs"
PARENT = "signals and ptrace at nightlab"
INJECTION = "hostile text in logs"

# What must be seen after an attack of this category, besides what is looked at after each.
MUST = {
    WRITING: "no file outside the run's own folder has changed",
    READING: "no planted secret is in what the run printed",
    NETWORK: "no listener of the machine has heard a byte",
    TIMEOUT: "the run is over soon after its deadline and no process of it lives",
    EXHAUSTING: "nightlab lives, and what was taken is given back",
    RULER: "the experiment is not kept",
    FORGING: "the experiment is not kept",
    CLOCK: "the experiment is not kept",
    STATE: "a second run finds nothing of the first",
    PARENT: "nightlab lives and goes on, unchanged",
    INJECTION: "nothing that is shown to a person or an agent holds a control character",
}


def nothing(_scene: Scene) -> list[str]:
    return []


def always() -> str:
    return ""


@dataclass(frozen=True)
class Attack:
    """One misbehaving train.py.

    ``code`` runs before the honest training (``honest``) or in its place, and calls
    ``armed()`` when it has done what it came for: an attack that failed by its own fault would
    else pass for one that was stopped. ``through`` names the sandboxes that cannot stop
    it; with ``as_root`` only where nightlab itself runs as root. ``judged`` asks the judge
    for its decision, and being kept is getting through. ``study`` is the kind of study
    (see ``world``). ``sees`` looks for effects that are this attack's own. ``outcomes`` are those
    that its runs may have; () is any but lost. ``alone`` gives nightlab a process of its own.
    ``never`` begins what must not be seen even where it gets through.
    ``needs`` says why the attack cannot be tried on this machine, "" where it can.
    """

    name: str
    category: str
    code: str
    through: tuple[str, ...] = ()
    as_root: bool = False
    study: str = "reported"
    honest: bool = True
    runs: int = 1
    judged: bool = False
    wall_s: float = 30.0
    outcomes: tuple[str, ...] = ()
    sees: Callable[[Scene], list[str]] = nothing
    needs: Callable[[], str] = always
    arms: bool = True
    alone: bool = False
    slow: bool = False
    memory: bool = False
    why: str = ""
    never: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.name.replace(" ", "-").replace("/", "-")

    def gets_through(self, sandbox: str, *, root: bool) -> bool:
        return sandbox in self.through and (root or not self.as_root)
