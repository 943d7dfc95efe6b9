"""Signals, ptrace and other tricks at the processes above. nightlab runs in one of its own here."""

from __future__ import annotations

from tests.redteam.attack import LANDLOCK, PARENT, PROCESS, Attack

_SHIM = """
import signal
# /bin/sh may stand between the command and its watcher.
pid, above = os.getppid(), []
while pid > 1 and pid != W.NIGHTLAB and len(above) < 8:
    above.append(pid)
    try:
        pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        break
"""


def _signal(name: str, number: str) -> Attack:
    code = (
        _SHIM
        + f"armed()\nfor pid in above:\n    with attempt():\n        os.kill(pid, {number})\ntime.sleep(0.2)"
    )
    return Attack(f"{name} to its watcher", PARENT, code, alone=True, wall_s=1.5)


def _nightlab(name: str, step: str, **more: object) -> Attack:
    code = f"import ctypes, signal\nlibc = ctypes.CDLL(None)\nwith attempt():\n    {step}\narmed()"
    more = {"through": (PROCESS,)} | more
    return Attack(name, PARENT, code, alone=True, wall_s=6.0, **more)  # type: ignore[arg-type]


def _said(word: bytes) -> object:
    return lambda scene: (
        [f"it could {word.decode()} nightlab"] if word + b"!" in scene.output else []
    )


ATTACKS = (
    _signal("SIGTERM", "signal.SIGTERM"),
    _signal("SIGSTOP", "signal.SIGSTOP"),
    _signal("SIGKILL", "signal.SIGKILL"),
    _nightlab("SIGTERM to nightlab", "armed(); os.kill(W.NIGHTLAB, signal.SIGTERM)"),
    _nightlab("SIGKILL to nightlab", "armed(); os.kill(W.NIGHTLAB, signal.SIGKILL)"),
    _nightlab("SIGSTOP to nightlab", "armed(); os.kill(W.NIGHTLAB, signal.SIGSTOP)", slow=True),
    _nightlab(
        "ptrace of nightlab",
        'libc.ptrace(0x4206, W.NIGHTLAB, None, None) == 0 and print("trace!")',  # PTRACE_SEIZE
        as_root=True,
        sees=_said(b"trace"),
    ),
    _nightlab(
        "resource limits of nightlab",
        "import resource; now = resource.prlimit(W.NIGHTLAB, resource.RLIMIT_CORE)\n"
        "    resource.prlimit(W.NIGHTLAB, resource.RLIMIT_CORE, now); print('limit!')",
        as_root=True,
        through=(PROCESS, LANDLOCK),
        sees=_said(b"limit"),
    ),
    _nightlab(
        "nightlab offered to the out-of-memory killer",
        "score = f'/proc/{W.NIGHTLAB}/oom_score_adj'; now = open(score).read()\n"
        "    open(score, 'w').write(now); print('offer!')",
        as_root=True,
        sees=_said(b"offer"),
    ),
    _nightlab(
        "nightlab's priority",
        "now = os.getpriority(os.PRIO_PROCESS, W.NIGHTLAB)\n"
        "    os.setpriority(os.PRIO_PROCESS, W.NIGHTLAB, now); print('slow!')",
        sees=_said(b"slow"),
    ),
    _nightlab(
        "every process of its group killed",
        "armed(); os.killpg(0, signal.SIGKILL)",
        through=(),
    ),
)
