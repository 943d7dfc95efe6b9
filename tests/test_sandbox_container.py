"""The container sandbox: its command line against a fake engine, its contract against podman."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nightlab.errors import SandboxError
from nightlab.process import Finished
from nightlab.sandboxes import Cell, Options, Sandbox, _profile, container
from nightlab.sandboxes.container import ContainerSandbox
from nightlab.testing.contracts import SANDBOX_CHECKS, alive, fresh_sleep
from tests.support import boxed, hidden_behind_links, hides_behind_links

# Plays an engine: notes its arguments, a line each, and answers by its first word.
FAKE = """#!/bin/sh
for word; do printf '%s\\n' "$word" >> "$FAKE/calls"; done
echo -- >> "$FAKE/calls"
cat "$FAKE/$1.said" 2>/dev/null
exit "$(cat "$FAKE/$1.code" 2>/dev/null || echo 0)"
"""


class Fake:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def says(self, verb: str, text: str = "", code: int = 0) -> None:
        (self.folder / f"{verb}.said").write_text(text)
        (self.folder / f"{verb}.code").write_text(str(code))

    def state(self, **state: object) -> None:
        self.says("inspect", json.dumps([{"State": state}]))

    def calls(self) -> list[list[str]]:
        text = (self.folder / "calls").read_text()
        return [call.splitlines() for call in text.split("--\n") if call]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    folder = tmp_path / "fake"
    folder.mkdir()
    for name in ("docker",):
        (folder / name).write_text(FAKE.replace("$FAKE", str(folder)))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(container, "ENGINES", ("docker",))
    return Fake(folder)


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    tree, run_dir = tmp_path / "tree", tmp_path / "run"
    tree.mkdir()
    run_dir.mkdir()
    (tree / "train.py").write_text("")
    (tree / "prepare.py").write_text("")
    return Cell("python train.py", tree, tree, run_dir, writable=("train.py",))


def ended(code: int | None, *, timed_out: bool = False) -> Finished:
    return Finished(
        exit_code=code, signal=None, timed_out=timed_out, stopped=False, oom=False,
        duration_s=1, cpu_s=1, peak_memory_bytes=1, log_bytes=0,
    )  # fmt: skip


def test_the_command_line_has_every_wall(fake: Fake, cell: Cell, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    options = Options(image="lab:1", processes=77, disk_bytes=5000)
    cell = replace(cell, data=(data,), memory_bytes=1 << 30, env={"TIME_BUDGET": "9"})
    argv = ContainerSandbox(options).launch(cell).argv
    line = " ".join(argv)
    for wall in (
        "docker run --name nightlab-", "--network none", "--read-only", "--cap-drop ALL",
        "--security-opt no-new-privileges", "--pids-limit 77", "--memory 1073741824",
        "--memory-swap 1073741824", "--pull never", "--ulimit core=0:0", "--ulimit fsize=5000:5000",
        "--env TIME_BUDGET ", f"--volume {data}:{data}:ro", f"--volume {cell.tree}:{cell.tree}:rw",
        f"--volume {cell.tree}/prepare.py:{cell.tree}/prepare.py:ro", f"--workdir {cell.tree}",
        "--user ",
    ):  # fmt: skip
        assert wall in line, wall
    assert "train.py:" not in line
    assert argv[-1] == "python train.py"
    assert "docker.sock" not in line


def test_values_of_variables_are_not_on_the_command_line(fake: Fake, cell: Cell) -> None:
    launch = ContainerSandbox(Options("x")).launch(replace(cell, env={"PASSED": "sesame"}))
    assert "sesame" not in " ".join(launch.argv)
    assert launch.env["PASSED"] == "sesame"


def test_a_container_is_killed_and_removed_by_its_name(fake: Fake, cell: Cell) -> None:
    launch = ContainerSandbox(Options("x")).launch(cell)
    name = launch.argv[launch.argv.index("--name") + 1]
    launch.cleanup()
    assert ["kill", "--signal", "KILL", name] in fake.calls()
    assert ["rm", "--force", name] in fake.calls()


def test_a_container_that_cannot_be_removed_is_told(fake: Fake, cell: Cell) -> None:
    launch = ContainerSandbox(Options("x")).launch(cell)
    fake.says("rm", "device busy", 1)
    fake.state(Status="running")
    with pytest.raises(SandboxError) as raised:
        launch.cleanup()
    assert "rm --force" in raised.value.hint


def test_the_engine_is_asked_how_the_program_ended(fake: Fake, cell: Cell) -> None:
    sandbox = ContainerSandbox(Options("x"))
    launch = sandbox.launch(cell)
    fake.state(Status="exited", ExitCode=125, Error="")
    assert sandbox.broke(launch, ended(125)) is None
    fake.state(Status="exited", ExitCode=137, Error="")
    assert "137" in (sandbox.broke(launch, ended(0)) or "")
    fake.state(Status="created", ExitCode=128, Error="no such device")
    assert "no such device" in (sandbox.broke(launch, ended(125)) or "")
    fake.says("inspect", "Error: no such container", 1)
    assert "made no container" in (sandbox.broke(launch, ended(125)) or "")
    assert sandbox.broke(launch, ended(None, timed_out=True)) is None


def test_leftovers_of_dead_nightlabs_are_swept_and_of_live_ones_not(fake: Fake) -> None:
    owner = container._owner()
    fake.says("ps", f"aaa1 {owner}\nbbb2 {os.getpid()}.1\nccc3 4194400.77\nddd4 strange\n")
    assert container.sweep("docker") == 2
    removed = [call[-1] for call in fake.calls() if call[0] == "rm"]
    assert removed == ["bbb2", "ccc3"]


@pytest.mark.parametrize(
    ("verb", "said", "cure"),
    [
        ("version", "Cannot connect to the Docker daemon at unix:///", "systemctl start docker"),
        ("image", "no such image", "docker pull lab:1"),
        ("run", "runc: cannot setrlimit: operation not permitted", "default_ulimits"),
    ],
)
def test_what_an_engine_cannot_do_is_told_with_its_cure(
    fake: Fake, verb: str, said: str, cure: str
) -> None:
    fake.says(verb, said, 1)
    with pytest.raises(SandboxError) as raised:
        ContainerSandbox(Options("lab:1")).check()
    assert cure in raised.value.hint


def test_without_an_image_or_an_engine_nothing_is_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SandboxError) as raised:
        ContainerSandbox().check()
    assert "image" in raised.value.hint
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError) as raised:
        ContainerSandbox(Options("x")).check()
    assert "install podman" in raised.value.hint


def test_an_image_cannot_smuggle_an_option_in(fake: Fake, cell: Cell) -> None:
    with pytest.raises(SandboxError):
        ContainerSandbox(Options("--privileged")).launch(cell)


def test_a_path_that_no_engine_can_take_is_refused(fake: Fake, tmp_path: Path) -> None:
    tree = tmp_path / "a:b"
    tree.mkdir()
    with pytest.raises(SandboxError) as raised:
        ContainerSandbox(Options("x")).launch(Cell("true", tree, tree, tree))
    assert "colon" in raised.value.what


# -- with a real podman

IMAGE = "localhost/nightlab-test:1"
PROGRAMS = ("sh", "cat", "env", "setsid", "sleep", "true", "touch", "id", "ls", "head", "kill")


def tiny_image() -> bytes:
    """A root filesystem of a few of this machine's own programs, without a registry."""
    files: set[str] = set()
    for name in PROGRAMS:
        where = shutil.which(name, path="/usr/bin:/bin")
        if where is None:
            continue
        files.add(where)
        said = subprocess.run(["ldd", where], capture_output=True, text=True, check=False).stdout
        files.update(word for word in said.split() if word.startswith("/"))
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for folder in ("tmp", "proc", "sys", "dev", "etc", "run", "work"):
            made = tarfile.TarInfo(folder)
            made.type, made.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(made)
        for name in ("bin", "lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
        for file in sorted(files):
            target = file if file.startswith("/usr/") else f"/usr{file}"
            tar.add(os.path.realpath(file), target.lstrip("/"), recursive=False)
    return data.getvalue()


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerSandbox]:
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    folder = tmp_path_factory.mktemp("image")
    (folder / "root.tar").write_bytes(tiny_image())
    done = subprocess.run(
        ["podman", "import", folder / "root.tar", IMAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"podman cannot import an image: {done.stderr.strip()[-200:]}")
    sandbox = ContainerSandbox(Options(image=IMAGE))
    try:
        sandbox.check()
    except SandboxError as error:
        pytest.skip(f"podman does not work here: {error.why}")
    yield sandbox
    subprocess.run(["podman", "rmi", "--force", IMAGE], capture_output=True, check=False)


@pytest.mark.parametrize("check", SANDBOX_CHECKS, ids=lambda check: check.__name__)
def test_podman_keeps_the_contract(
    check: Callable[[Sandbox, Path], None], podman: Sandbox, tmp_path: Path
) -> None:
    check(podman, tmp_path)


def run(sandbox: Sandbox, cell: Cell, wall_s: float = 60) -> tuple[Finished, str, str | None]:
    done = boxed(sandbox, cell, wall_s)
    return done.finished, done.text, done.broke


def test_podman_keeps_sealed_files_and_the_system_as_they_are(podman: Sandbox, cell: Cell) -> None:
    command = (
        "id -u; echo 1 > train.py && echo 2 > new && ls new; echo x > prepare.py;"
        " echo x > /usr/bin/cat; ls /root/.ssh"
    )
    _, text, broke = run(podman, replace(cell, command=command))
    assert broke is None
    assert text.splitlines()[0] != "0"
    assert "new" in text.splitlines()
    assert (cell.tree / "prepare.py").read_text() == ""
    assert (cell.tree / "train.py").read_text() == "1\n"


def test_podman_hides_by_every_name(podman: Sandbox, cell: Cell, tmp_path: Path) -> None:
    _, text, broke = run(podman, hidden_behind_links(cell, tmp_path / "linked"))
    assert broke is None
    assert hides_behind_links(text), text


def test_a_container_over_its_deadline_is_dead_and_gone(podman: Sandbox, cell: Cell) -> None:
    token = fresh_sleep()
    command = f"trap '' TERM; (setsid sleep {token} &); sleep {token}"
    finished, _, broke = run(podman, replace(cell, command=command), wall_s=2)
    assert finished.timed_out
    assert broke is None
    assert alive(token) == []
    said = subprocess.run(
        ["podman", "ps", "-aq", "--filter", f"label={container._LABEL}={container._owner()}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == ""


def test_a_program_that_kills_itself_in_a_container_is_a_crash(podman: Sandbox, cell: Cell) -> None:
    finished, _, broke = run(podman, replace(cell, command="kill -KILL $$"))
    assert (finished.exit_code, broke) == (137, None)


def test_podmans_list_of_calls_loses_what_ours_refuses_and_gains_nothing() -> None:
    given = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [],
        "syscalls": [
            {"names": ["read", "socket", "io_uring_setup"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "args": []},
            {"names": ["bpf"], "action": "SCMP_ACT_ERRNO"},
        ],
    }
    made = json.loads(_profile.stricter(json.dumps(given)) or "")
    assert made["defaultAction"] == "SCMP_ACT_ERRNO"
    assert made["syscalls"][:2] == [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"}, given["syscalls"][2],
    ]  # fmt: skip
    sockets = made["syscalls"][2:]
    assert [rule["args"][0]["value"] for rule in sockets] == [1, 2, 10, 16]
    assert _profile.stricter("{}") is None
    assert _profile.stricter('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}') is None
