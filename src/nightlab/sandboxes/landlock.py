"""The Landlock sandbox: for a Linux where no namespaces can be made.

The kernel keeps a run to the files that it is given, and a filter to sockets of the machine's
own. It needs no privilege and no package. There is no private view of anything: processes can
be seen, shared memory is everybody's, and nothing in the project's copy can be sealed.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nightlab import process
from nightlab._removal import remove_tree
from nightlab.errors import SandboxError
from nightlab.process import Finished
from nightlab.sandboxes import Cell, Launch, Options, _landlock, _nobody, _seccomp
from nightlab.sandboxes._files import Files, Told
from nightlab.sandboxes._inside import ETC, look
from nightlab.sandboxes._programs import SYSTEM, Finder
from nightlab.sandboxes._relay import Relay, proxy_environment
from nightlab.sandboxes._trial import refusal

_READ = ("/proc", "/sys/devices/system", "/etc/passwd", "/etc/group", "/etc/hosts")
_DEVICES = ("null", "zero", "full", "random", "urandom", "shm")
_GPU_NODES = ("nvidia*", "dri", "kfd", "dxg")
_UP = b"up"


@dataclass(frozen=True)
class _Confined(Launch):
    """A launch whose first step says whether it put itself under Landlock."""

    told: Told | None = None


class LandlockSandbox:
    """Files by allow-list and no network, by the kernel's own means."""

    name = "landlock"
    covers = (
        "your files, home and secrets, the network, signals to other processes (Linux 6.12 on),"
        " memory, disk, processes left behind, and most of the kernel's calls"
    )
    leaves_open = (
        "local sockets with a path, the list of processes, shared memory, file modes and times,"
        " sealed files in the run's own copy (checked after it), an agent's network (held by port,"
        " not by host; from Linux 6.7 on), the kernel, the GPU driver"
    )

    confines_network = False

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()
        self._finder = Finder()

    def check(self) -> None:
        """Run a program that tries to read what it must not. Raises SandboxError."""
        if sys.platform != "linux" or _landlock.abi() == 0:
            raise SandboxError(
                "this kernel has no Landlock", "it came with Linux 5.13 and can be switched off",
                "cat /sys/kernel/security/lsm   (add landlock to the kernel's lsm= option)",
            )  # fmt: skip
        with tempfile.NamedTemporaryFile(prefix="nightlab-") as outside:
            command = 'if cat "$OUTSIDE"; then exit 9; fi; echo 1 > written'
            said = refusal(self, "Landlock", command=command, env={"OUTSIDE": outside.name})
        if said:
            raise SandboxError(
                "Landlock does not confine here", said[-300:], "cat /sys/kernel/security/lsm"
            )

    def launch(self, cell: Cell) -> Launch:
        """Name what may be read and written. Raises SandboxError."""
        inside = look(cell, self._finder)
        with contextlib.ExitStack() as stack:
            files = Files(stack)
            own = Path(tempfile.mkdtemp(prefix="nightlab-"))
            stack.callback(remove_tree, own)
            env = inside.env | {"HOME": str(cell.home or _home(own, inside.home, cell))}
            env["TMPDIR"] = str(own / "tmp")
            relay = Relay(cell.endpoints) if cell.endpoints else None
            ports = [] if relay is None else _ports(relay, stack, env)
            (own / "tmp").mkdir()
            read = [*map(str, SYSTEM), *_READ, *(f"/etc/{name}" for name in ETC)]
            read += map(str, inside.shown)
            hidden = tuple(path.resolve() for path in cell.hidden)
            read += [str(p) for data in cell.data for p in _without(data, hidden)]
            around = {folder for path in hidden for folder in path.parents}
            write = [*map(str, cell.own), str(own)]
            write += [f"/dev/{name}" for name in _DEVICES]
            if cell.gpus:  # the driver writes the names of its threads into /proc
                read.append("/sys")
                write += ["/proc", *(str(n) for p in _GPU_NODES for n in Path("/dev").glob(p))]
            order = {
                "argv": ["/bin/sh", "-c", os.fsencode(cell.command)],
                "read": [os.fsencode(path) for path in read],
                "list": [os.fsencode(p) for p in cell.data if p.resolve() in around],
                "write": [os.fsencode(path) for path in write],
                "ports": ports,
                "filter": _seccomp.program(
                    os.uname().machine, (_seccomp.AF_UNIX,), tcp=bool(ports)
                ),
            }
            told = files.answer()
            given = files.made(marshal.dumps(order))
            return _Confined(
                argv=(
                    sys.executable, "-I", "-S", "-B", _landlock.__file__, f"{given}", f"{told.fd}",
                ),
                env=env,
                cwd=cell.cwd,
                memory_bytes=cell.memory_bytes,
                fsize_bytes=self._options.disk_bytes,
                folders=(*cell.own, own),
                disk_bytes=self._options.all_bytes(cell),
                processes=self._options.most_processes,
                pass_fds=tuple(files.fds),
                cleanup=stack.pop_all().close,
                refused=relay.refused if relay else _nobody,
                told=told,
            )  # fmt: skip

    def broke(self, launch: Launch, finished: Finished) -> str | None:
        """The launcher says in a file of its own that it is up, or what failed."""
        told = launch.told if isinstance(launch, _Confined) else None
        if (
            told is None
            or finished.timed_out
            or finished.stopped
            or finished.oom
            or finished.overran
        ):
            return None
        said = told.read()
        if said == _UP:
            return None
        return process.clean(said.decode("utf-8", "replace")) or "the launcher did not come up"


def _ports(relay: Relay, stack: contextlib.ExitStack, env: dict[str, str]) -> list[int]:
    """The ports of this machine's own network that lead to the endpoints."""
    stack.callback(relay.close)
    direct = [port for port in relay.ports if port != relay.proxy_port]
    if relay.proxy_port is None:
        return direct
    port = relay.proxy_here()
    env.update(proxy_environment(port))
    return [*direct, port]


def _without(place: Path, hidden: tuple[Path, ...]) -> Iterator[Path]:
    """The place, or what is in it, such that nothing hidden lies beneath: rules only add.

    ``hidden`` are real paths. Links inside need no rule: it would be one for what they lead to.
    """
    real = place.resolve()
    if any(real.is_relative_to(path) for path in hidden):
        return
    if real.is_dir() and any(real in path.parents for path in hidden):
        for inner in place.iterdir():
            if not inner.is_symlink():
                yield from _without(inner, hidden)
    else:
        yield place


def _home(own: Path, real: str, cell: Cell) -> Path:
    """A fresh home, in which data that lies below the real one is found at the same place."""
    home = own / "home"
    home.mkdir()
    for data in cell.data:
        if data.is_relative_to(real) and data != Path(real):
            link = home / data.relative_to(real)
            if not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(data)
    return home
