"""The sandbox that is always there: a scrubbed environment and a certain death.

It is not a security boundary. It keeps accidents in: secrets in the environment, processes
left behind, time, memory. What it leaves open is said at every start.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from nightlab import process
from nightlab.errors import NightlabError, SandboxError
from nightlab.process import Finished
from nightlab.sandboxes import Cell, Launch, Options

# What a training script needs of the person's environment. PYTHONPATH is not among it: set in
# the person's checkout, it would let a run import modules from there instead of from the
# experiment's own tree, and measure code that was not changed. Who needs it passes it by name.
_ALLOWED = re.compile(
    r"""PATH | HOME | USER | LOGNAME | SHELL | LANG | LANGUAGE | TZ | TMPDIR
    | VIRTUAL_ENV | CONDA_PREFIX | LD_LIBRARY_PATH | DYLD_LIBRARY_PATH
    | XDG_CACHE_HOME | HF_HOME | HF_HUB_OFFLINE | TORCH_HOME
    | UV_CACHE_DIR | UV_PROJECT_ENVIRONMENT | UV_PYTHON_INSTALL_DIR
    | (LC | CUDA | NVIDIA | NCCL | HIP | ROCR | HSA | OMP | MKL | OPENBLAS | KMP | NUMEXPR
       | VECLIB | TORCH | PYTORCH | TORCHINDUCTOR | TRITON | XLA | JAX | TF)_.*""",
    re.VERBOSE,
)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|COOKIE|SESSION", re.IGNORECASE)
_FIXED = {"TERM": "dumb", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that a run may see; no secret's name is in it."""
    kept = {
        name: value
        for name, value in environment.items()
        if _ALLOWED.fullmatch(name) and not _SECRET.search(name)
    }
    kept.setdefault("PATH", os.defpath)
    return kept | _FIXED


class ProcessSandbox:
    """A session and process group of its own, limits, a scrubbed environment; no walls."""

    name = "process"
    covers = (
        "time, memory, disk (its own folders), every process a run leaves behind, secrets in your"
        " environment"
    )
    leaves_open = "your files, the network, your other processes: a run can do what you can"

    confines_network = False

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()

    def check(self) -> None:
        """Start ``true`` for real. Raises SandboxError."""
        with tempfile.TemporaryDirectory(prefix="nightlab-") as folder:
            here = Path(folder)
            launch = self.launch(Cell("true", here, here, here))
            try:
                finished = process.start(
                    launch.argv, env=launch.env, cwd=here, wall_s=30, log=here / "log"
                ).poll(40)
            except NightlabError as error:
                raise SandboxError(
                    "no program can be started under the process sandbox", error.why, error.hint
                ) from error
        if finished is None or finished.exit_code != 0:
            raise SandboxError(
                "`true` does not work under the process sandbox",
                f"it ended as {finished}",
                "/bin/sh -c true; ulimit -a",
            )

    def launch(self, cell: Cell) -> Launch:
        home = {"HOME": str(cell.home)} if cell.home else {}
        return Launch(
            argv=("/bin/sh", "-c", cell.command),
            env=scrubbed(os.environ) | cell.env | home,
            cwd=cell.cwd,
            memory_bytes=cell.memory_bytes,
            fsize_bytes=self._options.disk_bytes,
            folders=cell.own,
            disk_bytes=self._options.all_bytes(cell),
            processes=self._options.most_processes,
        )

    def broke(self, launch: Launch, finished: Finished) -> str | None:
        """There are no walls that could fail: what does not start is raised by ``poll``."""
        del launch, finished
        return None
