"""The bubblewrap sandbox: the shipped contract, and each wall by trying to get through it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nightlab import process
from nightlab.errors import SandboxError
from nightlab.sandboxes import Cell, Options, Sandbox, _seccomp, bubblewrap
from nightlab.sandboxes._tree import sealed
from nightlab.sandboxes.bubblewrap import BubblewrapSandbox
from nightlab.sandboxes.landlock import LandlockSandbox
from nightlab.testing.contracts import SANDBOX_CHECKS, alive, fresh_sleep
from tests.support import boxed as run
from tests.support import hidden_behind_links, hides_behind_links


def why_not() -> str:
    try:
        BubblewrapSandbox().check()
    except SandboxError as error:
        return f"bubblewrap does not work here: {error.what}: {error.why}"
    return ""


WHY_NOT = why_not()
needs_bubblewrap = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.fixture(scope="module")
def box() -> BubblewrapSandbox:
    return BubblewrapSandbox()


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    """A project with a file in scope, one that is sealed, and a folder of both."""
    tree, run_dir = tmp_path / "tree", tmp_path / "run"
    (tree / "pkg").mkdir(parents=True)
    run_dir.mkdir()
    for name in ("train.py", "prepare.py", "pkg/model.py", "pkg/evaluate.py"):
        (tree / name).write_text("original\n")
    return Cell("true", tree, tree, run_dir, writable=("train.py", "pkg/model.py"))


def python(cell: Cell, source: str, name: str = "probe.py") -> Cell:
    """The cell, with this program as its command."""
    (cell.tree / name).write_text(textwrap.dedent(source))
    return replace(cell, command=f"{sys.executable} {name}")


@needs_bubblewrap
@pytest.mark.parametrize("check", SANDBOX_CHECKS, ids=lambda check: check.__name__)
def test_bubblewrap_keeps_the_contract(
    check: Callable[[Sandbox, Path], None], box: Sandbox, tmp_path: Path
) -> None:
    check(box, tmp_path)


@needs_bubblewrap
def test_a_sealed_file_can_be_read_and_not_changed_moved_or_removed(
    box: Sandbox, cell: Cell
) -> None:
    attacks = "cat prepare.py; echo x > prepare.py; rm prepare.py; mv prepare.py a; chmod 777 prepare.py; ln -f train.py prepare.py; echo x > pkg/evaluate.py; rm -rf pkg; cat pkg/evaluate.py prepare.py"
    done = run(box, replace(cell, command=attacks))
    assert done.text.startswith("original\n")
    assert done.text.endswith("original\noriginal\n")
    assert (cell.tree / "prepare.py").read_text() == "original\n"
    assert (cell.tree / "pkg" / "evaluate.py").read_text() == "original\n"


@needs_bubblewrap
def test_a_script_may_write_its_own_files_beside_the_sealed_ones(box: Sandbox, cell: Cell) -> None:
    command = "echo 2 > train.py && echo 1 > ckpt.pt && mkdir out && echo 1 > out/a && echo 2 > pkg/model.py && echo 3 > pkg/new && cat train.py"
    done = run(box, replace(cell, command=command))
    assert (done.finished.exit_code, done.text) == (0, "2\n")
    assert (cell.tree / "out" / "a").exists()


@needs_bubblewrap
def test_home_is_empty_and_gone_afterwards(box: Sandbox, cell: Cell) -> None:
    marker = f"nightlab-test-{os.getpid()}"
    command = f'echo secret > "$HOME/{marker}" && echo 1 > "/tmp/{marker}" && ls -A "$HOME" /tmp'
    done = run(box, replace(cell, command=command))
    assert done.finished.exit_code == 0, done.text
    assert marker in done.text
    assert not (Path.home() / marker).exists()
    assert not Path("/tmp", marker).exists()
    for name in (".ssh", ".aws", ".config", ".claude", ".gitconfig", ".netrc", ".bashrc"):
        assert name not in done.text


@needs_bubblewrap
def test_beside_what_is_shown_of_a_cache_a_program_may_keep_its_own(
    box: Sandbox, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`uv run` with ~/.cache/autoresearch shown: it makes ~/.cache/uv."""
    home = tmp_path / "home"
    shown = home / ".cache" / "shown"
    shown.mkdir(parents=True)
    (shown / "x").write_text("data\n")
    monkeypatch.setenv("HOME", str(home))
    command = 'cat "$HOME/.cache/shown/x" && mkdir "$HOME/.cache/own" && touch "$HOME/.cache/own/y"'
    done = run(
        box, replace(cell, command=f"{command}; echo 1 > $HOME/.cache/shown/x", data=(shown,))
    )
    assert done.text.startswith("data\n")
    assert "Permission denied" not in done.text
    assert not (home / ".cache" / "own").exists()
    assert (shown / "x").read_text() == "data\n"


