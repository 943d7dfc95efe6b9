"""Living on: past the deadline, past the end of the main process."""

from __future__ import annotations

from tests.redteam.attack import TIMEOUT, Attack
from tests.redteam.world import Scene

_DEAF = """
import signal
for number in set(range(1, 65)) - {signal.SIGCHLD}:
    with attempt():
        signal.signal(number, signal.SIG_IGN)
"""
_KILLED = ("timed_out",)
_FINE = ("ok",)


def _soon(scene: Scene) -> list[str]:
    """Over at the deadline, the grace, and a margin for a busy machine."""
    late = scene.longest_s > scene.attack.wall_s + 6.0
    return [f"it went on for {scene.longest_s:.1f} s"] if late else []


def _early(scene: Scene) -> list[str]:
    late = scene.longest_s > 10.0
    return [f"its end was waited for {scene.longest_s:.1f} s"] if late else []


ATTACKS = (
    Attack(
        "ignore every signal and go on",
        TIMEOUT,
        _DEAF + "armed()\nwhile True: time.sleep(1)",
        wall_s=0.7,
        outcomes=_KILLED,
        sees=_soon,
    ),
    Attack(
        "print the metric and sleep past the deadline",
        TIMEOUT,
        'armed()\nprint("val_loss: 0.5", flush=True)\ntime.sleep(600)',
        wall_s=0.7,
        outcomes=_KILLED,
        sees=_soon,
    ),
    Attack(
        "spin in a loop that never yields",
        TIMEOUT,
        _DEAF + "armed()\nwhile True: pass",
        wall_s=0.7,
        outcomes=_KILLED,
        sees=_soon,
    ),
    Attack(
        "stop itself",
        TIMEOUT,
        "import signal\narmed()\nos.kill(os.getpid(), signal.SIGSTOP)",
        wall_s=0.7,
        outcomes=_KILLED,
        sees=_soon,
    ),
    Attack(
        "a child in a session of its own",
        TIMEOUT,
        _DEAF + "if os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\narmed()",
        outcomes=_FINE,
        sees=_early,
    ),
    Attack(
        "a daemon that forked twice and ignores signals",
        TIMEOUT,
        _DEAF
        + """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(64):
            with attempt():
                os.close(fd)
        time.sleep(600)
    os._exit(0)
os.wait()
armed()
""",
        outcomes=_FINE,
        sees=_early,
    ),
    Attack(
        "a daemon with an empty environment and another name",
        TIMEOUT,
        """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve("/bin/sh", ["kworker/0:1", "-c", "trap '' TERM HUP; sleep 600; true"], {})
    os._exit(0)
os.wait()
armed()
""",
        outcomes=_FINE,
        sees=_early,
    ),
    Attack(
        "a process that forks and exits for ever",
        TIMEOUT,
        _DEAF
        + """
until = time.monotonic() + 20
if os.fork() == 0:
    os.setsid()
    while time.monotonic() < until:
        if os.fork():
            os._exit(0)
        time.sleep(0.002)
    os._exit(0)
armed()
""",
        outcomes=_FINE,
        sees=_early,
    ),
    Attack(
        "a hundred and twenty children that ignore signals",
        TIMEOUT,
        _DEAF
        + """
for _ in range(120):
    try:
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
    except OSError:
        break
armed()
""",
        outcomes=(),
        sees=_early,
    ),
    Attack(
        "hold the output pipe after the end",
        TIMEOUT,
        "if os.fork() == 0:\n    time.sleep(600)\n    os._exit(0)\narmed()",
        outcomes=_FINE,
        sees=_early,
    ),
    Attack(
        "a subreaper of its own that hides a daemon",
        TIMEOUT,
        _DEAF
        + """
import ctypes
libc = ctypes.CDLL(None)
if os.fork() == 0:
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    libc.prctl(1, 0, 0, 0, 0)  # PR_SET_PDEATHSIG
    libc.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    os.setsid()
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    time.sleep(600)
time.sleep(0.1)
armed()
""",
        outcomes=_FINE,
        sees=_early,
    ),
    Attack(
        "close its output and go on",
        TIMEOUT,
        _DEAF + "armed()\nos.close(1); os.close(2)\ntime.sleep(600)",
        wall_s=0.7,
        outcomes=_KILLED,
        sees=_soon,
    ),
    Attack(
        "a thread leader that exits while a thread goes on",
        TIMEOUT,
        """
import ctypes, threading
threading.Thread(target=time.sleep, args=(600,)).start()
armed()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
""",
        wall_s=1.0,
        sees=_soon,
    ),
)
