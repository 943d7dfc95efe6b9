"""Every attack in every sandbox that works here: stopped or flagged, or known to get through."""

from __future__ import annotations

import atexit
import functools
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nightlab.errors import NightlabError
from nightlab.sandboxes import SANDBOXES, Options, open_sandbox
from tests.redteam import image, table
from tests.redteam.attack import BUBBLEWRAP, CLOCK, EVERY, FORGING, MUST, RULER, Attack
from tests.redteam.attacks import ATTACKS
from tests.redteam.world import World, opened

ROOT = Path(__file__).parents[2]
LINUX = sys.platform == "linux"
pytestmark = pytest.mark.skipif(not LINUX, reason="the witness looks in /proc")
AT_ONCE = ("process", BUBBLEWRAP)  # of the others, what is no sample is behind the marker ``slow``
# One or two of each kind, so that every sandbox is tried at every test: under a minute in all.
SAMPLE = frozenset((
    "write-to-the-person's-checkout",
    "make-a-file-of-the-person's-world-writable",
    "ssh-keys",
    "a-TCP-connection",
    "the-ssh-agent's-socket",
    "a-daemon-that-forked-twice-and-ignores-signals",
    "many-processes-that-take-all-memory",
    "many-files-that-fill-the-disk-together",
    "rewrite-prepare.py-on-disk",
    "a-second-block-after-the-true-one",
    "a-plausible-number,-in-a-sealed-study",
    "return-at-once-with-a-plausible-number",
    "posix-shared-memory",
    "SIGKILL-to-its-watcher",
    "escape-sequences-in-an-exception",
))  # fmt: skip
# What nightlab itself must not do, whatever the sandbox.
NEVER = ("nightlab failed", "nightlab took it", "a run could not be started")
# As a user who is not root: what only root's powers could have stopped, and what only they
# could have let through.
AS_USER = (
    "write-to-an-absolute-path",
    "ssh-keys",
    "the-environment-of-nightlab-and-its-watcher",
    "the-memory-of-nightlab",
    "a-TCP-connection",
    "docker's-socket",
    "a-hundred-and-twenty-children-that-ignore-signals",
    "a-daemon-that-forked-twice-and-ignores-signals",
    "usercustomize.py-in-the-user's-site",
    "rewrite-prepare.py-on-disk",
    "a-log-rewritten-by-the-run",
    "system-V-shared-memory",
)


def _cases(*, alone: bool) -> Iterator[object]:
    for sandbox in SANDBOXES:
        for attack in ATTACKS:
            if attack.alone == alone:
                slow = attack.slow or (sandbox not in AT_ONCE and attack.id not in SAMPLE)
                marks = [pytest.mark.slow] if slow else []
                yield pytest.param(sandbox, attack, id=f"{sandbox}-{attack.id}", marks=marks)


@functools.cache
def _why_not(sandbox: str) -> str:
    """Why this sandbox cannot be tried on this machine, "" where it can."""
    if sandbox == "container" and (why := image.build()):
        return f"no image for the container: {why}"
    try:
        open_sandbox(sandbox, Options(image=image.NAME))
    except NightlabError as error:
        return f"{sandbox} does not work here: {error.what}: {error.why}"
    return ""


