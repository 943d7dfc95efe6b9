"""What every sandbox and every executor must do, as checks that any test can call.

    from nightlab.testing.contracts import SANDBOX_CHECKS

    @pytest.mark.parametrize("check", SANDBOX_CHECKS, ids=lambda check: check.__name__)
    def test_my_sandbox_keeps_the_contract(check, tmp_path):
        check(MySandbox(), tmp_path)

A check starts real programs (a POSIX shell's own tools) below the folder it is given and raises
AssertionError with what it saw. ``alive`` needs Linux; elsewhere the proof is left out.
"""

from __future__ import annotations

import os
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from nightlab import process
from nightlab.devices import Slot
from nightlab.executors import Executor, Job, Order
from nightlab.process import Finished, _proc
from nightlab.sandboxes import Cell, Endpoint, Launch, Sandbox

HOSTILE_NAME = "a b'c\"d$(e)\n;ü ,*"
CONTRACT_SLOT = Slot("cpu0", env={"NIGHTLAB_CONTRACT_SLOT": "zero"})


def alive(text: str) -> list[int]:
    """Processes whose command line holds the text, found in /proc; zombies have none."""
    if not _proc.LINUX:
        return []
    needle = text.encode()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    return [pid for pid in pids if needle in _proc.read_proc(pid, "cmdline")]


def fresh_sleep() -> str:
    """The arguments of a ``sleep`` so long and so odd that no other process has them."""
    return f"{1000 + os.getpid()}.{time.monotonic_ns() % 10**9:09d}"