@needs_bubblewrap
def test_nothing_of_the_system_that_could_hold_a_secret_is_visible(
    box: Sandbox, cell: Cell
) -> None:
    command = (
        "for p in /etc/shadow /etc/ssl/private /run/docker.sock /var /srv /mnt /media"
        " /home/* /sys/fs/cgroup /proc/sys/kernel/core_pattern;"
        ' do cat "$p" >/dev/null 2>&1 && echo "read $p";'
        ' ls -A "$p" 2>/dev/null | head -3; echo x 2>/dev/null > "$p" && echo "wrote $p"; done;'
        " cat /etc/passwd | wc -l; ls /run"
    )
    done = run(box, replace(cell, command=command))
    lines = [line for line in done.text.splitlines() if "can" not in line]
    assert [x for x in lines if x.startswith("wrote")] == []
    assert [x for x in lines if x.startswith("read")] in (
        [],
        ["read /proc/sys/kernel/core_pattern"],
    )
    assert "1" in lines


@needs_bubblewrap
def test_no_git_is_reachable_from_the_run(box: Sandbox, tmp_path: Path) -> None:
    project = tmp_path / "project"
    run_dir = project / ".nightlab" / "a" / "runs" / "000001"
    (run_dir / "tree").mkdir(parents=True)
    (project / ".git").mkdir()
    (project / ".git" / "config").write_text("secret")
    (project / "data").mkdir()
    (project / "data" / "x.bin").write_text("data")
    (run_dir / "tree" / "data").symlink_to(project / "data")
    cell = Cell(
        f"cat data/x.bin; echo 1 > data/x.bin; ls -A {project} {run_dir.parent}; echo end",
        run_dir / "tree", run_dir / "tree", run_dir, data=(project / "data",),
    )  # fmt: skip
    done = run(box, cell)
    assert done.text.startswith("data")
    assert ".git" not in done.text.splitlines()
    assert done.text.endswith("end\n")
    assert (project / "data" / "x.bin").read_text() == "data"


def hides(sandbox: Sandbox, cell: Cell, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "test").mkdir(parents=True)
    for name in ("train.bin", "answers.bin", "test/a.bin"):
        (data / name).write_text(f"content of {name}\n")
    cell = replace(
        cell,
        command=f"cat {data}/*.bin {data}/test/*; echo end",
        data=(data,),
        hidden=(data / "answers.bin", data / "test"),
    )
    text = run(sandbox, cell).text
    assert "content of train.bin" in text
    assert text.count("content of") == 1
    assert text.endswith("end\n")


@needs_bubblewrap
def test_hidden_paths_in_shown_data_are_not_there(box: Sandbox, cell: Cell, tmp_path: Path) -> None:
    hides(box, cell, tmp_path)


@needs_bubblewrap
def test_what_is_hidden_is_hidden_by_every_name(box: Sandbox, cell: Cell, tmp_path: Path) -> None:
    text = run(box, hidden_behind_links(cell, tmp_path / "linked")).text
    assert hides_behind_links(text), text


def test_landlock_hides_paths_in_shown_data(cell: Cell, tmp_path: Path) -> None:
    sandbox = LandlockSandbox()
    try:
        sandbox.check()
    except SandboxError as error:
        pytest.skip(f"{error.what}: {error.why}")
    hides(sandbox, cell, tmp_path)