class _Worlds:
    """The world of one sandbox at a time: each sets HOME, and is opened once."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._open: tuple[str, World] | None = None

    def of(self, sandbox: str) -> World:
        if self._open is None or self._open[0] != sandbox:
            self.close()
            self._open = sandbox, self._stack.enter_context(opened(sandbox))
        return self._open[1]

    def close(self) -> None:
        self._open = None
        self._stack.close()


@pytest.fixture(scope="module")
def worlds() -> Iterator[_Worlds]:
    found = _Worlds()
    yield found
    found.close()


def hold(attack: Attack, sandbox: str, effects: list[str], *, root: bool, log: str) -> None:
    """What happened is what the attack says: both ways, so that the table stays true."""
    for effect in effects:
        assert not effect.startswith((*NEVER, *attack.never)), (
            f"{effect}. It printed: {log[-1500:]}"
        )
    known = attack.gets_through(sandbox, root=root)
    if known:
        assert effects, f"{sandbox} is said not to stop this, and does. It printed: {log[-1500:]}"
    else:
        must = MUST[attack.category]
        assert not effects, f"must be seen: {must}; instead: {effects}. It printed: {log[-1500:]}"


@pytest.mark.parametrize(("sandbox", "attack"), list(_cases(alone=False)))
def test_an_attack_is_stopped_or_known_to_get_through(
    worlds: _Worlds, sandbox: str, attack: Attack
) -> None:
    if why := attack.needs() or _why_not(sandbox):
        pytest.skip(why)
    world = worlds.of(sandbox)
    scene = world.play(attack)
    if attack.arms and scene.runs:
        assert b"armed" in scene.output, f"it never came to its attack: {scene.output[-2000:]!r}"
    log = scene.output.decode("utf-8", "replace")
    hold(attack, world.sandbox.name, scene.effects, root=os.geteuid() == 0, log=log)


def _solo(
    sandbox: str,
    names: list[str],
    *,
    prefix: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    timeout_s: float = 20.0,
) -> tuple[int | None, list[dict[str, object]], str]:
    """A nightlab of its own that plays these attacks: its exit code (None: it hung), its lines."""
    whole = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])} | (
        env or {}
    )
    whole["REDTEAM_IMAGE"] = image.TAG
    whole["REDTEAM_SECRET"] = f"sesame-env-{os.getpid()}"
    python = whole.pop("REDTEAM_PYTHON", sys.executable)
    # Below a folder of ours: a nightlab that is killed tidies nothing up.
    folder = ""
    if env is None:
        whole["TMPDIR"] = folder = tempfile.mkdtemp(prefix="redteam-solo-")
        os.chmod(folder, 0o755)
    with tempfile.TemporaryFile() as said, subprocess.Popen(
        [*prefix, python, "-m", "tests.redteam.solo", sandbox, *names],
        cwd=ROOT, env=whole, stdout=subprocess.PIPE, stderr=said, start_new_session=True,
    ) as child:  # fmt: skip
        code: int | None
        try:
            out, _ = child.communicate(timeout=timeout_s)
            code = child.returncode
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            out, _ = child.communicate()
            code = None
        said.seek(0)
        error = said.read()[-3000:].decode("utf-8", "replace")
    if env is None:
        subprocess.run(["rm", "-rf", folder], check=False)
    return code, [json.loads(line) for line in out.splitlines()], error


@pytest.mark.parametrize(("sandbox", "attack"), list(_cases(alone=True)))
def test_an_attack_on_nightlab_itself(sandbox: str, attack: Attack) -> None:
    if why := attack.needs():
        pytest.skip(why)
    if why := _why_not(sandbox):
        pytest.skip(why)
    code, lines, error_text = _solo(sandbox, [attack.id])
    assert lines, error_text
    effects = []
    if code is None:
        effects.append("nightlab hangs")
    elif code < 0:
        effects.append(f"nightlab was killed by signal {-code}")
    else:
        assert code == 0, error_text
        assert lines[-1]["armed"], lines[-1]
        effects += lines[-1]["effects"]  # type: ignore[arg-type]
    hold(attack, sandbox, effects, root=os.geteuid() == 0, log=str(lines[-1]))


_PROBE = (
    "import subprocess, sys, msgspec, psutil, pytest, tests.redteam.solo\n"
    "subprocess.run([sys.executable, '-c', ''], check=True)"
)


def _user() -> tuple[str, str, str]:
    """A user of no rights, and a Python that it can start: (name, python, packages)."""
    if os.geteuid() != 0:
        pytest.skip("these tests run as an unprivileged user anyway")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not here")
    name = "redteam-user"
    try:
        pwd.getpwnam(name)
    except KeyError:
        if shutil.which("useradd") is None:
            pytest.skip("useradd is not here")
        made = subprocess.run(
            ["useradd", "-M", "-s", "/bin/sh", name], capture_output=True, check=False
        )
        if made.returncode != 0:
            pytest.skip(f"no user can be made: {made.stderr.decode()[:200]}")
        atexit.register(subprocess.run, ["userdel", name], check=False)
    major, minor = sys.version_info[:2]
    packages = str(Path(pytest.__file__).parents[1])
    for python in (sys.executable, f"/usr/bin/python{major}.{minor}"):
        probe = ["setpriv", f"--reuid={name}", f"--regid={name}", "--clear-groups", python, "-c",
                 _PROBE]  # fmt: skip
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT), packages])
        done = subprocess.run(
            probe,
            env={"PATH": os.defpath, "PYTHONPATH": path},
            cwd="/",
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            return name, python, path
    pytest.skip(
        "no Python that another user can start has the packages: " + done.stderr.decode()[-200:]
    )


@pytest.mark.parametrize("sandbox", [s for s in (BUBBLEWRAP, "landlock") if s in SANDBOXES])
def test_an_unprivileged_user_is_as_safe(sandbox: str, tmp_path: Path) -> None:
    """Without root's powers: the most important attacks again, all in one nightlab."""
    del tmp_path
    if why := _why_not(sandbox):
        pytest.skip(why)
    name, python, path = _user()
    with tempfile.TemporaryDirectory(prefix="redteam-user-") as home:
        shutil.chown(home, name, name)
        prefix = ("setpriv", f"--reuid={name}", f"--regid={name}", "--clear-groups", "--")
        env = {"REDTEAM_PYTHON": python, "PYTHONPATH": path, "HOME": home, "TMPDIR": home}
        code, lines, error = _solo(sandbox, list(AS_USER), prefix=prefix, env=env, timeout_s=90)
    assert code == 0, (code, lines, error)
    by_id = {attack.id: attack for attack in ATTACKS}
    played = [line for line in lines if "name" in line]
    skipped = [line for line in lines if line.get("skip")]
    assert len(played) + len(skipped) == len(AS_USER)
    for line in played:
        assert line["armed"], line
        hold(by_id[str(line["name"])], sandbox, line["effects"], root=False, log=str(line))  # type: ignore[arg-type]


