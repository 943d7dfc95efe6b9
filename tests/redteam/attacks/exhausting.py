"""Taking more than its share. All within bounds that a shared machine bears."""

from __future__ import annotations

from tests.redteam.attack import EXHAUSTING, LANDLOCK, PROCESS, Attack
from tests.redteam.world import Scene

LOG_MOST = 8 << 20


def _bounded_log(scene: Scene) -> list[str]:
    size = max(map(len, scene.logs))
    return [f"its log has {size >> 20} MB"] if size > LOG_MOST + 4096 else []


ATTACKS = (
    Attack(
        "one process that takes all memory",
        EXHAUSTING,
        "armed()\nhold = []\nfor _ in range(280):\n    hold.append(bytearray(os.urandom(1 << 10) * (1 << 10)))\n    time.sleep(0.01)\n"
        "time.sleep(3)",
        memory=True,
        outcomes=("oom",),
    ),
    Attack(
        "many processes that take all memory",
        EXHAUSTING,
        """
armed()
for _ in range(5):
    if os.fork() == 0:
        hold = bytearray(b"x" * (50 << 20))
        time.sleep(20)
        os._exit(0)
# A container's kernel may kill only one of them, and the honest program would go on.
os.waitstatus_to_exitcode(os.wait()[1]) == -9 and os.kill(os.getpid(), 9)
time.sleep(20)
""",
        memory=True,
        outcomes=("oom",),
    ),
    Attack(
        "memory taken through shared files",
        EXHAUSTING,
        """
armed()
with attempt():
    with open(f"/dev/shm/{W.TOKEN}", "wb") as file:
        for _ in range(200):
            file.write(bytes(1 << 20))
time.sleep(0.6)
""",
        memory=True,
        through=(PROCESS, LANDLOCK),
        why="pages of /dev/shm belong to no process, and stay",
    ),
    Attack(
        "a hundred processes",
        EXHAUSTING,
        """
children = 0
with attempt():
    for _ in range(100):
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
        children += 1
armed()
""",
    ),
    Attack(
        "fill the run's folder",
        EXHAUSTING,
        """
for place in (os.getcwd(), W.BOX, W.RUN):
    with attempt():
        with open(os.path.join(place, "junk"), "wb") as file:
            for _ in range(24):
                file.write(bytes(1 << 20))
armed()
""",
    ),
    Attack(
        "fill the shared temporary folder",
        EXHAUSTING,
        """
with attempt():
    with open(f"/tmp/{W.TOKEN}", "wb") as file:
        for _ in range(32):
            file.write(bytes(1 << 20))
armed()
""",
        through=(PROCESS,),
    ),
    Attack(
        "one huge sparse file as artifact",
        EXHAUSTING,
        """
artifact = os.environ["NIGHTLAB_ARTIFACT"]
with attempt():
    os.truncate(os.open(artifact + "/model.json", os.O_CREAT | os.O_RDWR), 1 << 40)
armed()
""",
        study="sealed",
        honest=False,
        outcomes=("no_metric",),
    ),
    Attack(
        "print without end",
        EXHAUSTING,
        'armed()\nline = "x" * 99 + "\\n"\nfor _ in range(300): sys.stdout.write(line * 1000)',
        sees=_bounded_log,
        outcomes=("ok",),
    ),
    Attack(
        "one line without end",
        EXHAUSTING,
        'armed()\nfor _ in range(30): sys.stdout.write("y" * (1 << 20))\nprint()',
        sees=_bounded_log,
        outcomes=("ok",),
    ),
    Attack(
        "print so fast that the pipe is always full and ignore the end",
        EXHAUSTING,
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\narmed()\n"
        "while True: os.write(1, bytes(1 << 16))",
        wall_s=0.7,
        sees=_bounded_log,
        outcomes=("timed_out",),
    ),
    Attack(
        "three thousand files",
        EXHAUSTING,
        """
os.mkdir("many")
with attempt():
    for number in range(3_000):
        os.close(os.open(f"many/{number}", os.O_CREAT))
armed()
""",
    ),
    Attack(
        "folders five thousand deep",
        EXHAUSTING,
        """
where = os.getcwd()
# A home that is the person's own (process) is another attack's.
homes = [] if os.path.exists(os.path.expanduser("~/.ssh")) else [os.path.expanduser("~")]
for place in (where, *homes):
    os.chdir(place)
    with attempt():
        for name in 1250 * (b"d", b"-r", b"\\n", b"\\xff"):
            os.mkdir(name); os.chdir(name)
        open(b"\\x80 f", "w").close()
os.chdir(where)
armed()
""",
    ),
    Attack(
        "folders five thousand deep in the artifact",
        EXHAUSTING,
        """
where = os.getcwd()
os.chdir(os.environ["NIGHTLAB_ARTIFACT"])
for _ in range(5000):
    os.mkdir("d"); os.chdir("d")
os.chdir(where)
armed()
""",
        study="sealed",
        slow=True,
    ),
    Attack(
        "names and modes that nobody can delete",
        EXHAUSTING,
        r"""
for name in (b"\xff\xfe", b"new\nline", b"-rf", b"a" * 255, b" "):
    os.mkdir(name)
    open(os.path.join(name, b"\x80"), "w").close()
    os.chmod(name, 0)
armed()
""",
    ),
    Attack(
        "every descriptor there is",
        EXHAUSTING,
        """
with attempt():
    hold = [os.open("/dev/null", os.O_RDONLY) for _ in range(100_000)]
armed()
for fd in range(5, 5000):
    with attempt():
        os.close(fd)
""",
    ),
    Attack(
        "many files that fill the disk together",
        EXHAUSTING,
        """
armed()
for number in range(48):
    with open(f"part{number}", "wb") as file:
        file.write(bytes(4 << 20))
time.sleep(20)
""",
        outcomes=("crashed",),
    ),
)