@needs_bubblewrap
def test_there_is_no_network_but_the_box_s_own_loopback(box: Sandbox, cell: Cell) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    source = f"""
        import socket
        for family, address in [
            (socket.AF_INET, ("127.0.0.1", {port})), (socket.AF_INET, ("1.1.1.1", 53))]:
            s = socket.socket(family); s.settimeout(3)
            try:
                s.connect(address); print("connected", address)
            except OSError as e:
                print("no", e.errno)
        a = socket.create_server(("localhost", 0))
        b = socket.create_connection(a.getsockname(), 3); print("loopback works")
        for family in (40, 17, 38):
            try:
                socket.socket(family, socket.SOCK_DGRAM); print("family", family)
            except OSError as e:
                print("refused", e.errno)
        print([name for _, name in socket.if_nameindex()])
    """
    with server:
        done = run(box, python(cell, source))
    assert "connected" not in done.text
    assert "family" not in done.text
    assert done.text.count("refused") == 3
    assert "loopback works" in done.text
    assert done.text.endswith("['lo']\n")


@needs_bubblewrap
def test_no_process_outside_is_visible_or_can_be_signalled(box: Sandbox, cell: Cell) -> None:
    source = f"""
        import os
        print(sorted(int(p) for p in os.listdir("/proc") if p.isdigit())[-1] < 20)
        try:
            os.kill({os.getpid()}, 9)
        except OSError as e:
            print(type(e).__name__)
        try:
            os.kill(1, 9)
        except OSError as e:
            print(type(e).__name__)
        print("alive")
    """
    done = run(box, python(cell, source))
    lines = done.text.splitlines()
    assert lines[:2] == ["True", "ProcessLookupError"]
    assert lines[-1] == "alive"
    assert (done.finished.exit_code, done.broke) == (0, None)


@needs_bubblewrap
@pytest.mark.skipif(
    _seccomp.program(os.uname().machine, ()) is None, reason="no seccomp table for this machine"
)
def test_system_calls_that_no_training_needs_are_refused(box: Sandbox, cell: Cell) -> None:
    source = """
        import ctypes, os, fcntl, struct
        libc = ctypes.CDLL(None, use_errno=True)
        x86 = os.uname().machine == "x86_64"
        calls = {"ptrace": 101 if x86 else 117, "bpf": 321 if x86 else 280,
                 "io_uring_setup": 425, "keyctl": 250 if x86 else 219,
                 "userfaultfd": 323 if x86 else 282, "mount": 165 if x86 else 40,
                 "perf_event_open": 298 if x86 else 241}
        for name, number in calls.items():
            print(name, libc.syscall(number, 0, 0, 0, 0, 0), ctypes.get_errno())
        print("unshare", libc.unshare(0x10000000), ctypes.get_errno())
        import threading
        t = threading.Thread(target=print, args=("thread",)); t.start(); t.join()
        print("fork", os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1])
    """
    done = run(box, python(cell, source))
    assert done.finished.exit_code == 0, done.text
    for line in done.text.splitlines()[:8]:
        assert line.split()[1:] == ["-1", "1"], line
    assert done.text.endswith("thread\nfork 0\n")


@needs_bubblewrap
def test_the_run_has_no_capability_and_is_not_root(box: Sandbox, cell: Cell) -> None:
    done = run(box, replace(cell, command="id -u; grep -E 'Cap|NoNew' /proc/self/status"))
    lines = done.text.splitlines()
    assert lines[0] != "0"
    assert {line.split()[1] for line in lines[1:]} == {"0" * 16, "1"}


@needs_bubblewrap
def test_a_fork_bomb_meets_its_limit_and_dies_with_its_run(cell: Cell) -> None:
    source = """
        import os, time
        made = 0
        try:
            while made < 400:
                if os.fork() == 0:
                    time.sleep(60)
                    os._exit(0)
                made += 1
        except BlockingIOError:
            print("refused after", made, flush=True)
    """
    done = run(BubblewrapSandbox(Options(processes=40)), python(cell, source))
    assert done.text.startswith("refused after")
    assert int(done.text.split()[2]) <= 40
    assert done.finished.survivors == ()


