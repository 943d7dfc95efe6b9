"""What one run leaves for the next: a warm start is a cheat."""

from __future__ import annotations

from tests.redteam.attack import LANDLOCK, PROCESS, STATE, Attack
from tests.redteam.world import Scene

_TAG = "smuggled-state"


def _found(scene: Scene) -> list[str]:
    return (
        ["the second run found what the first left"] if b"found: smuggled" in scene.output else []
    )


def _leave(name: str, place: str, **more: object) -> Attack:
    """The first run (seed 1) leaves a file, the second looks for it."""
    code = f"""
with attempt():
    path = {place}
    if W.SEED == 1:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").write("smuggled")
    else:
        print("found:", open(path).read())
armed()
"""
    more = {"through": (PROCESS,)} | more
    return Attack(name, STATE, code, runs=2, sees=_found, **more)  # type: ignore[arg-type]


def _both(name: str, first: str, second: str, **more: object) -> Attack:
    def indented(text: str) -> str:
        return "\n".join("        " + line for line in text.strip().split("\n"))

    code = f"import ctypes\nlibc = ctypes.CDLL(None)\nwith attempt():\n    if W.SEED == 1:\n{indented(first)}\n    else:\n{indented(second)}\narmed()"
    more = {"through": (PROCESS,)} | more
    return Attack(name, STATE, code, runs=2, sees=_found, **more)  # type: ignore[arg-type]


ATTACKS = (
    _leave("a file in tmp", 'f"/tmp/{W.TOKEN}/state"'),
    _leave("a file in the home folder", 'f"{W.HOME}/.cache/{W.TOKEN}"'),
    _leave("a file in the last run's folder", 'f"{W.FIRST_RUN}/{W.TOKEN}"'),
    _leave("a file in its tree", 'os.path.abspath("state")', through=()),
    _leave("a file in its run folder", 'os.path.join(W.BOX, "state")', through=()),
    _leave("a file in the folder that holds all runs", 'os.path.join(W.RUN, "..", W.TOKEN)'),
    _leave(
        "a file in the cache that the study does not have",
        'os.path.join(os.path.dirname(os.path.dirname(W.RUN)), "cache", W.TOKEN)',
    ),
    _leave("posix shared memory", 'f"/dev/shm/{W.TOKEN}"', through=(PROCESS, LANDLOCK)),
    _leave("bytecode of the interpreter's own library", 'f"/var/tmp/{W.TOKEN}"'),
    _both(
        "system V shared memory",
        """
number = libc.shmget(int(W.TOKEN[-7:], 16), 4096, 0o1666)
libc.shmat.restype = ctypes.c_void_p
ctypes.memmove(libc.shmat(number, None, 0), b"smuggled", 9)
""",
        """
number = libc.shmget(int(W.TOKEN[-7:], 16), 4096, 0o666)
libc.shmat.restype = ctypes.c_void_p
where = libc.shmat(number, None, 0)
if number >= 0 and where:
    print("found:", ctypes.string_at(where).decode())
    libc.shmctl(number, 0, None)
""",
        through=(PROCESS, LANDLOCK),
    ),
    _both(
        "a kernel keyring",
        """
libc.syscall({"x86_64": 248, "aarch64": 217}[os.uname().machine],
             b"user", W.TOKEN.encode(), b"smuggled", 8, ctypes.c_long(-4))
""",
        """
key = libc.syscall({"x86_64": 249, "aarch64": 218}[os.uname().machine],
                   b"user", W.TOKEN.encode(), None, ctypes.c_long(0))
text = ctypes.create_string_buffer(16)
keyctl = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
if key > 0 and libc.syscall(keyctl, 11, key, text, 16) > 0:
    print("found:", text.value.decode())
""",
    ),
    _both(
        "a daemon that outlives its run",
        """
import signal, socket
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = socket.socket(socket.AF_UNIX)
    server.bind("\\0" + W.TOKEN)
    server.listen()
    while True:
        server.accept()[0].sendall(b"smuggled")
time.sleep(0.2)
""",
        """
import socket
client = socket.socket(socket.AF_UNIX)
client.connect("\\0" + W.TOKEN)
print("found:", client.recv(16).decode())
""",
        through=(),
    ),
)
