"""The Landlock sandbox: the shipped contract, and each wall by trying to get through it."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nightlab import process
from nightlab.errors import SandboxError
from nightlab.sandboxes import Cell, Options, Sandbox, _landlock, open_sandbox
from nightlab.sandboxes.landlock import LandlockSandbox
from nightlab.testing.contracts import SANDBOX_CHECKS
from tests.support import boxed as run
from tests.support import hidden_behind_links, hides_behind_links


def why_not() -> str:
    try:
        LandlockSandbox().check()
    except SandboxError as error:
        return f"Landlock does not work here: {error.what}: {error.why}"
    return ""


WHY_NOT = why_not()
needs_landlock = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    tree, run_dir = tmp_path / "tree", tmp_path / "run"
    tree.mkdir()
    run_dir.mkdir()
    return Cell("true", tree, tree, run_dir)


def python(cell: Cell, source: str) -> Cell:
    (cell.tree / "probe.py").write_text(textwrap.dedent(source))
    return replace(cell, command=f"{sys.executable} probe.py")


@needs_landlock
@pytest.mark.parametrize("check", SANDBOX_CHECKS, ids=lambda check: check.__name__)
def test_landlock_keeps_the_contract(
    check: Callable[[Sandbox, Path], None], tmp_path: Path
) -> None:
    check(LandlockSandbox(), tmp_path)


@needs_landlock
def test_files_outside_can_be_neither_read_nor_written(cell: Cell, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sesame")
    data = tmp_path / "data"
    data.mkdir()
    (data / "x").write_text("data\n")
    command = (
        f"cat {secret}; ls {tmp_path}; echo x > {secret}; rm {secret}; mv {secret} a;"
        f" ln {secret} b; echo x > {data}/x; echo x > {data}/y; rm {data}/x;"
        f" cat /etc/shadow; ls /home ~root/.ssh; touch /tmp/nightlab-escaped; cat {data}/x"
    )
    done = run(LandlockSandbox(), replace(cell, command=command, data=(data,)))
    assert done.text.count("ermission denied") + done.text.count("cross-device link") >= 10
    assert "sesame" not in done.text
    assert done.text.endswith("data\n")
    assert secret.read_text() == "sesame"
    assert sorted(p.name for p in data.iterdir()) == ["x"]
    assert not Path("/tmp/nightlab-escaped").exists()


@needs_landlock
def test_no_socket_but_local_ones_can_be_made(cell: Cell) -> None:
    source = """
        import socket, errno
        for family in (socket.AF_INET, socket.AF_INET6, 16, 17, 40):
            try:
                socket.socket(family, socket.SOCK_DGRAM); print("made", family)
            except OSError as e:
                print(errno.errorcode[e.errno])
        a, b = socket.socketpair(); a.send(b"local"); print(b.recv(9).decode())
    """
    done = run(LandlockSandbox(), python(cell, source))
    assert done.text.splitlines() == ["EAFNOSUPPORT"] * 5 + ["local"]


@needs_landlock
@pytest.mark.skipif(_landlock.abi() < 6, reason="this kernel's Landlock has no scope of signals")
def test_no_process_outside_can_be_signalled_or_looked_into(cell: Cell) -> None:
    source = f"""
        import os
        for act in (lambda: os.kill({os.getppid()}, 0), lambda: open("/proc/{os.getppid()}/environ").read()):
            try:
                act(); print("done")
            except OSError as e:
                print(type(e).__name__)
    """
    done = run(LandlockSandbox(), python(cell, source))
    assert done.text.splitlines() == ["PermissionError"] * 2


@needs_landlock
def test_the_run_has_no_capability(cell: Cell) -> None:
    done = run(LandlockSandbox(), replace(cell, command="grep -E 'Cap|NoNew' /proc/self/status"))
    held = {line.split()[0]: line.split()[1] for line in done.text.splitlines()}
    assert held["CapEff:"] == held["CapPrm:"] == "0" * 16
    assert held["NoNewPrivs:"] == "1"


@needs_landlock
def test_home_and_temporary_folder_are_fresh_and_removed(cell: Cell, tmp_path: Path) -> None:
    command = 'echo 1 > "$HOME/x" && echo 2 > "$TMPDIR/y" && echo "$HOME" && ls -A "$HOME"'
    done = run(LandlockSandbox(), replace(cell, command=command))
    home, *names = done.text.splitlines()
    assert names == ["x"]
    assert not Path(home).exists()


@needs_landlock
def test_declared_data_below_home_is_found_there(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    cache = tmp_path / ".cache" / "autoresearch"
    cache.mkdir(parents=True)
    (cache / "tokens").write_text("tokens\n")
    (cache.parent / "other").write_text("secret\n")
    command = "cat ~/.cache/autoresearch/tokens; cat ~/.cache/other"
    done = run(LandlockSandbox(), replace(cell, command=command, data=(cache,)))
    assert done.text.startswith("tokens\n")
    assert "secret" not in done.text


@needs_landlock
def test_numpy_and_data_loaders_work_inside(cell: Cell) -> None:
    source = """
        import multiprocessing as mp, numpy, tempfile
        from multiprocessing import shared_memory
        if __name__ == "__main__":
            with mp.get_context("spawn").Pool(2) as pool:
                print(pool.map(abs, [-1, -2]))
            s = shared_memory.SharedMemory(create=True, size=1000); s.close(); s.unlink()
            with tempfile.TemporaryFile() as f:
                f.write(b"x")
            print(int(numpy.ones((9, 9)).sum()))
    """
    done = run(LandlockSandbox(), python(cell, source))
    assert done.text == "[1, 2]\n81\n"


@needs_landlock
def test_disk_bounds_what_a_run_writes_into_one_file(cell: Cell) -> None:
    sandbox = LandlockSandbox(Options(disk_bytes=1 << 20))
    done = run(sandbox, replace(cell, command="head -c 3000000 /dev/zero > big; wc -c < big"))
    assert "1048576" in done.text


@needs_landlock
def test_what_goes_wrong_before_the_command_is_no_crash_of_it(cell: Cell) -> None:
    launch = LandlockSandbox().launch(cell)
    argv = (*launch.argv[:-2], "999", launch.argv[-1])
    log = cell.run_dir / "log"
    finished = process.start(
        argv, env=launch.env, cwd=launch.cwd, wall_s=20, log=log, pass_fds=launch.pass_fds
    ).poll(30)
    assert finished is not None
    assert LandlockSandbox().broke(launch, finished) == "the launcher did not come up"
    launch.cleanup()
    assert run(LandlockSandbox(), replace(cell, command="exit 125")).broke is None


def test_a_kernel_without_landlock_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_landlock, "abi", lambda: 0)
    with pytest.raises(SandboxError) as raised:
        LandlockSandbox().check()
    assert "lsm" in raised.value.hint


def test_auto_says_why_a_stronger_sandbox_was_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    sandbox = open_sandbox("auto")
    assert sandbox.name in {"landlock", "process"}
    assert "bubblewrap: bwrap is not installed" in sandbox.leaves_open
    assert "no image is configured" in sandbox.leaves_open


@needs_landlock
def test_what_is_hidden_is_hidden_by_every_name(cell: Cell, tmp_path: Path) -> None:
    text = run(LandlockSandbox(), hidden_behind_links(cell, tmp_path / "linked")).text
    assert hides_behind_links(text), text
