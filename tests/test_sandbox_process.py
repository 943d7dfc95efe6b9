"""The process sandbox: the shipped contract, and what is its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nightlab import sandboxes
from nightlab.errors import ConfigError, SandboxError
from nightlab.sandboxes import SANDBOXES, Cell, Sandbox, open_sandbox
from nightlab.sandboxes.process import ProcessSandbox, scrubbed
from nightlab.testing.contracts import SANDBOX_CHECKS


@pytest.mark.parametrize("check", SANDBOX_CHECKS, ids=lambda check: check.__name__)
def test_the_process_sandbox_keeps_the_contract(
    check: Callable[[Sandbox, Path], None], tmp_path: Path
) -> None:
    check(ProcessSandbox(), tmp_path)


def test_only_named_variables_pass_and_none_with_a_name_like_a_secret() -> None:
    kept = scrubbed(
        {
            "PATH": "/bin",
            "HOME": "/home/x",
            "LC_ALL": "C.UTF-8",
            "CUDA_VISIBLE_DEVICES": "0",
            "OMP_NUM_THREADS": "2",
            "TERM": "xterm",
            "NVIDIA_API_KEY": "s",
            "TORCH_AUTH": "s",
            "HF_TOKEN": "s",
            "GIT_DIR": "x",
            "SSH_AUTH_SOCK": "x",
            "PYTHONPATH": "/home/x/checkout",
            "LD_PRELOAD": "x.so",
            "NIGHTLAB_RUN": "outer",
        }
    )
    assert kept == {
        "PATH": "/bin",
        "HOME": "/home/x",
        "LC_ALL": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": "0",
        "OMP_NUM_THREADS": "2",
        "TERM": "dumb",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def test_without_a_path_the_run_still_finds_programs() -> None:
    assert scrubbed({})["PATH"]


def test_the_memory_bound_of_the_cell_is_handed_on(tmp_path: Path) -> None:
    cell = Cell("true", tmp_path, tmp_path, tmp_path, memory_bytes=123)
    assert ProcessSandbox().launch(cell).memory_bytes == 123


def test_auto_opens_a_sandbox_that_works() -> None:
    assert open_sandbox("auto").name in SANDBOXES
    assert open_sandbox("process").name == "process"


def test_an_unknown_sandbox_is_refused_with_the_known_names() -> None:
    with pytest.raises(ConfigError) as raised:
        open_sandbox("bubblewarp")
    assert "process" in raised.value.why


class Broken(ProcessSandbox):
    name = "broken"

    def check(self) -> None:
        raise SandboxError("the box does not close", "no lid")


def test_auto_passes_over_what_cannot_work_and_says_why_when_nothing_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandboxes, "Broken", Broken, raising=False)
    monkeypatch.setattr(
        sandboxes,
        "SANDBOXES",
        {"broken": "nightlab.sandboxes:Broken", "process": SANDBOXES["process"]},
    )
    assert open_sandbox("auto").name == "process"
    monkeypatch.setattr(sandboxes, "SANDBOXES", {"broken": "nightlab.sandboxes:Broken"})
    with pytest.raises(SandboxError) as raised:
        open_sandbox("auto")
    assert "no lid" in raised.value.why
    with pytest.raises(SandboxError):
        open_sandbox("broken")


def test_check_says_so_when_programs_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox = ProcessSandbox()
    launch = sandbox.launch

    def without_shell(cell: Cell) -> sandboxes.Launch:
        return sandboxes.Launch(("/no/such/shell",), launch(cell).env, cell.cwd)

    monkeypatch.setattr(sandbox, "launch", without_shell)
    with pytest.raises(SandboxError) as raised:
        sandbox.check()
    assert "No such file" in raised.value.why