@needs_bubblewrap
def test_disk_bounds_what_a_run_writes_into_one_file(cell: Cell) -> None:
    box = BubblewrapSandbox(Options(disk_bytes=1 << 20))
    done = run(box, replace(cell, command="head -c 3000000 /dev/zero > big; wc -c < big"))
    assert "1048576" in done.text


@needs_bubblewrap
def test_memory_is_seen_from_outside_and_its_bound_ends_the_run(box: Sandbox, cell: Cell) -> None:
    source = """
        import time
        x = bytearray(150 << 20)
        time.sleep(1.2)
    """
    free = run(box, python(cell, source))
    assert free.finished.exit_code == 0
    assert free.finished.peak_memory_bytes is not None
    assert 150 << 20 < free.finished.peak_memory_bytes < 300 << 20
    bound = run(box, replace(python(cell, source), memory_bytes=100 << 20))
    assert bound.finished.oom
    assert bound.broke is None


@needs_bubblewrap
def test_a_run_over_its_deadline_dies_with_its_daemons(box: Sandbox, cell: Cell) -> None:
    token = fresh_sleep()
    command = f"trap '' TERM; (setsid sleep {token} &); sleep {token}"
    done = run(box, replace(cell, command=command), wall_s=0.5)
    assert done.finished.timed_out
    assert done.broke is None
    assert alive(token) == []


@needs_bubblewrap
def test_a_crash_by_signal_is_the_program_s_own(box: Sandbox, cell: Cell) -> None:
    done = run(box, replace(cell, command="kill -SEGV $$"))
    assert done.finished.exit_code == 139
    assert done.broke is None
    assert run(box, replace(cell, command="exit 1")).broke is None


@needs_bubblewrap
def test_a_box_that_cannot_be_built_is_no_crash_of_the_program(box: Sandbox, cell: Cell) -> None:
    launch = box.launch(cell)
    shutil.rmtree(cell.tree)
    log = cell.run_dir / "log"
    finished = process.start(
        launch.argv, env=launch.env, cwd=launch.cwd, wall_s=20, log=log, pass_fds=launch.pass_fds
    ).poll(30)
    assert finished is not None
    assert finished.exit_code == 1
    assert "could not build" in (box.broke(launch, finished) or "")
    launch.cleanup()


@needs_bubblewrap
def test_shared_memory_is_large_enough_for_data_loaders(box: Sandbox, cell: Cell) -> None:
    source = """
        from multiprocessing import shared_memory
        s = shared_memory.SharedMemory(create=True, size=200 << 20)
        s.buf[:] = bytes(200 << 20); s.close(); s.unlink(); print("shared")
    """
    assert run(box, python(cell, source)).text.endswith("shared\n")


@needs_bubblewrap
def test_a_virtual_environment_below_home_or_anywhere_is_found(
    box: Sandbox, tmp_path: Path
) -> None:
    venv = tmp_path / "a venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    tree, run_dir = tmp_path / "tree", tmp_path / "run"
    tree.mkdir()
    run_dir.mkdir()
    command = f"'{venv}/bin/python' -c 'import sys, ssl; print(sys.prefix)'"
    assert run(box, Cell(command, tree, tree, run_dir)).text == f"{venv}\n"
    path = f"{venv}/bin:{os.environ['PATH']}"
    cell = Cell(
        "python -c 'import sys; print(sys.prefix)'", tree, tree, run_dir, env={"PATH": path}
    )
    assert run(box, cell).text == f"{venv}\n"


@needs_bubblewrap
def test_no_program_of_the_candidate_is_started_outside(box: Sandbox, cell: Cell) -> None:
    trap = cell.tree / "python"
    trap.write_text(f"#!/bin/sh\ntouch {cell.tree.parent}/escaped\n")
    trap.chmod(0o755)
    run(box, replace(cell, command="./python"))
    assert not (cell.tree.parent / "escaped").exists()


