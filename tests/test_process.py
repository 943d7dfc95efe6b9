"""Child processes: real ones, hostile ones, and the proof that none of them lives on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import nightlab
from nightlab import process
from nightlab.errors import ExecutorError, NightlabError
from nightlab.process import Child, Finished, _proc
from nightlab.process._capture import Capture
from nightlab.testing.contracts import HOSTILE_NAME, alive, fresh_sleep

ENV = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
PYTHON = f"{sys.executable} -I -S -u -B"
BUSY_S = 1.0  # what a shared machine may add to a promise of ours
# One process of every kind that is known to get away from somebody. All ignore TERM.
ESCAPEES = {
    "plain child": "sleep {} & ",
    "setsid child": "setsid sleep {} & ",
    "daemon that forked twice": "(setsid sh -c 'sleep {} & ' &) ; ",
    "daemon without an environment": "(setsid env -i setsid sleep {} &) ; ",
}


def start(folder: Path, command: str, **options: Any) -> Child:
    defaults: dict[str, Any] = {"env": ENV, "cwd": folder, "wall_s": 60.0, "grace_s": 0.2}
    options = defaults | options
    options.setdefault("log", folder / "log.txt")
    return process.start(["/bin/sh", "-c", command], **options)


def run(folder: Path, command: str, **options: Any) -> Finished:
    finished = start(folder, command, **options).poll(90)
    assert finished is not None
    return finished


def script(folder: Path, text: str) -> str:
    path = folder / "program.py"
    path.write_text(textwrap.dedent(text))
    return f"exec {PYTHON} {path}"


def quiet(finished: Finished) -> bool:
    """Nothing that nightlab did, or had to leave undone."""
    unusual = (finished.timed_out, finished.stopped, finished.oom, finished.survivors)
    return not any(unusual)


def log_of(folder: Path) -> str:
    return (folder / "log.txt").read_text()


def wait_until(condition: Callable[[], object], timeout_s: float = 10.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, "waited in vain"
        time.sleep(0.01)
    return time.monotonic() - began


# --- how a run ends, as told


def test_output_exit_code_and_times_of_a_plain_run_are_told(tmp_path: Path) -> None:
    finished = run(tmp_path, "echo out; echo err >&2; exit 3")
    assert (finished.exit_code, finished.signal) == (3, None)
    assert quiet(finished)
    assert log_of(tmp_path) == "out\nerr\n"
    assert finished.log_bytes == 8
    assert 0 <= finished.duration_s < 10


def test_an_end_by_signal_is_told_from_an_exit_code_that_looks_like_one(tmp_path: Path) -> None:
    by_signal = run(tmp_path, "kill -SEGV $$")
    assert (by_signal.exit_code, by_signal.signal) == (None, signal.SIGSEGV)
    by_code = run(tmp_path, "exit 139")
    assert (by_code.exit_code, by_code.signal) == (139, None)


def test_a_kill_from_outside_is_not_taken_for_our_own(tmp_path: Path) -> None:
    finished = run(tmp_path, "kill -KILL $$")
    assert finished.signal == signal.SIGKILL
    assert quiet(finished)


def test_processor_time_of_the_whole_tree_is_counted(tmp_path: Path) -> None:
    burn = f'{PYTHON} -c "import time\nwhile time.process_time() < 0.2: pass"'
    finished = run(tmp_path, f"({burn}) & {burn}; wait")
    assert finished.cpu_s is not None
    assert 0.4 <= finished.cpu_s < 5


def test_the_peak_of_a_grandchild_is_counted(tmp_path: Path) -> None:
    finished = run(tmp_path, f'({PYTHON} -c "x = bytes(1) * 90_000_000"; true); true')
    assert finished.peak_memory_bytes is not None
    assert 90e6 < finished.peak_memory_bytes < 200e6


def test_a_folder_or_program_that_is_not_there_is_infrastructure(tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match="could not be started") as raised:
        run(tmp_path, "true", cwd=tmp_path / "gone")
    assert "folder" in raised.value.why
    child = process.start(
        ["/no/such/program"], env=ENV, cwd=tmp_path, wall_s=9, log=tmp_path / "log"
    )
    with pytest.raises(ExecutorError) as raised:
        child.poll(60)
    assert "program" in raised.value.why
    with pytest.raises(ExecutorError):  # and again at every poll
        child.poll(0)


@pytest.mark.parametrize("command", ["frobnicate_7", "true; frobnicate_7 --now"])
def test_a_command_that_the_shell_did_not_find_is_named(tmp_path: Path, command: str) -> None:
    child = start(tmp_path, command)
    finished = child.poll(60)
    assert finished is not None
    assert process.not_found(finished, child.tail()) == "frobnicate_7"


def test_an_exit_of_127_without_the_words_of_the_shell_is_a_crash(tmp_path: Path) -> None:
    child = start(tmp_path, "echo module not found; exit 127")
    finished = child.poll(60)
    assert finished is not None
    assert process.not_found(finished, child.tail()) is None
    assert process.not_found(run(tmp_path, "exit 1"), ["sh: 1: x: not found"]) is None


# --- what a run is given


def test_a_run_gets_no_input_no_descriptors_no_core_files_and_default_signals(
    tmp_path: Path,
) -> None:
    command = script(
        tmp_path,
        """
        import os, resource, sys
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        print(repr(sys.stdin.read()))
        print(sorted(int(n) for n in os.listdir("/proc/self/fd"))[:-1])
        print(resource.getrlimit(resource.RLIMIT_CORE))
        print(int(status["SigBlk"], 16), os.getsid(0) == os.getpgrp())
        """,
    )
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        assert run(tmp_path, command).exit_code == 0
    assert log_of(tmp_path).splitlines() == ["''", "[0, 1, 2]", "(0, 0)", "0 True"]
    # Python itself ignores SIGPIPE and SIGXFSZ; a plain program shows what it was given.
    run(tmp_path, "grep SigIgn /proc/self/status")
    own_to_glibc = 0b11 << 31  # signals 32 and 33: no program can set them, or set them back
    assert int(log_of(tmp_path).split()[1], 16) & ~own_to_glibc == 0


def test_a_descriptor_that_is_passed_is_held_by_the_run_alone(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = start(
        tmp_path,
        script(tmp_path, f"import os; os.write({writing}, b'said\\n')"),
        pass_fds=[writing],
    )
    os.close(writing)
    assert child.poll(60) is not None
    assert os.read(reading, 100) == b"said\n"
    assert os.read(reading, 100) == b""
    os.close(reading)


def test_the_environment_is_what_was_given_and_the_marker(tmp_path: Path) -> None:
    env = {"PATH": ENV["PATH"], "ODD": "a\nb=\udcff ü"}
    command = script(
        tmp_path,
        "import os; print(ascii({k: v for k, v in os.environ.items() if k != 'LC_CTYPE'}))",
    )
    run(tmp_path, command, env=env, marker="m/1")
    expected = env | {"NIGHTLAB_RUN": "m/1"}
    shown = eval(log_of(tmp_path))
    for name in ("PWD", "OLDPWD", "SHLVL", "_"):
        shown.pop(name, None)
    assert shown == expected


def test_an_environment_larger_than_a_pipe_arrives(tmp_path: Path) -> None:
    env = ENV | {f"V{number}": "x" * 10_000 for number in range(30)}
    run(tmp_path, "echo ${#V29}", env=env)
    assert log_of(tmp_path) == "10000\n"


def test_a_file_longer_than_allowed_is_not_written(tmp_path: Path) -> None:
    command = script(tmp_path, "open('big', 'wb', 0).write(bytes(200_000))\nopen('x', 'x')\n")
    finished = run(tmp_path, command + "; exit 1", fsize_bytes=100_000)
    assert (tmp_path / "big").stat().st_size == 100_000
    assert finished.exit_code == 0  # a short write, as the system call says
    finished = run(tmp_path, "exec dd if=/dev/zero of=big bs=200k count=2", fsize_bytes=100_000)
    assert finished.signal == signal.SIGXFSZ


def test_hostile_paths_are_only_paths(tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE_NAME
    folder.mkdir()
    finished = run(folder, "pwd; echo x > file", log=folder / "deep er" / "log\n.txt")
    assert finished.exit_code == 0
    assert (folder / "file").exists()
    assert (folder / "deep er" / "log\n.txt").read_text() == f"{folder}\n"


def test_the_end_of_the_thread_that_started_a_run_does_not_end_the_run(tmp_path: Path) -> None:
    children: list[Child] = []
    thread = threading.Thread(target=lambda: children.append(start(tmp_path, "sleep 0.3; echo x")))
    thread.start()
    thread.join()
    finished = children[0].poll(60)
    assert finished is not None
    assert finished.exit_code == 0
    assert log_of(tmp_path) == "x\n"


# --- nothing lives on


@pytest.mark.parametrize("kind", ESCAPEES)
def test_nothing_lives_on_after_the_main_process_has_ended(tmp_path: Path, kind: str) -> None:
    token = fresh_sleep()
    began = time.monotonic()
    finished = run(tmp_path, f"trap '' TERM; {ESCAPEES[kind].format(token)} sleep 0.1; exit 5")
    assert not alive(token)
    assert finished.exit_code == 5
    assert finished.survivors == ()
    # the time of the run is its own, not that of the killing
    assert finished.duration_s < time.monotonic() - began - 0.15


def test_nothing_lives_on_after_the_deadline_and_what_was_printed_is_kept(tmp_path: Path) -> None:
    token = fresh_sleep()
    all_of_them = "".join(command.format(token) for command in ESCAPEES.values())
    began = time.monotonic()
    child = start(
        tmp_path, f"trap '' TERM; {all_of_them} printf 'val: 1\nhal'; sleep {token}",
        wall_s=0.5, grace_s=1.5,
    )  # fmt: skip
    wait_until(lambda: len(alive(token)) >= 5)
    finished = child.poll(60)
    assert time.monotonic() - began < 0.5 + 2 + BUSY_S
    assert not alive(token)
    assert finished is not None
    assert finished.timed_out
    assert not finished.stopped
    assert finished.signal == signal.SIGKILL
    assert log_of(tmp_path) == "val: 1\nhal"


def test_a_polite_program_may_finish_within_the_grace(tmp_path: Path) -> None:
    command = "trap 'echo saved; exit 0' TERM; while :; do sleep 0.02; done"
    finished = run(tmp_path, command, wall_s=0.3, grace_s=20)
    assert finished.timed_out
    assert finished.exit_code == 0
    assert finished.duration_s < 10
    assert log_of(tmp_path).endswith("saved\n")


def test_a_program_that_stopped_itself_is_woken_and_killed_at_the_deadline(tmp_path: Path) -> None:
    token = fresh_sleep()
    finished = run(tmp_path, f"sleep {token} & kill -STOP $! ; kill -STOP $$", wall_s=0.3)
    assert finished.timed_out
    assert not alive(token)


ROLLING = """
#include <signal.h>
#include <unistd.h>
int main(void) {
    signal(SIGTERM, SIG_IGN);
    if (fork()) { usleep(200000); return 0; }
    for (;;) { if (fork()) _exit(0); setsid(); }
}
"""


@pytest.fixture
def rolling(tmp_path: Path) -> Path:
    """A daemon that always forks on and exits, each in a session of its own."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler: nothing slower gets away from a scan of /proc")
    (tmp_path / "rolling.c").write_text(ROLLING)
    assert process.call(["cc", "-O", "-o", "rolling", "rolling.c"], cwd=tmp_path).exit_code == 0
    return tmp_path / "rolling"


