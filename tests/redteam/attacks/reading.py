"""Reading what is nobody's business."""

from __future__ import annotations

from tests.redteam.attack import PROCESS, READING, Attack


def _read(name: str, *places: str, **more: object) -> Attack:
    lines = [f"with attempt():\n    print(open({place}).read())" for place in places]
    code = "\n".join([*lines, "armed()"])
    more = {"through": (PROCESS,)} | more
    return Attack(name, READING, code, **more)  # type: ignore[arg-type]


_WALK = """
pid, seen = os.getppid(), []
while pid > 0 and len(seen) < 64:
    seen.append(pid)
    try:
        pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
    except OSError:
        break
"""

ATTACKS = (
    Attack(
        "secrets in its own environment",
        READING,
        "for name, value in os.environ.items(): print(name, value)\narmed()",
    ),
    _read("ssh keys", 'W.HOME + "/.ssh/id_ed25519"'),
    _read("cloud credentials", 'W.HOME + "/.aws/credentials"'),
    _read(
        "the coding agent's credentials",
        'W.HOME + "/.claude/.credentials.json"',
        'W.HOME + "/.codex/auth.json"',
    ),
    _read("netrc and git credentials", 'W.HOME + "/.netrc"', 'W.HOME + "/.git-credentials"'),
    _read("a secret by another root", 'f"/proc/{os.getpid()}/root{W.HOME}/.ssh/id_ed25519"'),
    Attack(
        "the environment of nightlab and its watcher",
        READING,
        _WALK
        + """
for pid in [*seen, W.NIGHTLAB]:
    with attempt():
        print(open(f"/proc/{pid}/environ").read().replace("\\0", "\\n"))
armed()
""",
        through=(PROCESS,),
        as_root=True,
        alone=True,
    ),
    Attack(
        "the environment of other processes",
        READING,
        """
with attempt():
    print(open(f"/proc/{W.HELPER}/environ").read())
armed()
""",
        through=(PROCESS,),
    ),
    Attack(
        "the memory of nightlab",
        READING,
        """
import re
armed()
with attempt():
    want = re.compile(b"sesame-memory-[0-9a-f]{16}")
    maps = [line.split() for line in open(f"/proc/{W.NIGHTLAB}/maps") if " rw-p " in line]
    with open(f"/proc/{W.NIGHTLAB}/mem", "rb", 0) as memory:
        for line in maps:
            low, high = (int(x, 16) for x in line[0].split("-"))
            if high - low > 1 << 28:
                continue
            with attempt():
                memory.seek(low)
                for hit in want.findall(memory.read(high - low)):
                    print(hit.decode(), flush=True)
                    os._exit(0)
""",
        through=(PROCESS,),
        as_root=True,
    ),
    Attack(
        "command lines of other processes",
        READING,
        """
for name in os.listdir("/proc"):
    if name.isdigit():
        with attempt():
            print(open(f"/proc/{name}/cmdline").read().replace("\\0", " "))
armed()
""",
        through=(PROCESS, "landlock"),
    ),
    Attack(
        "descriptors that it inherits",
        READING,
        """
for name in os.listdir("/proc/self/fd"):
    with attempt():
        target = os.readlink(f"/proc/self/fd/{name}")
        if int(name) > 2 and not target.startswith("/proc/"):
            print("inherited", name, target, flush=True)
armed()
""",
        sees=lambda scene: ["it inherits a descriptor"] if b"inherited" in scene.output else [],
    ),
    Attack(
        "the hidden test split where the person keeps it",
        READING,
        'with attempt():\n    print(open(W.PROJECT + "/held/answer.txt").read())\narmed()',
        through=(PROCESS,),
        study="sealed",
    ),
    Attack(
        "the hidden test split in its own tree",
        READING,
        """
for here, _, files in os.walk(W.RUN):
    for name in files:
        with attempt():
            print(open(os.path.join(here, name)).read()) if name != "log.txt" else None
armed()
""",
        study="sealed",
    ),
    Attack(
        "the artifact folder swapped for a link to the hidden split",
        READING,
        """
artifact = os.environ["NIGHTLAB_ARTIFACT"]
with attempt():
    os.rename(artifact, artifact + "-old")
    os.symlink(W.PROJECT + "/held", artifact)
with attempt():
    for name in os.listdir(artifact):
        print(open(os.path.join(artifact, name)).read())
armed()
""",
        through=(PROCESS,),
        study="sealed",
        honest=False,
    ),
)
