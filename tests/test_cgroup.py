"""Control groups: the real ones of this machine where it has such, a laid-out folder elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nightlab import process
from nightlab.process import _cgroup
from nightlab.process._cgroup import Group, Home
from nightlab.testing.contracts import alive, fresh_sleep

REAL, WHY_NOT = _cgroup.home()
needs_groups = pytest.mark.skipif(REAL is None, reason=WHY_NOT)
needs_memory = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


def laid_out(folder: Path, controllers: str = "cpu memory pids") -> tuple[Path, Path]:
    """A folder that looks like the top of a hierarchy with one group, and /proc/self/cgroup."""
    group = folder / "user.scope"
    group.mkdir()
    for place in (folder, group):
        (place / "cgroup.controllers").write_text(controllers + "\n")
        (place / "cgroup.subtree_control").write_text("")
        (place / "cgroup.procs").write_text("")
    own = folder / "own"
    own.write_text("3:cpuset:/\n0::/user.scope\n")
    return folder, own


def settings(group: Group) -> dict[str, str]:
    return {path.name: path.read_text() for path in group.folder.iterdir()}


def test_a_groups_limits_are_written_as_the_kernel_wants_them(tmp_path: Path) -> None:
    home = Home(tmp_path, frozenset({"memory", "pids"}))
    group = home.group(300 << 20, 77)
    assert group is not None
    assert settings(group) == {
        "memory.max": str(300 << 20), "memory.swap.max": "0", "memory.oom.group": "1",
        "pids.max": "77",
    }  # fmt: skip
    other = home.group(None, None)
    assert other is not None
    assert other.folder != group.folder
    assert settings(other) == {"memory.oom.group": "1"}


def test_without_the_memory_controller_nothing_of_memory_is_written(tmp_path: Path) -> None:
    group = Home(tmp_path, frozenset()).group(1 << 20, 5)
    assert group is not None
    assert not group.holds_memory
    assert settings(group) == {}


def test_what_the_kernel_counted_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cgroup, "_GONE_WITHIN_S", 0.01)  # a plain folder is not removed
    group = Home(tmp_path, frozenset({"memory"})).group(1 << 20, None)
    assert group is not None
    assert group.close().oom_kills is None
    group.folder.mkdir(exist_ok=True)
    (group.folder / "memory.events").write_text(
        "low 0\nmax 9\noom 2\noom_kill 3\noom_group_kill 1\n"
    )
    (group.folder / "memory.peak").write_text("1048576\n")
    ended = group.close()
    assert (ended.oom_kills, ended.peak_bytes) == (3, 1 << 20)
    assert (group.folder / "cgroup.kill").read_text() == "1"


def test_a_group_that_cannot_be_made_is_none_and_nothing_is_left(tmp_path: Path) -> None:
    assert Home(tmp_path / "gone", frozenset({"memory"})).group(1, 1) is None
    home = Home(tmp_path, frozenset({"memory"}))
    number = next(_cgroup._count) + 1
    (tmp_path / f"run-{number}").write_text("in the way")
    assert home.group(1, 1) is None


def test_where_there_is_no_version_2_it_says_so(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("4:memory:/\n")
    found, why = _cgroup.look(tmp_path, own)
    assert found is None
    assert "version 2" in why


def test_controllers_are_handed_down_and_this_process_steps_aside(tmp_path: Path) -> None:
    root, _ = laid_out(tmp_path)
    base = root / "user.scope"
    (base / "cgroup.procs").write_text(f"{os.getpid()}\n")
    _cgroup._hand_down(base)
    leaf = base / f"{_cgroup._name(os.getpid())}-self"
    assert (leaf / "cgroup.procs").read_text() == str(os.getpid())
    assert (base / "cgroup.subtree_control").read_text() == "+pids"  # the last of two writes


def test_a_group_with_other_processes_is_left_as_it_is(tmp_path: Path) -> None:
    root, _ = laid_out(tmp_path)
    base = root / "user.scope"
    (base / "cgroup.procs").write_text(f"{os.getpid()}\n1\n")
    _cgroup._hand_down(base)
    assert not list(base.glob("nightlab-*"))


def test_its_own_children_step_aside_with_it(tmp_path: Path) -> None:
    root, _ = laid_out(tmp_path)
    base = root / "user.scope"
    with subprocess.Popen(["sleep", "60"]) as child:
        (base / "cgroup.procs").write_text(f"{os.getpid()}\n{child.pid}\n")
        _cgroup._hand_down(base)
        leaf = base / f"{_cgroup._name(os.getpid())}-self"
        last = max(os.getpid(), child.pid)  # one line is written after the other
        assert (leaf / "cgroup.procs").read_text() == str(last)
        child.kill()


def test_homes_of_the_living_are_told_from_those_of_the_dead() -> None:
    mine = _cgroup._name(os.getpid())
    assert not _cgroup._is_left(mine)
    assert _cgroup._is_left(mine.rpartition(".")[0] + ".1")  # a later process has the number
    assert not _cgroup._is_left("nightlab-7-1.1")  # of another space of numbers
    assert not _cgroup._is_left("nightlab-made-by-hand")


@needs_groups
def test_a_real_group_kills_what_is_in_it_and_is_gone() -> None:
    assert REAL is not None
    group = REAL.group(None, None)
    assert group is not None
    token = fresh_sleep()
    script = f"echo 0 > {group.entry}; trap '' TERM; (setsid sleep {token} &) ; sleep {token}"
    child = subprocess.Popen(["/bin/sh", "-c", script])
    while len(alive(token)) < 3:
        assert child.poll() is None
    ended = group.close()
    assert child.wait(10) == -9
    assert ended.survivors == ()
    assert alive(token) == []
    assert not group.folder.exists()


@needs_groups
def test_every_process_of_a_run_is_in_its_group_and_the_group_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the kernel offers no controller a run has no group: here it has one all the same.
    assert REAL is not None
    with_one = Home(REAL.folder, REAL.controllers or frozenset({"hugetlb"}))
    monkeypatch.setattr(_cgroup, "home", lambda: (with_one, ""))
    command = "cat /proc/self/cgroup; (setsid cat /proc/self/cgroup); sleep 0.1"
    finished = process.start(
        ["/bin/sh", "-c", command], env={"PATH": os.environ["PATH"]}, cwd=tmp_path, wall_s=30,
        log=tmp_path / "log",
    ).poll(40)  # fmt: skip
    assert finished is not None
    rows = [r for r in (tmp_path / "log").read_text().splitlines() if r.startswith("0::")]
    assert len(rows) == 2
    assert rows[0] == rows[1]
    name = rows[0].rpartition("/")[2]
    assert name.startswith("run-")
    assert not (REAL.folder / name).exists()


@needs_groups
def test_what_a_killed_nightlab_left_is_swept_at_the_next_start(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import os, subprocess, sys
        from nightlab.process import _cgroup
        home, _ = _cgroup.home()
        group = home.group(None, None)
        subprocess.Popen(["/bin/sh", "-c", f"echo 0 > {group.entry}; exec sleep " + sys.argv[1]])
        print(home.folder, flush=True)
        while True:
            sys.stdin.read()
    """)
    token = fresh_sleep()
    with subprocess.Popen(
        [sys.executable, "-c", program, token], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    ) as lab:  # fmt: skip
        assert lab.stdout is not None
        folder = Path(lab.stdout.readline().strip())
        while not alive(f"sleep\0{token}"):
            assert lab.poll() is None
        lab.kill()
    assert folder.exists()
    start = "from nightlab.process import _cgroup; print(_cgroup.home()[0] is not None)"
    next_one = subprocess.run([sys.executable, "-c", start], capture_output=True, check=True)
    assert next_one.stdout == b"True\n"
    assert not folder.exists()
    assert not alive(f"sleep\0{token}")


@needs_memory
def test_a_hog_is_ended_by_the_kernel_and_told_as_such(tmp_path: Path) -> None:
    hog = f"{sys.executable} -c 'x = bytearray(400 << 20); x[::4096] = b\"1\" * len(x[::4096])'"
    finished = process.start(
        ["/bin/sh", "-c", hog], env={}, cwd=tmp_path, wall_s=30, log=tmp_path / "log",
        memory_bytes=100 << 20,
    ).poll(40)  # fmt: skip
    assert finished is not None
    assert finished.oom