def _expect(condition: object, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def _cell(folder: Path, command: str, **env: str) -> Cell:
    tree, run_dir = folder / "tree", folder / "run"
    tree.mkdir(parents=True, exist_ok=True)
    run_dir.mkdir(exist_ok=True)
    return Cell(command, tree, tree, run_dir, env=env)


def _run(sandbox: Sandbox, folder: Path, command: str, **env: str) -> tuple[Launch, Finished, str]:
    return _run_cell(sandbox, folder, _cell(folder, command, **env))


def _run_cell(sandbox: Sandbox, folder: Path, cell: Cell) -> tuple[Launch, Finished, str]:
    launch = sandbox.launch(cell)
    log = folder / "log.txt"
    try:
        finished = process.start(
            launch.argv,
            env=launch.env,
            cwd=launch.cwd,
            wall_s=60,
            log=log,
            grace_s=0.2,
            pass_fds=launch.pass_fds,
        ).poll(90)
    finally:
        launch.cleanup()
    if finished is None:
        raise AssertionError(f"{cell.command} did not end")
    return launch, finished, log.read_text("utf-8", "replace")


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def says_what_it_covers(sandbox: Sandbox, folder: Path) -> None:
    """Name, covers and leaves_open are there, one line each, and its own check passes."""
    del folder
    for word in (sandbox.name, sandbox.covers, sandbox.leaves_open):
        _expect(word and "\n" not in word, f"not one line: {word!r}")
    sandbox.check()


def runs_the_command_in_its_folder(sandbox: Sandbox, folder: Path) -> None:
    """A file of the tree is read, the exit code is the command's, and the box did not break."""
    _cell(folder, "").tree.joinpath("here").write_text("found\n")
    launch, finished, text = _run(sandbox, folder, "cat here; exit 3")
    _expect(text == "found\n", f"the tree's file read as {text!r}")
    _expect(finished.exit_code == 3, f"exit 3 came as {finished}")
    _expect(sandbox.broke(launch, finished) is None, "a crash was taken for a broken sandbox")


def keeps_secrets_out(sandbox: Sandbox, folder: Path) -> None:
    """Nothing of nightlab's environment reaches the run but what is known to be harmless."""
    names = ("AWS_SECRET_ACCESS_KEY", "NVIDIA_API_KEY", "GIT_DIR", "SSH_AUTH_SOCK", "ODDITY")
    for name in names:
        with _environment(name, "sesame"):
            _, finished, text = _run(sandbox, folder, "env")
        _expect(finished.exit_code == 0, f"env ended with {finished}")
        _expect("sesame" not in text, f"{name} reached the run")


def hands_over_what_the_cell_says(sandbox: Sandbox, folder: Path) -> None:
    """Cell.env reaches the run and goes over what nightlab's own environment says."""
    with _environment("OMP_NUM_THREADS", "7"):
        _, _, text = _run(
            sandbox, folder, 'echo "$OMP_NUM_THREADS,$TIME_BUDGET"', OMP_NUM_THREADS="2",
            TIME_BUDGET="9",
        )  # fmt: skip
    _expect(text == "2,9\n", f"the cell's variables came as {text!r}")


def lets_the_run_write_its_folder(sandbox: Sandbox, folder: Path) -> None:
    """The run folder is there under its own path, and writable."""
    path = str(folder / "run" / "result.json")
    _, finished, text = _run(sandbox, folder, 'echo 1 > "$WHERE"', WHERE=path)
    _expect(finished.exit_code == 0, f"writing the result: {text!r}, {finished}")
    _expect(Path(path).read_text() == "1\n", "the result is not in the run folder")


def takes_hostile_paths(sandbox: Sandbox, folder: Path) -> None:
    """Spaces, quotes, a newline and letters beyond ASCII in a path are only a path."""
    odd = folder / HOSTILE_NAME
    odd.mkdir()
    runs_the_command_in_its_folder(sandbox, odd)
    lets_the_run_write_its_folder(sandbox, odd)


def leaves_nothing_alive(sandbox: Sandbox, folder: Path) -> None:
    """A daemon that forked twice, ignores TERM and has no environment dies with its run."""
    token = fresh_sleep()
    command = f"trap '' TERM; (setsid env -i sleep {token} &) ; (env -i sleep {token} &) ; true"
    _run(sandbox, folder, command)
    _expect(not alive(token), "a process of the run is still alive")


def reaches_its_endpoint_and_no_other(sandbox: Sandbox, folder: Path) -> None:
    """An agent's connection to an endpoint is answered, to another port of the machine not."""
    cell = _cell(folder, f"python3 -c {shlex.quote(_CALLER)}")
    home = folder / "home"
    home.mkdir()
    with _listening() as model, _listening() as other:
        env = {"MODEL": str(model.getsockname()[1]), "OTHER": str(other.getsockname()[1])}
        there = Endpoint("127.0.0.1", int(env["MODEL"]))
        agent = replace(cell, env=env, home=home, endpoints=(there,))
        launch, finished, text = _run_cell(sandbox, folder, agent)
    _expect(text == "hello\nNone\n", f"an agent that called its model saw {text!r}")
    _expect(sandbox.broke(launch, finished) is None, "the box did not hold")


def refuses_what_is_no_endpoint(sandbox: Sandbox, folder: Path) -> None:
    """What an agent asks the proxy of its environment for is refused, counted, told by name."""
    cell = _cell(folder, f"python3 -c {shlex.quote(_ASKER)}")
    home = folder / "home"
    home.mkdir()
    agent = replace(cell, home=home, endpoints=(Endpoint("model.invalid", 443),))
    launch, _, text = _run_cell(sandbox, folder, agent)
    _expect(text == "403\n", f"a proxy that must refuse said {text!r}")
    said = launch.refused()
    _expect(said == {"elsewhere.invalid:443": 1}, f"refusals told: {said}")


def gives_an_agent_its_home(sandbox: Sandbox, folder: Path) -> None:
    """HOME is the folder of the cell: what lies in it is found, and what is written stays."""
    home = folder / "home"
    home.mkdir()
    (home / "settings").write_text("mine\n")
    cell = _cell(folder, 'read -r it < "$HOME/settings"; echo "$it"; echo kept > "$HOME/state"')
    _, _, text = _run_cell(sandbox, folder, replace(cell, home=home))
    _expect(text == "mine\n", f"its settings read as {text!r}")
    _expect((home / "state").read_text() == "kept\n", "what it wrote at home is gone")


_CALLER = """
import os, socket
for name in ("MODEL", "OTHER"):
    try:
        way = socket.create_connection(("127.0.0.1", int(os.environ[name])), 20)
        print(way.recv(100).decode())
    except OSError:
        print(None)
"""
_ASKER = """
import os, socket
host, port = os.environ["HTTPS_PROXY"].split("/")[2].split(":")
way = socket.create_connection((host, int(port)), 20)
way.sendall(b"CONNECT elsewhere.invalid:443 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
print(way.recv(100).decode().split()[1])
"""


@contextmanager
def _listening() -> Iterator[socket.socket]:
    """A server on loopback that says hello to whoever calls."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    caller, _ = server.accept()
                    with caller:
                        caller.sendall(b"hello")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join()


def starts_an_order(executor: Executor, sandbox: Sandbox, folder: Path) -> None:
    """An order runs on its slot, with the slot's environment, to its own end."""
    job = _order(executor, sandbox, folder, 'echo "on $NIGHTLAB_CONTRACT_SLOT"; exit 4')
    finished = _wait(job)
    _expect(finished.exit_code == 4, f"exit 4 came as {finished}")
    _expect(job.tail() == ["on zero"], f"the tail is {job.tail()}")
    _expect(job.elapsed_s() == finished.duration_s, "elapsed is not the duration after the end")
    _expect(_wait(job) == finished, "a second poll says something else")


def polls_without_waiting_for_the_end(executor: Executor, sandbox: Sandbox, folder: Path) -> None:
    """Poll gives up after its timeout; the tail grows while the run goes on."""
    job = _order(executor, sandbox, folder, "echo one; sleep 0.6; echo two")
    began = time.monotonic()
    _expect(job.poll(0.1) is None, "a run of 0.6 s was done in 0.1 s")
    _expect(time.monotonic() - began < 0.5, "poll(0.1) took longer than 0.5 s")
    _wait(job)
    _expect(job.tail(1) == ["two"], f"the tail is {job.tail(1)}")


def stops_on_request(executor: Executor, sandbox: Sandbox, folder: Path) -> None:
    """Stop, twice, ends the tree; what was printed is kept; nothing is alive."""
    token = fresh_sleep()
    job = _order(executor, sandbox, folder, f"trap '' TERM; echo begun; sleep {token}")
    while not job.tail():
        _expect(job.poll(0.02) is None, "it ended by itself")
    job.stop()
    job.stop()
    finished = _wait(job)
    _expect(finished.stopped and not finished.timed_out, f"not told as stopped: {finished}")
    _expect(job.tail() == ["begun"], f"the tail is {job.tail()}")
    _expect(not alive(token), "a process of the run is still alive")


def keeps_the_deadline(executor: Executor, sandbox: Sandbox, folder: Path) -> None:
    """A run over its wall_s is killed, and told as timed out."""
    token = fresh_sleep()
    job = _order(executor, sandbox, folder, f"trap '' TERM; sleep {token}", wall_s=0.3)
    finished = _wait(job)
    _expect(finished.timed_out and not finished.stopped, f"not told as timed out: {finished}")
    _expect(not alive(token), "a process of the run is still alive")


def frees_the_slot(executor: Executor, sandbox: Sandbox, folder: Path) -> None:
    """When a run has ended its slot takes the next one."""
    for number in range(2):
        job = _order(executor, sandbox, folder, f"exit {number}")
        _expect(_wait(job).exit_code == number, "the wrong run ended")


def closes_with_nothing_alive(executor: Executor, sandbox: Sandbox, folder: Path) -> None:
    """Close stops what runs and returns when it is dead."""
    token = fresh_sleep()
    _order(executor, sandbox, folder, f"trap '' TERM; sleep {token}")
    executor.close()
    _expect(not alive(token), "a process of the run is still alive")


def _order(
    executor: Executor, sandbox: Sandbox, folder: Path, command: str, wall_s: float = 60
) -> Job:
    cell = _cell(folder, command)
    log = folder / "log.txt"
    return executor.start(Order(cell, sandbox, executor.slots[0], wall_s, log, grace_s=0.2))


def _wait(job: Job) -> Finished:
    finished = job.poll(90)
    if finished is None:
        raise AssertionError("the run did not end")
    return finished


SANDBOX_CHECKS: tuple[Callable[[Sandbox, Path], None], ...] = (
    says_what_it_covers,
    runs_the_command_in_its_folder,
    keeps_secrets_out,
    hands_over_what_the_cell_says,
    lets_the_run_write_its_folder,
    takes_hostile_paths,
    leaves_nothing_alive,
)
# For a sandbox that says ``confines_network``; its box needs a ``python3``.
AGENT_CHECKS: tuple[Callable[[Sandbox, Path], None], ...] = (
    reaches_its_endpoint_and_no_other,
    refuses_what_is_no_endpoint,
    gives_an_agent_its_home,
)
# The executor under test is made with the one slot ``CONTRACT_SLOT``.

EXECUTOR_CHECKS: tuple[Callable[[Executor, Sandbox, Path], None], ...] = (
    starts_an_order,
    polls_without_waiting_for_the_end,
    stops_on_request,
    keeps_the_deadline,
    frees_the_slot,
    closes_with_nothing_alive,
)
