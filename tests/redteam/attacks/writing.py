"""Writing where no run should."""

from __future__ import annotations

from pathlib import Path

from tests.redteam.attack import LANDLOCK, PROCESS, WRITING, Attack
from tests.redteam.world import Scene


def _write(name: str, place: str, **more: object) -> Attack:
    code = f"""
with attempt():
    path = {place}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "a").write(W.TOKEN + "\\n")
armed()
"""
    return Attack(name, WRITING, code, through=(PROCESS,), **more)  # type: ignore[arg-type]


def _ran(scene: Scene) -> list[str]:
    """What a planted hook or filter leaves when somebody runs it."""
    return (
        ["the next git of nightlab's has run what it planted"]
        if Path(f"/tmp/ran-{scene.token}").exists()
        else []
    )


ATTACKS = (
    _write("write to an absolute path", 'W.OUTSIDE + "/canary"'),
    _write(
        "write through dot dot",
        'os.path.join(os.getcwd(), *[".."] * 20, W.OUTSIDE.lstrip("/"), "canary")',
    ),
    _write("write to the person's checkout", 'W.PROJECT + "/prepare.py"'),
    _write("write to nightlab's journal", 'W.STUDY + "/journal.jsonl"'),
    _write("write to the ledger", 'W.STUDY + "/results.tsv"'),
    _write("write into another run's folder", 'W.FIRST_RUN + "/log.txt"'),
    _write("write to bashrc", 'W.HOME + "/.bashrc"'),
    _write("write an ssh key", 'W.HOME + "/.ssh/authorized_keys"'),
    _write("write into a system folder", '"/usr/local/" + W.TOKEN', as_root=True),
    _write("move the main branch", 'W.PROJECT + "/.git/refs/heads/main"'),
    Attack(
        "write through a planted symlink",
        WRITING,
        """
with attempt():
    os.symlink(W.OUTSIDE + "/canary", "mine")
    open("mine", "w").write(W.TOKEN)
armed()
""",
        through=(PROCESS,),
    ),
    Attack(
        "write through a hard link",
        WRITING,
        """
with attempt():
    os.link(W.OUTSIDE + "/canary", "mine")
    open("mine", "w").write(W.TOKEN)
armed()
""",
        through=(PROCESS,),
    ),
    Attack(
        "links that nightlab follows when it cleans up",
        WRITING,
        """
os.symlink(W.OUTSIDE, "out")
os.symlink(W.OUTSIDE + "/folder", os.path.join(W.BOX, "link"))
with attempt():
    os.rename(os.environ["NIGHTLAB_ARTIFACT"], "moved")
with attempt():
    os.symlink(W.OUTSIDE, os.environ["NIGHTLAB_ARTIFACT"])
os.mkdir("locked"); open("locked/x", "w"); os.chmod("locked", 0)
armed()
""",
    ),
    Attack(
        "move the run's own tree away and put a link in its place",
        WRITING,
        """
os.chdir("/")
tree = os.path.dirname(os.path.abspath(__file__))
with attempt():
    os.rename(tree, tree + "-moved")
    os.symlink(W.OUTSIDE, tree)
armed()
""",
        honest=False,
    ),
    Attack(
        "make a file of the person's world-writable",
        WRITING,
        """
with attempt():
    os.chmod(W.OUTSIDE + "/canary", 0o666)
armed()
""",
        through=(PROCESS, LANDLOCK),
    ),
    Attack(
        "plant a git hook",
        WRITING,
        """
for hook in ("post-commit", "reference-transaction", "post-checkout", "post-index-change"):
    with attempt():
        path = f"{W.PROJECT}/.git/hooks/{hook}"
        open(path, "w").write(f"#!/bin/sh\\ntouch /tmp/hook-{W.TOKEN}\\n")
        os.chmod(path, 0o755)
armed()
""",
        through=(PROCESS,),
    ),
    Attack(
        "a planted git hook or filter that nightlab would run",
        WRITING,
        """
program = f"touch /tmp/ran-{W.TOKEN}; cat"
git = W.PROJECT + "/.git"
for hook in ("post-commit", "reference-transaction", "post-checkout", "post-index-change"):
    with attempt():
        open(f"{git}/hooks/{hook}", "w").write(f"#!/bin/sh\\n{program} >&2 </dev/null\\n")
        os.chmod(f"{git}/hooks/{hook}", 0o755)
with attempt():
    open(git + "/config", "a").write(
        f'[filter "evil"]\\n\\tclean = "{program}"\\n\\tsmudge = "{program}"\\n'
        f'[core]\\n\\tfsmonitor = "{program}"\\n\\tsshCommand = "{program}"\\n'
        f'[gpg]\\n\\tprogram = "{program}"\\n[commit]\\n\\tgpgSign = false\\n'
    )
    os.makedirs(git + "/info", exist_ok=True)
    open(git + "/info/attributes", "w").write("* filter=evil\\n")
armed()
""",
        through=(PROCESS,),
        sees=_ran,
        runs=2,
        why="it is planted, for the person's own git; nightlab's runs none of it, and the study stops",
        never=("the next git",),
    ),
)
