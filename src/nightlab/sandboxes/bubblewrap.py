"""The bubblewrap sandbox: namespaces, a file system by allow-list, a system call filter.

Nothing is visible in the box unless it is named here. The order of the mounts matters: a
mount point is only ever made on bubblewrap's own tmpfs, or exists already in a copy that no
run has written to yet (bubblewrap follows links when it makes one: CVE-2026-87766).

Started by root, the command gets a user id of its own, which owns nothing but the run's
folder: root without capabilities is still the owner of every file of the system, and no limit
of processes holds for it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nightlab import process
from nightlab.errors import SandboxError
from nightlab.process import Finished
from nightlab.sandboxes import Cell, Launch, Options, _nobody, _seccomp
from nightlab.sandboxes._files import Files, Told
from nightlab.sandboxes._inside import ETC, look
from nightlab.sandboxes._owner import check_readable, hand_over, own_uid
from nightlab.sandboxes._programs import SYSTEM, Finder
from nightlab.sandboxes._relay import Relay, gate_source
from nightlab.sandboxes._tree import sealed
from nightlab.sandboxes._trial import refusal

_HOSTS = "127.0.0.1 localhost nightlab\n::1 localhost\n"
# Made on the way to a mount below them they would be for root alone.
_PARENTS = ("/etc", "/etc/ssl", "/etc/pki", "/etc/pki/tls", "/opt", "/run", "/sys", "/sys/devices")
_GPU_NODES = ("nvidia*", "dri", "kfd", "dxg")
_GPU_FOLDERS = ("/sys", "/run/opengl-driver", "/etc/vulkan", "/opt/rocm")
_SHM_BYTES, _TMP_BYTES = 2 << 30, 2 << 30
_AGENT_PROCESSES = 512

# What bubblewrap says -> what to do. Its words are stable over versions 0.4 to 0.11.
_APPARMOR = (
    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0   (as root), or an AppArmor"
    " profile for /usr/bin/bwrap with the rule `userns,`"
)
_COUNT = "sysctl -w user.max_user_namespaces=15000   (as root)"
_DOCKER = (
    "in Docker, start the outer container with: --security-opt seccomp=unconfined"
    " --security-opt systempaths=unconfined"
)
_CURES = (
    ("No permissions to create new", "sysctl -w kernel.unprivileged_userns_clone=1   (as root)"),
    ("setting up uid map", _APPARMOR),
    ("RTM_NEWADDR", _APPARMOR),
    ("No space left on device", _COUNT),
    ("ENOSPC", _COUNT),
    ("Operation not permitted", _DOCKER),
    ("Unknown option", "install bubblewrap 0.5 or newer"),
)


@dataclass(frozen=True)
class _Boxed(Launch):
    """A launch in a box; bubblewrap says in ``status`` whether the box came to be."""

    status: Told | None = None
    relay: Relay | None = None


class BubblewrapSandbox:
    """A box with nothing in it but the run's own files, the system's and the interpreter's."""

    name = "bubblewrap"
    covers = (
        "your files, home and secrets, the network, other processes, memory, disk, processes"
        " left behind, and most of the kernel's calls"
    )
    leaves_open = "the kernel itself, the GPU driver, and whatever the run prints about itself"

    confines_network = True

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()
        self._finder = Finder()
        self._flags: frozenset[str] | None = None

    def check(self) -> None:
        """Build a box for ``true`` with the flags of a run. Raises SandboxError with the cure."""
        said = refusal(self, "bubblewrap", hint="bwrap --version")
        if said:
            raise SandboxError("bubblewrap cannot build its box here", said[-300:], _cure(said))

    def launch(self, cell: Cell) -> Launch:
        """Name every mount and every limit. Raises SandboxError."""
        tools = {name: self._tool(name) for name in ("bwrap", "setpriv", "prlimit")}
        uid = own_uid(cell)
        inside = look(cell, self._finder)
        if uid is not None:
            check_readable((*inside.shown, *cell.data))
        with contextlib.ExitStack() as stack:
            keep = Files(stack)
            status = keep.answer()
            relay = Relay(cell.endpoints) if cell.endpoints else None
            gate = _gate(cell, self._finder, keep, stack, relay)
            shown = (*inside.shown, *gate.shown)
            env = inside.env | (relay.env if relay else {})
            argv = [tools["bwrap"], *self._namespaces(uid)]
            argv += _system(keep, uid, env["HOME"])
            argv += _spaces(cell, inside.home)
            argv += _devices(cell)
            argv += _places(cell, shown, Path(inside.home))
            argv += ["--chdir", str(cell.cwd), "--json-status-fd", str(status.fd)]
            code = _seccomp.program(os.uname().machine, _seccomp.LOCAL_FAMILIES)
            if code is not None:
                argv += ["--seccomp", str(keep.made(code))]
            argv += ["--remount-ro", "/", "--"]
            if uid is not None:
                hand_over(cell, uid)
                argv += [tools["setpriv"], f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
                argv += ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"]
            argv += [tools["prlimit"], *self._limits(cell), "--", *gate.argv]
            argv += ["/bin/sh", "-c", cell.command]
            return _Boxed(
                argv=tuple(argv),
                env=env,
                cwd=Path("/"),
                memory_bytes=cell.memory_bytes,
                folders=cell.own,
                disk_bytes=self._options.all_bytes(cell),
                pass_fds=tuple(keep.fds),
                cleanup=stack.pop_all().close,
                refused=relay.refused if relay else _nobody,
                status=status,
                relay=relay,
            )

    def broke(self, launch: Launch, finished: Finished) -> str | None:
        """Bubblewrap's own failures end with 1, like many programs: ask its status file."""
        if not isinstance(launch, _Boxed) or launch.status is None:
            return None
        status = launch.status
        if finished.cut_short:
            return None
        if b'"exit-code"' in status.read():
            if launch.relay is not None and not launch.relay.ready:
                return "the way to the agent's endpoints was not opened; see the end of the log"
            return None
        if finished.signal is not None:
            return f"bubblewrap itself was killed by signal {finished.signal}, from outside the box"
        return "bubblewrap could not build the box; its own words are at the end of the log"

    @staticmethod
    def _tool(name: str) -> str:
        where = shutil.which(name) or shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
        if where is None:
            package = "bubblewrap" if name == "bwrap" else "util-linux"
            raise SandboxError(
                f"{name} is not installed", "the bubblewrap sandbox needs it",
                f"apt-get install {package}   (or: dnf install {package})",
            )  # fmt: skip
        return where

    def _knows(self, flag: str) -> bool:
        if self._flags is None:
            said = process.call((self._tool("bwrap"), "--help"))
            self._flags = frozenset((said.stdout + said.stderr).decode().split())
        return flag in self._flags

    def _namespaces(self, uid: int | None) -> Iterator[str]:
        yield from ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts")
        yield from ("--unshare-cgroup-try", "--die-with-parent", "--new-session")
        yield from ("--hostname", "nightlab", "--cap-drop", "ALL")
        if uid is None:
            yield "--unshare-user"
            if self._knows("--disable-userns"):
                yield "--disable-userns"
        else:  # for setpriv alone, which leaves none of them
            for name in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
                yield from ("--cap-add", name)

    def _limits(self, cell: Cell) -> list[str]:
        """For prlimit, inside: there the count of processes is of this run alone."""
        processes = self._options.most_processes
        if cell.home is not None:  # an agent: its own threads, its servers, its children's
            processes = max(processes, _AGENT_PROCESSES)
        wanted = {
            "core": (resource.RLIMIT_CORE, 0),
            "nproc": (resource.RLIMIT_NPROC, processes),
            "nofile": (resource.RLIMIT_NOFILE, 4096),
        }
        if self._options.disk_bytes:
            wanted["fsize"] = (resource.RLIMIT_FSIZE, self._options.disk_bytes)
        found = []
        for name, (number, limit) in wanted.items():
            hard = resource.getrlimit(number)[1]
            most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            found.append(f"--{name}={most}:{most}")
        return found


@dataclass(frozen=True)
class _Gate:
    """What stands before the command in a box with endpoints, and what it needs to be shown."""

    argv: tuple[str, ...] = ()
    shown: tuple[Path, ...] = ()


def _gate(
    cell: Cell, finder: Finder, keep: Files, stack: contextlib.ExitStack, relay: Relay | None
) -> _Gate:
    if relay is None:
        return _Gate()
    stack.callback(relay.close)
    way = relay.inherited()
    stack.callback(way.close)
    keep.fds.append(way.fileno())
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    found = finder.find(shlex.quote(python), {"PATH": os.defpath}, cell.cwd, cell.tree)
    ports = ",".join(map(str, relay.ports))
    argv = (python, "-I", "-S", "-B", "-c", gate_source(), str(way.fileno()), ports)
    return _Gate(argv, found.folders)


def _cure(said: str) -> str:
    for words, cure in _CURES:
        if words in said:
            return cure
    return "bwrap --unshare-user --ro-bind / / true"


def _system(keep: Files, uid: int | None, home: str) -> Iterator[str]:
    for folder in SYSTEM:
        if folder.is_symlink():
            yield from ("--symlink", str(folder.readlink()), str(folder))
        elif folder.is_dir():
            yield from ("--ro-bind", str(folder), str(folder))
    for parent in _PARENTS:
        yield from ("--perms", "0755", "--dir", parent)
    for name in ETC:
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")
    me, group = (os.getuid(), os.getgid()) if uid is None else (uid, uid)
    made = {
        "passwd": f"nightlab:x:{me}:{group}:nightlab:{home}:/bin/sh\n",
        "group": f"nightlab:x:{group}:\n",
        "hosts": _HOSTS,
    }
    for name, text in made.items():
        content = keep.made(os.fsencode(text))
        yield from ("--perms", "0644", "--ro-bind-data", str(content), f"/etc/{name}")
    yield from ("--proc", "/proc", "--dev", "/dev")
    yield from ("--ro-bind-try", "/sys/devices/system", "/sys/devices/system")


def _spaces(cell: Cell, home: str) -> Iterator[str]:
    """Fresh places to write to, in memory, each with a bound."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = min(memory // 4, cell.memory_bytes or memory)
    sizes = {"/dev/shm": _SHM_BYTES, "/tmp": _TMP_BYTES, home: _TMP_BYTES}  # noqa: S108 - the box's own
    for place, size in sizes.items():
        yield from ("--size", str(min(size, most)), "--perms", "1777", "--tmpfs", place)


def _devices(cell: Cell) -> Iterator[str]:
    """For a run with a GPU: its nodes, and what CUDA reads to find them."""
    if not cell.gpus:
        return
    for pattern in _GPU_NODES:
        for node in sorted(Path("/dev").glob(pattern)):
            yield from ("--dev-bind-try", str(node), str(node))
    for place in _GPU_FOLDERS:
        yield from ("--ro-bind-try", place, place)


def _places(cell: Cell, shown: tuple[Path, ...], home: Path) -> Iterator[str]:
    """Everything of this run, outer folders first, and on top what it may not change."""
    mounts: dict[Path, str] = {}
    for place in (*shown, *cell.data):
        if place.exists() and not any(place.is_relative_to(s) for s in SYSTEM):
            mounts[place] = "--ro-bind"
    for place in cell.own:
        if cell.run_dir not in place.parents:
            mounts[place] = "--bind"
    made: set[Path] = set()
    for place in sorted(mounts):
        if any(other in mounts for other in place.parents):
            if place.exists() and mounts[place] == "--ro-bind":
                continue  # seen through the outer one
        else:
            for parent in reversed(place.parents[:-1]):
                if parent not in made:
                    made.add(parent)
                    # Beside what is shown of ~/.cache, a program may want its own ~/.cache/x.
                    perms = "1777" if parent.is_relative_to(home) else "0755"
                    yield from ("--perms", perms, "--dir", str(parent))
        real = Path(os.path.realpath(place))
        if place.is_symlink() and place.is_file() and _is_seen(real, mounts):
            # A program finds its own folder by following its name.
            yield from ("--symlink", str(real), str(place))
        else:
            yield from (mounts[place], str(place), str(place))
    for path in sealed(cell.tree, cell.writable):
        yield from ("--ro-bind", str(path), str(path))
    for path in cell.covered(mounts):
        if path.is_dir():
            yield from ("--perms", "0555", "--size", "4096", "--tmpfs", str(path))
        else:
            yield from ("--ro-bind", "/dev/null", str(path))


def _is_seen(path: Path, mounts: Mapping[Path, str]) -> bool:
    return any(path.is_relative_to(place) for place in (*SYSTEM, *mounts))