def test_bubblewrap_lets_nothing_through_but_what_a_program_says_of_itself() -> None:
    """In a reported study the candidate measures itself: no box can see that it lies."""
    open_ones = [a for a in ATTACKS if BUBBLEWRAP in a.through]
    assert all(a.study != "sealed" and a.judged for a in open_ones)
    assert {a.category for a in open_ones} <= {FORGING, RULER, CLOCK}
    assert all(a.why for a in open_ones)


def test_there_are_attacks_of_every_kind() -> None:
    assert len(ATTACKS) >= 40
    assert {a.category for a in ATTACKS} == set(MUST)
    assert len({a.id for a in ATTACKS}) == len(ATTACKS)
    assert set(AS_USER) | SAMPLE <= {a.id for a in ATTACKS}
    assert {a.category for a in ATTACKS if a.id in SAMPLE and not a.slow} == set(MUST)
    assert {s for a in ATTACKS for s in a.through} <= set(EVERY)


def test_the_threat_model_shows_the_table() -> None:
    """docs/threat-model.md between its markers is what ``python -m tests.redteam.table`` prints."""
    page = ROOT / "docs" / "threat-model.md"
    if not page.exists() or table.BEGIN not in page.read_text("utf-8"):
        pytest.skip("docs/threat-model.md has no markers for the table")
    shown = page.read_text("utf-8").split(table.BEGIN, 1)[1].split(table.END, 1)[0]
    assert shown.strip() == table.table(), "python -m tests.redteam.table prints the new one"