@needs_bubblewrap
def test_a_link_left_by_a_candidate_shows_nothing(box: Sandbox, cell: Cell) -> None:
    (cell.tree / "etc").symlink_to("/etc/shadow")
    (cell.tree / "sub").symlink_to("/var")
    done = run(box, replace(cell, command="cat etc; ls sub/lib; echo end"))
    assert done.text.count("No such file") == 2


def decide(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """Run a filter as the kernel would: the value that it returns."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    steps = list(struct.iter_unpack("=HBBI", program))
    at, accumulator = 0, 0
    while True:
        code, yes, no, value = steps[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            return int(value)
        elif code in (0x15, 0x45):
            at += yes if (accumulator == value if code == 0x15 else accumulator & value) else no
        else:
            pytest.fail(f"step {code:#x} is not one that is known here")


ALLOW, KILL, EPERM, ENOSYS, EAFNOSUPPORT = 0x7FFF0000, 0x80000000, 0x50001, 0x50026, 0x50061


@pytest.mark.parametrize(
    ("machine", "arch", "at"), [("x86_64", 0xC000003E, 0), ("aarch64", 0xC00000B7, 1)]
)
def test_the_filter_decides_as_it_says_on_every_machine(machine: str, arch: int, at: int) -> None:
    program = _seccomp.program(machine, (1, 2))
    assert program is not None
    assert len(program) // 8 < 4096
    for name, numbers in _seccomp.DENIED.items():
        if numbers[at] >= 0:
            assert decide(program, arch, numbers[at]) == EPERM, name
    calls = {name: numbers[at] for name, numbers in _seccomp._CALLS.items()}
    assert decide(program, arch, calls["clone3"]) == ENOSYS
    assert decide(program, arch, calls["clone"], 0x003D0F00) == ALLOW  # a thread
    assert decide(program, arch, calls["clone"], 0x10000011) == EPERM  # a user namespace
    assert decide(program, arch, calls["unshare"], 0x00020000) == EPERM
    assert decide(program, arch, calls["unshare"], 0x00000400) == ALLOW  # files
    assert [decide(program, arch, calls["socket"], family) for family in (1, 2, 10, 40)] == [
        ALLOW, ALLOW, EAFNOSUPPORT, EAFNOSUPPORT,
    ]  # fmt: skip
    assert decide(program, arch, calls["ioctl"], 0, 0x5412) == EPERM
    assert decide(program, arch, calls["ioctl"], 0, 0x541C) == EPERM
    assert decide(program, arch, calls["ioctl"], 0, 0x5413) == ALLOW
    assert decide(program, arch, 0) == ALLOW
    assert decide(program, 0x40000003, 0) == KILL  # i386
    if machine == "x86_64":
        assert decide(program, arch, 0x40000000) == KILL  # x32
    assert _seccomp.program("riscv64", (1,)) is None


@pytest.mark.parametrize(
    ("machine", "arch", "at"), [("x86_64", 0xC000003E, 0), ("aarch64", 0xC00000B7, 1)]
)
def test_the_filter_for_agents_under_landlock_lets_tcp_through_and_nothing_beside_it(
    machine: str, arch: int, at: int
) -> None:
    program = _seccomp.program(machine, (1, 16), tcp=True)
    assert program is not None
    calls = {name: numbers[at] for name, numbers in _seccomp._CALLS.items()}
    nonblocking = 0o4000
    for good in ((1, 5, 9), (16, 3, 15), (2, 1, 0), (2, 1 | nonblocking, 6), (10, 1, 6)):
        assert decide(program, arch, calls["socket"], *good) == ALLOW, good
    for bad in (
        (2, 2, 0),
        (2, 3, 1),
        (10, 2, 17),
        (2, 1, 262),
        (10, 1, 256),
        (40, 1, 0),
        (17, 3, 0),
    ):
        assert decide(program, arch, calls["socket"], *bad) == EAFNOSUPPORT, bad
    for name, place in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):
        before = [0] * place
        assert decide(program, arch, calls[name], *before, 0x4000) == ALLOW
        assert decide(program, arch, calls[name], *before, 0x20000000) == 0x5005F
    assert decide(program, arch, 0) == ALLOW


def test_whole_folders_are_sealed_in_a_large_project_and_files_in_a_small_one(
    tmp_path: Path,
) -> None:
    for number in range(30):
        for folder in ("src/deep", "data"):
            path = tmp_path / folder / f"{number}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
    (tmp_path / "train.py").write_text("")
    (tmp_path / "link").symlink_to("train.py")
    small = sealed(tmp_path, ("train.py",))
    assert len(small) == 60
    large = sealed(tmp_path, ("train.py", "src/deep/3.py"), most=40)
    assert tmp_path / "data" in large
    assert tmp_path / "src/deep/4.py" in large
    assert tmp_path / "src/deep/3.py" not in large
    assert len(large) == 30


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("bwrap: No permissions to create new namespace, likely because", "unprivileged_userns"),
        ("bwrap: setting up uid map: Permission denied", "apparmor"),
        ("bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", "apparmor"),
        ("bwrap: Creating new namespace failed: (ENOSPC)", "max_user_namespaces"),
        ("bwrap: Creating new namespace failed: Operation not permitted", "seccomp=unconfined"),
    ],
)
def test_a_failure_of_bubblewrap_is_told_with_its_cure(
    said: str, cure: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, body in {
        "bwrap": f"#!/bin/sh\necho '{said}' >&2\nexit 1\n",
        "setpriv": "#!/bin/sh\n",
        "prlimit": "#!/bin/sh\n",
    }.items():
        (tmp_path / name).write_text(body)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxError) as raised:
        BubblewrapSandbox().check()
    assert said[:40] in raised.value.why
    assert cure in raised.value.hint


def test_without_bubblewrap_the_cure_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SandboxError) as raised:
        BubblewrapSandbox().check()
    assert "install bubblewrap" in raised.value.hint


AS_USER = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from pathlib import Path
from nightlab import process
from nightlab.sandboxes import Cell, open_sandbox
folder = Path(sys.argv[2])
tree, run_dir = folder / "tree", folder / "run"
tree.mkdir(); run_dir.mkdir()
(tree / "sealed").write_text("original")
(folder / "outside").write_text("secret")
box = open_sandbox(sys.argv[3])
launch = box.launch(Cell("id -u; echo x > sealed; echo 1 > new && cat sealed; cat ../outside; grep CapEff /proc/self/status; exit 3", tree, tree, run_dir))
finished = process.start(launch.argv, env=launch.env, cwd=launch.cwd, wall_s=30, log=folder / "log",
    pass_fds=launch.pass_fds).poll(40)
print(json.dumps([finished.exit_code, box.broke(launch, finished), (folder / "log").read_text()]))
"""


@needs_bubblewrap
@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an unprivileged user")
@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
def test_an_unprivileged_user_has_the_same_box(name: str) -> None:
    python3 = shutil.which("python3", path="/usr/bin")
    if python3 is None:
        pytest.skip("no interpreter that an unprivileged user can reach")
    folder = Path("/tmp") / f"nightlab-user-{os.getpid()}"
    folder.mkdir()
    try:
        shutil.copytree(Path(bubblewrap.__file__).parents[1], folder / "lib" / "nightlab")
        work = folder / "work"
        work.mkdir()
        for place in (folder, work):
            place.chmod(0o777)
        done = subprocess.run(
            ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", python3, "-c", AS_USER,
             json.dumps([str(folder / "lib"), sysconfig.get_paths()["purelib"]]), str(work), name],
            capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}, check=False,
        )  # fmt: skip
        if "ModuleNotFoundError" in done.stderr:
            pytest.skip(f"the system's python cannot run nightlab: {done.stderr.splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
        code, broke, text = json.loads(done.stdout)
        assert (code, broke) == (3, None), text
        assert text.splitlines()[0] == "54321"
        assert ("original" in text) == (name == "bubblewrap")
        assert "secret" not in text
        assert text.endswith("0000000000000000\n")
    finally:
        shutil.rmtree(folder)