def test_a_daemon_that_always_forks_on_and_exits_is_caught(tmp_path: Path, rolling: Path) -> None:
    token = fresh_sleep()
    finished = run(tmp_path, f"exec {rolling} {token}")
    assert not alive(token)
    assert finished.survivors == ()


def test_it_is_caught_even_where_a_look_at_all_processes_takes_long(rolling: Path) -> None:
    process._prepare()  # its orphans come to this process
    token, me = fresh_sleep(), os.getpid()
    subprocess.run([rolling, token], check=True)

    def near() -> list[int]:
        return [pid for pid in _proc.children_of(me) if is_rolling(pid)]

    def slow_find() -> set[int]:
        found = set(near())
        time.sleep(0.02)
        return {pid for pid in found if is_alive(pid)}

    def reap() -> bool:
        for pid in near():
            os.waitpid(pid, os.WNOHANG)
        return bool(near())

    assert near(), "it did not come to this process: the test would prove nothing"
    _, survivors = _proc.kill_all(near, slow_find, reap)
    assert survivors == set()
    assert not alive(token)


def is_rolling(pid: int) -> bool:
    return b"(rolling)" in _proc.read_proc(pid, "stat")


def test_a_process_whose_first_thread_has_exited_is_caught(tmp_path: Path) -> None:
    token = fresh_sleep()
    command = script(
        tmp_path,
        """
        import ctypes, os, signal, threading, time
        if os.fork():
            time.sleep(0.4)
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setsid()
        threading.Thread(target=time.sleep, args=(900,)).start()
        print(os.getpid())
        ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
        """,
    )
    child = start(tmp_path, f"{command} {token}")
    wait_until(child.tail)
    pid = int(child.tail()[0])
    wait_until(lambda: _proc.stat_fields(pid)[:1] == [b"Z"])
    assert is_alive(pid)
    finished = child.poll(60)
    assert finished is not None
    assert finished.exit_code == 0
    assert finished.survivors == ()
    # its command line is empty by then; its program is not
    assert not [p for p in _proc.table() if os.fsencode(tmp_path) in cwd_of(p)]


