"""One small command in a box around an empty project: does the box work on this machine?"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from nightlab import process
from nightlab.errors import NightlabError, SandboxError
from nightlab.sandboxes import Cell, Sandbox


def refusal(
    sandbox: Sandbox,
    name: str,
    *,
    command: str = "true",
    env: Mapping[str, str] | None = None,
    wall_s: float = 30.0,
    hint: str = "",
) -> str:
    """What was said when the command did not end well, "" when it did.

    The box is made with the flags of a run. Raises SandboxError where it cannot be started at all.
    """
    with tempfile.TemporaryDirectory(prefix="nightlab-") as folder:
        tree, run_dir, log = (Path(folder) / part for part in ("tree", "run", "log"))
        tree.mkdir()
        run_dir.mkdir()
        launch = sandbox.launch(Cell(command, tree, tree, run_dir, env=dict(env or {})))
        try:
            finished = process.start(
                launch.argv, env=launch.env, cwd=launch.cwd, wall_s=wall_s, log=log,
                pass_fds=launch.pass_fds,
            ).poll(wall_s + 10)  # fmt: skip
            broken = finished and sandbox.broke(launch, finished)
        except NightlabError as error:
            why = error.why or error.what
            raise SandboxError(f"{name} cannot be started", why, hint or error.hint) from error
        finally:
            launch.cleanup()
        said = process.clean(log.read_text("utf-8", "replace")).strip()
    if finished is not None and finished.exit_code == 0:
        return ""
    return said or broken or f"it ended as {finished}"