def cwd_of(pid: int) -> bytes:
    try:
        return os.readlink(b"/proc/%d/cwd" % pid)
    except OSError:
        return b""


def test_a_silent_grandchild_that_holds_the_output_delays_nothing(tmp_path: Path) -> None:
    token = fresh_sleep()
    began = time.monotonic()
    finished = run(tmp_path, f"sleep {token} & echo done", grace_s=30)
    assert finished.exit_code == 0
    assert time.monotonic() - began < 5
    assert not alive(token)


def test_stop_ends_the_tree_and_says_so_and_may_be_repeated(tmp_path: Path) -> None:
    token = fresh_sleep()
    child = start(tmp_path, f"trap '' TERM; setsid sleep {token} & echo on; sleep {token}")
    wait_until(lambda: child.tail() == ["on"])
    child.stop()
    child.stop()
    finished = child.poll(60)
    assert finished is not None
    assert finished.stopped
    assert not finished.timed_out
    assert not alive(token)
    child.stop()
    assert child.poll(0) == finished
    assert child.elapsed_s() == finished.duration_s


def test_a_stop_in_the_first_instant_is_not_lost(tmp_path: Path) -> None:
    token = fresh_sleep()
    child = start(tmp_path, f"sleep {token}")
    child.stop()
    finished = child.poll(60)
    assert finished is not None
    assert finished.stopped
    assert not alive(token)


# --- a run against its shim and against nightlab


@pytest.mark.parametrize("kind", ESCAPEES)
def test_a_run_that_kills_its_shim_gains_nothing(tmp_path: Path, kind: str) -> None:
    token = fresh_sleep()
    finished = run(
        tmp_path,
        f"trap '' TERM; {ESCAPEES[kind].format(token)} sleep 0.2; kill -9 $PPID; sleep {token}",
    )
    assert not alive(token)
    assert finished.signal == signal.SIGKILL
    assert finished.exit_code is None
    assert not finished.timed_out
    assert not finished.stopped
    assert finished.survivors == ()


def test_a_run_that_kills_its_shim_first_of_all_is_a_crash_and_another_run_is_not_hurt(
    tmp_path: Path,
) -> None:
    (tmp_path / "other").mkdir()
    other = start(tmp_path / "other", "setsid sleep 0.5 & wait; echo fine")
    for _ in range(5):
        assert run(tmp_path, "kill -9 $PPID").signal == signal.SIGKILL
    finished = other.poll(60)
    assert finished is not None
    assert finished.exit_code == 0
    assert log_of(tmp_path / "other") == "fine\n"


def test_nightlab_does_not_kill_its_own_other_children(tmp_path: Path) -> None:
    mine = subprocess.Popen(["sleep", fresh_sleep()])
    run(tmp_path, "kill -9 $PPID")
    assert mine.poll() is None
    mine.kill()
    mine.wait()


def test_a_run_that_stops_its_shim_ends_as_it_would_have(tmp_path: Path) -> None:
    finished = run(tmp_path, "kill -STOP $PPID; sleep 0.1; echo on; exit 4")
    assert finished.exit_code == 4
    assert log_of(tmp_path) == "on\n"


def test_a_run_that_stops_its_shim_again_and_again_does_not_outlive_its_deadline(
    tmp_path: Path,
) -> None:
    token = fresh_sleep()
    began = time.monotonic()
    finished = run(
        tmp_path,
        f"trap '' TERM; sleep {token} & while :; do kill -STOP $PPID; sleep 0.01; done",
        wall_s=0.5,
        grace_s=1.5,
    )
    assert time.monotonic() - began < 0.5 + 2 + BUSY_S
    assert finished.timed_out
    assert not alive(token)


def test_other_signals_do_not_move_the_shim(tmp_path: Path) -> None:
    finished = run(
        tmp_path, "for s in TERM INT HUP QUIT USR1 ALRM CHLD PIPE; do kill -$s $PPID; done; exit 6"
    )
    assert finished.exit_code == 6


HARNESS = """
import sys, time
from pathlib import Path
from nightlab import process
here = Path(sys.argv[1])
child = process.start(["/bin/sh", "-c", sys.argv[2]], env={{"PATH": {path!r}}}, cwd=here,
    wall_s=600, log=here / "log.txt", grace_s=float(sys.argv[4]), marker=sys.argv[3])
print(child.pid, flush=True)
time.sleep(600)
"""


def harness(
    folder: Path, command: str, marker: str = "", grace_s: float = 0.2
) -> tuple[subprocess.Popen[str], int]:
    """Another nightlab, to be killed; and the pid of its shim."""
    root = str(Path(nightlab.__file__).parents[1])
    code = HARNESS.format(path=ENV["PATH"])
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), command, marker, str(grace_s)],
        env=ENV | {"PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    return other, int(other.stdout.readline())


def is_alive(pid: int) -> bool:
    return any(living for _, living, _ in _proc.table([pid]).values())


def kill(other: subprocess.Popen[str]) -> None:
    other.kill()
    other.communicate()


ALL_ESCAPEES = "trap '' TERM; " + "".join(ESCAPEES.values()) + "sleep {}"


@pytest.mark.parametrize("stopped", [False, True], ids=["shim awake", "shim stopped"])
def test_kill_9_of_nightlab_leaves_nothing_of_a_run(tmp_path: Path, *, stopped: bool) -> None:
    token = fresh_sleep()
    other, shim = harness(tmp_path, ALL_ESCAPEES.replace("{}", token))
    wait_until(lambda: len(alive(token)) >= 5)
    if stopped:
        os.kill(other.pid, signal.SIGSTOP)  # it would wake the shim
        os.kill(shim, signal.SIGSTOP)
    kill(other)
    wait_until(lambda: not alive(token) and not is_alive(shim))


def test_a_shim_stopped_after_the_death_of_nightlab_is_woken_by_the_sweep(tmp_path: Path) -> None:
    token = fresh_sleep()
    other, shim = harness(tmp_path, ALL_ESCAPEES.replace("{}", token), "night/9", grace_s=0.8)
    wait_until(lambda: len(alive(token)) >= 5)
    kill(other)
    time.sleep(0.1)
    os.kill(shim, signal.SIGSTOP)  # in its grace
    time.sleep(0.8)
    assert alive(token)
    process.sweep("night/9")
    wait_until(lambda: not alive(token) and not is_alive(shim))


def test_what_survived_nightlab_and_shim_is_swept_by_its_marker(tmp_path: Path) -> None:
    token, spared = fresh_sleep(), fresh_sleep()
    bystander = subprocess.Popen(["sleep", spared], env=ENV | {"NIGHTLAB_RUN": "night/18/0"})
    everything = f"trap '' TERM; sleep {token} & sh -c 'env -i sleep {token} & wait' & wait"
    other, shim = harness(tmp_path, everything, "night/17/0")
    wait_until(lambda: len(alive(token)) >= 4)  # two shells, two sleeps
    os.kill(other.pid, signal.SIGSTOP)  # so that it cannot act when its shim dies
    os.kill(shim, signal.SIGKILL)
    kill(other)
    assert alive(token), "nothing survived: the test would prove nothing"
    killed = process.sweep("night/17/")
    assert len(killed) >= 3
    wait_until(lambda: not alive(token))
    assert process.sweep("night/17/") == []
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_sweep_spares_the_run_that_nightlab_itself_is_part_of(tmp_path: Path) -> None:
    code = "from nightlab import process; print(process.sweep('outer'))"
    done = process.call(
        ["/bin/sh", "-c", f'"$0" -c "{code}"; true', sys.executable],
        env=ENV
        | {"NIGHTLAB_RUN": "outer/1", "PYTHONPATH": str(Path(nightlab.__file__).parents[1])},
    )
    assert done.stdout == b"[]\n", done.stderr
    assert tmp_path.exists()


# --- memory


HOG = """
import time
print("on", flush=True)
x = []
while True:
    x.append(b"x" * 10**7)
    time.sleep(0.005)
"""


def test_a_memory_hog_is_killed_and_told_as_oom_with_its_output(tmp_path: Path) -> None:
    finished = run(tmp_path, script(tmp_path, HOG) + "; true", memory_bytes=150_000_000)
    assert finished.oom
    assert not finished.timed_out
    assert not finished.stopped
    assert finished.peak_memory_bytes is not None
    assert 150e6 < finished.peak_memory_bytes < 3e9
    assert log_of(tmp_path) == "on\n"


def test_a_hog_in_small_pieces_is_seen_as_a_whole(tmp_path: Path) -> None:
    piece = f'{PYTHON} -c "import time; x = bytes(1) * 60_000_000; time.sleep(60)" & '
    finished = run(tmp_path, piece * 4 + "wait", memory_bytes=150_000_000)
    assert finished.oom


def test_memory_that_forks_share_is_counted_once(tmp_path: Path) -> None:
    command = script(
        tmp_path,
        """
        import os, time
        shared = b"x" * 120_000_000
        for _ in range(4):
            if os.fork() == 0:
                break
        time.sleep(1.0)
        """,
    )
    finished = run(tmp_path, command, memory_bytes=250_000_000)
    assert not finished.oom
    assert finished.exit_code == 0
    assert finished.peak_memory_bytes is not None
    assert 110e6 < finished.peak_memory_bytes < 200e6


def test_a_run_is_killed_for_memory_by_the_kernel_before_nightlab_is(tmp_path: Path) -> None:
    run(tmp_path, "cat /proc/self/oom_score_adj")
    assert int(log_of(tmp_path)) > int(Path("/proc/self/oom_score_adj").read_text())


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group with 100 MB of memory."""
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    parent, limit = (v1, "memory.limit_in_bytes") if v1.exists() else (v2, "memory.max")
    group = parent / f"nightlab-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text("100000000")
    except OSError as error:
        pytest.skip(f"no memory control group can be made here: {error}")
    yield group
    group.rmdir()


@pytest.mark.parametrize("shape", ["exec {}", "{}; exit $?"])
def test_a_kill_by_the_kernel_for_memory_is_told_as_oom(
    tmp_path: Path, small_group: Path, shape: str
) -> None:
    eat = f"{PYTHON} -c \"x = b'x' * 400_000_000\""
    finished = run(tmp_path, f"echo $$ > {small_group}/cgroup.procs; " + shape.format(eat))
    assert finished.oom
    assert not finished.timed_out


# --- output


def test_a_flood_of_a_gigabyte_fills_neither_memory_nor_disk(tmp_path: Path) -> None:
    before = resident_bytes()
    child = start(tmp_path, "head -c 1100000000 /dev/zero; printf '\nval_bpb: 0.5\n'")
    highest = 0
    while (finished := child.poll(0.02)) is None:
        highest = max(highest, resident_bytes(), 1)
    assert highest - before < 64 * 2**20
    assert finished.exit_code == 0
    assert finished.log_bytes == 1_100_000_014
    stored = (tmp_path / "log.txt").read_bytes()
    assert len(stored) <= process.LOG_BYTES + 100
    assert stored.endswith(b"\nval_bpb: 0.5\n") or b"here]\nval_bpb: 0.5\n" in stored[-100:]


def resident_bytes() -> int:
    return _proc.table([os.getpid()])[os.getpid()][2]


def test_a_flood_does_not_delay_the_kill(tmp_path: Path) -> None:
    began = time.monotonic()
    finished = run(tmp_path, "yes; true", wall_s=0.5)
    assert finished.timed_out
    assert time.monotonic() - began < 2.5
    assert (tmp_path / "log.txt").stat().st_size <= process.LOG_BYTES + 100


def test_a_log_that_cannot_be_written_loses_the_run_and_does_not_hang_it(tmp_path: Path) -> None:
    child = start(tmp_path, "head -c 1000000 /dev/zero; sleep 0.1", log=Path("/dev/full"))
    with pytest.raises(ExecutorError, match="could not be stored") as raised:
        child.poll(60)
    assert "No space" in raised.value.why


def test_the_tail_shows_complete_lines_while_the_run_goes_on(tmp_path: Path) -> None:
    child = start(tmp_path, r"printf 'one\ntwo\r 50%%\r 99%%\r\033[31mred\033[0m\nhal'; sleep 60")
    wait_until(lambda: len(child.tail()) == 5)
    assert child.tail(9) == ["one", "two", " 50%", " 99%", "red"]
    assert child.tail(1) == ["red"]
    assert child.poll(0) is None
    child.stop()
    child.poll(60)


chunks = st.lists(
    st.binary(max_size=60) | st.sampled_from([b"\n", b"ab\n", b"x" * 90]), max_size=60
)


@settings(deadline=None)
@given(chunks, st.integers(min_value=20, max_value=200))
def test_a_log_is_the_stream_or_its_whole_lines_at_both_ends(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], cap: int
) -> None:
    assume(b"[" not in b"".join(parts))  # whoever prints our note may confuse a reader
    path = tmp_path_factory.getbasetemp() / "capture.txt"
    capture = Capture(path, cap)
    for part in parts:
        capture.write(part)
    capture.close()
    stream, stored = b"".join(parts), path.read_bytes()
    assert capture.total_bytes == len(stream)
    if len(stream) <= cap:
        assert stored == stream
        return
    head, _, rest = stored.partition(b"[nightlab: ")
    number, _, tail = rest.partition(b" bytes of output left out here]")
    glued = not tail.startswith(b"\n")
    tail = tail if glued else tail[1:]
    assert stream.startswith(head)
    assert stream.endswith(tail)
    assert len(head) + int(number) + len(tail) == len(stream)
    assert len(head) + len(tail) <= cap
    # No part of a line stands as a line: cut at line ends, or glued to the note.
    assert head.endswith(b"\n") or b"\n" not in head
    assert glued or stream[: len(stream) - len(tail)].endswith(b"\n")


def test_a_tail_beyond_the_cap_reaches_the_disk_before_the_end(tmp_path: Path) -> None:
    capture = Capture(tmp_path / "log.txt", 1000)
    capture.write(b"x\n" * 2000)
    capture.write(b"last\n")
    assert b"left out" in (tmp_path / "log.txt").read_bytes()
    capture.close()
    capture.close()


@settings(deadline=None)
@given(st.text() | st.text(st.sampled_from("\x1b[]m3;1\x07\\ab\u202e\U000e0041\x9b\n\t")))
def test_clean_text_has_nothing_that_steers_or_hides(text: str) -> None:
    shown = process.clean(text)
    assert process.clean(shown) == shown
    unsafe = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert not [c for c in shown if c not in "\n\t" and unicodedata.category(c) in unsafe]


def test_clean_keeps_what_a_person_can_read_and_drops_colours() -> None:
    assert process.clean("täglich 5 → 3\n\t日本") == "täglich 5 → 3\n\t日本"
    assert process.clean("\x1b[1;31mred\x1b[0m \x1b]0;title\x07ok") == "red ok"
    assert process.clean("a\u202eb\u200bc\U000e0041\x08") == "a\ufffdb\ufffdc\ufffd\ufffd"
    assert process.clean("\x1b[\x1b[31m2J") == "2J"


# --- short helper programs


def test_a_call_gives_both_outputs_and_the_code() -> None:
    done = process.call(["/bin/sh", "-c", "cat; echo e >&2; exit 7"], input_bytes=b"in", env={})
    assert done == process.Completed(7, b"in", b"e\n")


def test_a_call_gets_its_folder_and_only_the_environment_given(tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE_NAME
    folder.mkdir()
    done = process.call(["/usr/bin/env", "-0"], cwd=folder, env={"A": "1"})
    assert done.stdout == b"A=1\0"
    assert process.call(["/bin/pwd"], cwd=folder, env={}).stdout.decode() == f"{folder}\n"


def test_a_call_that_takes_too_long_is_killed_with_its_group() -> None:
    token = fresh_sleep()
    began = time.monotonic()
    with pytest.raises(NightlabError, match="was not done after"):
        process.call(
            ["/bin/sh", "-c", f"trap '' TERM; sleep {token} & sleep {token}"], timeout_s=0.3
        )
    assert time.monotonic() - began < 5
    wait_until(lambda: not alive(token))


def test_a_call_of_what_is_not_there_is_an_error_in_three_lines() -> None:
    with pytest.raises(NightlabError) as raised:
        process.call(["/no/such/git"])
    assert all(raised.value.lines())
