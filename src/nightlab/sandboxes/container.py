"""The container sandbox: podman or docker, with an image of your own.

A container does not end with its client: it has a name, is asked about and killed by that
name, and one that a dead nightlab left is found by its label. The image brings the
interpreter and the packages; nothing of it is pulled here.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightlab import process
from nightlab.errors import NightlabError, SandboxError
from nightlab.process import Finished, _proc
from nightlab.sandboxes import Cell, Launch, Options, _nobody, _profile
from nightlab.sandboxes._owner import check_readable, hand_over, own_uid
from nightlab.sandboxes._relay import Relay, gate_source
from nightlab.sandboxes._tree import sealed
from nightlab.sandboxes._trial import refusal
from nightlab.sandboxes.process import scrubbed

ENGINES = ("podman", "docker")
_LABEL = "nightlab.owner"
_SHM_BYTES, _TMP_BYTES = 2 << 30, 2 << 30
_MOST_MOUNTS = 64  # each costs an engine more than bubblewrap
# Of the person's variables these reach the program; the rest speaks of this machine's folders.
_INSIDE = re.compile(
    r"LANG|LANGUAGE|TZ|(LC|CUDA|NVIDIA|NCCL|HIP|ROCR|HSA|OMP|MKL|OPENBLAS|KMP|NUMEXPR|VECLIB"
    r"|TORCH|PYTORCH|TORCHINDUCTOR|TRITON|XLA|JAX|TF)_.*|PYTHON\w+"
)
# What the engine's client needs to find its engine.
_CLIENT = re.compile(r"PATH|HOME|USER|TMPDIR|XDG_RUNTIME_DIR|XDG_(CONFIG|DATA)_HOME"
                     r"|(DOCKER|CONTAINER|CONTAINERS|PODMAN)_.*")  # fmt: skip
_FIXED = {"HOME": "/tmp", "TMPDIR": "/tmp", "USER": "nightlab", "LOGNAME": "nightlab"}  # noqa: S108 - the container's own
# As PID 1 a program's own SIGKILL does nothing to it, and a run that "died" would go on.
_INIT = ("/bin/sh", "-c", '"$@"; exit $?', "sh")
_SHELL = ("/bin/sh", "-c")
_WAY = "/run/nightlab"
_CURES = (
    ("Cannot connect to the Docker daemon", "systemctl start docker"),
    ("permission denied while trying to connect", "usermod -aG docker $USER, and log in again"),
    ("newuidmap", "apt-get install uidmap"),
    ("drop all controllers", 'install runc, and set runtime = "runc" in containers.conf'),
    ("setrlimit", "set default_ulimits in containers.conf"),
    ("executable file not found", "an image with /bin/sh in it"),
)  # fmt: skip


class _Box:
    """A container by its name; how it ended is known after it is removed, too."""

    def __init__(self, engine: str, name: str) -> None:
        self.engine = engine
        self.name = name
        self._removed = False
        self._last: dict[str, Any] | None = None

    def state(self) -> dict[str, Any] | None:
        return self._last if self._removed else _state(self.engine, self.name)

    def remove(self) -> None:
        self._last, self._removed = self.state(), True
        remove(self.engine, self.name)


@dataclass(frozen=True)
class _Contained(Launch):
    """A launch of a container."""

    box: _Box | None = None
    relay: Relay | None = None


class ContainerSandbox:
    """A container without a network, read-only but for the run's own folders."""

    name = "container"
    covers = (
        "your files, home and secrets, the network, other processes, memory, disk, processes left"
        " behind, some of the kernel's calls"
    )
    leaves_open = "the container engine, the kernel, the GPU driver, what the run says of itself"

    confines_network = True

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()
        self._engine = ""

    def check(self) -> None:
        """Run ``true`` in the image, with each engine until one does. Raises SandboxError."""
        self._image()
        found = [engine for engine in ENGINES if shutil.which(engine)]
        if not found:
            raise SandboxError(
                "no container engine is installed", "neither podman nor docker is on PATH",
                "apt-get install podman",
            )  # fmt: skip
        refusals = []
        for engine in found:
            try:
                self._try(engine)
            except SandboxError as error:
                refusals.append(error)
            else:
                sweep(engine)
                return
        raise SandboxError(
            "no container can be run", "; ".join(f"{e.what}: {e.why}" for e in refusals),
            refusals[0].hint,
        )  # fmt: skip

    def _try(self, engine: str) -> None:
        self._engine = engine
        image = self._image()
        _ask(engine, f"{engine} does not work", "version")
        if _call(engine, "image", "inspect", image).exit_code != 0:
            what = f"{engine} has no image {image}"
            raise SandboxError(what, "nightlab pulls nothing", f"{engine} pull {image}")
        said = refusal(self, engine, wall_s=60.0)
        if said:
            cures = [cure for words, cure in _CURES if words in said]
            raise SandboxError(
                f"{engine} cannot run {image}", said[-300:],
                (*cures, f"{engine} run --rm {image} true")[0],
            )  # fmt: skip

    def launch(self, cell: Cell) -> Launch:
        """Name every mount and limit for the engine. Raises SandboxError."""
        image = self._image()
        engine = self._engine or next((e for e in ENGINES if shutil.which(e)), ENGINES[0])
        box = _Box(engine, f"nightlab-{uuid.uuid4().hex[:16]}")
        outside = scrubbed(os.environ)
        inside = {k: v for k, v in outside.items() if _INSIDE.fullmatch(k)} | cell.env | _FIXED
        # Values go through the client's environment: on its command line anybody could read
        # them. What the client itself needs under the same name must be said there.
        client = {k: v for k, v in os.environ.items() if _CLIENT.fullmatch(k)}
        client.setdefault("PATH", os.defpath)
        if cell.home is not None:
            inside["HOME"] = str(cell.home)
        with contextlib.ExitStack() as stack:
            relay, gate = _gate(cell, stack)
            inside |= relay.env if relay else {}
            argv = [engine, "run", "--name", box.name, "--label", f"{_LABEL}={_owner()}"]
            argv += [*_walls(cell, self._options), *_user(engine, cell), *_filter(engine, stack)]
            for key, value in inside.items():
                argv += ["--env", f"{key}={value}" if key in client else key]
            argv += [*_mounts(engine, cell), *gate.flags, "--workdir", str(cell.cwd)]
            argv += ["--entrypoint", _INIT[0], image, *_INIT[1:], *gate.argv, *_SHELL]
            stack.callback(box.remove)
            return _Contained(
                argv=(*argv, cell.command),
                env=inside | client,
                cwd=Path("/"),
                memory_bytes=cell.memory_bytes,
                folders=cell.own,
                disk_bytes=self._options.all_bytes(cell),
                grouped=False,  # the engine makes its own
                cleanup=stack.pop_all().close,
                refused=relay.refused if relay else _nobody,
                box=box,
                relay=relay,
            )

    def broke(self, launch: Launch, finished: Finished) -> str | None:
        """The client's exit code may be the engine's own; the engine knows the program's."""
        if not isinstance(launch, _Contained) or launch.box is None:
            return None
        box = launch.box
        if finished.cut_short:
            return None
        state = box.state()
        if state is None:
            return "the engine made no container; its words are at the end of the log"
        if state.get("Status") == "created" or state.get("Error"):
            said = process.clean(str(state.get("Error") or ""))
            return f"the engine could not start the container: {said or 'see the log'}"
        if state.get("ExitCode") != finished.exit_code:
            return (
                f"the engine says that the program ended with {state.get('ExitCode')},"
                f" its client with {finished.exit_code or finished.signal}"
            )
        if launch.relay is not None and not launch.relay.ready:
            return "the way to the agent's endpoints was not opened: the image needs a python3"
        return None

    def _image(self) -> str:
        if not self._options.image:
            raise SandboxError(
                "no image is configured", "a container needs one that has your packages in it",
                'add  image = "…"  under [sandbox] in nightlab.toml',
            )  # fmt: skip
        if self._options.image.startswith("-"):
            raise SandboxError(f"{self._options.image} is no image", "mend [sandbox] image")
        return self._options.image


@dataclass(frozen=True)
class _Gate:
    """What stands before the command of an agent, and the mount that it needs."""

    argv: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


def _gate(cell: Cell, stack: contextlib.ExitStack) -> tuple[Relay | None, _Gate]:
    if not cell.endpoints:
        return None, _Gate()
    relay = Relay(cell.endpoints)
    stack.callback(relay.close)
    folder = Path(tempfile.mkdtemp(prefix="nightlab-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o711)
    name = uuid.uuid4().hex
    relay.named(folder / name)
    ports = ",".join(map(str, relay.ports))
    argv = ("python3", "-I", "-S", "-B", "-c", gate_source(), f"{_WAY}/{name}", ports)
    return relay, _Gate(argv, ("--volume", _volume(folder, _WAY, "ro")))


def _walls(cell: Cell, options: Options) -> Iterator[str]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = min(memory // 4, cell.memory_bytes or memory)
    processes = options.most_processes
    yield from ("--pull", "never", "--network", "none", "--read-only", "--cap-drop", "ALL")
    yield from ("--security-opt", "no-new-privileges", "--security-opt", "label=disable")
    yield from ("--pids-limit", str(processes), "--hostname", "nightlab", "--log-driver", "none")
    if cell.memory_bytes:
        yield from ("--memory", str(cell.memory_bytes), "--memory-swap", str(cell.memory_bytes))
    yield from ("--shm-size", str(min(_SHM_BYTES, most)))
    size = min(_TMP_BYTES, most)
    yield from ("--tmpfs", f"/tmp:rw,exec,nosuid,nodev,size={size},mode=1777")  # noqa: S108 - the container's own
    yield from ("--ulimit", "core=0:0", "--ulimit", "nofile=1024:1024")
    # The engine's default needs a right that a confined root lacks.
    yield from ("--ulimit", f"nproc={processes + 1024}:{processes + 1024}")
    if options.disk_bytes:
        yield from ("--ulimit", f"fsize={options.disk_bytes}:{options.disk_bytes}")


def _filter(engine: str, stack: contextlib.ExitStack) -> Iterator[str]:
    if engine == "podman" and _profile.OF_PODMAN.is_file():
        text = _profile.stricter(_profile.OF_PODMAN.read_text())
        if text is not None:
            file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".json"))  # noqa: SIM115
            file.write(text)
            file.flush()
            yield from ("--security-opt", f"seccomp={file.name}")


def _user(engine: str, cell: Cell) -> Iterator[str]:
    uid = own_uid(cell)
    if uid is not None:
        check_readable((*cell.data, *cell.read))
        hand_over(cell, uid)
        yield from ("--user", f"{uid}:{uid}")
    elif engine == "podman":
        yield "--userns=keep-id"
    elif "rootless" not in _call(engine, "info", "--format", "{{.SecurityOptions}}").text:
        yield from ("--user", f"{os.getuid()}:{os.getgid()}")
    if engine == "podman":
        yield "--read-only-tmpfs=false"
    if cell.gpus:  # which of them, the slot's variables say
        yield from ("--device", "nvidia.com/gpu=all") if engine == "podman" else ("--gpus", "all")


def _mounts(engine: str, cell: Cell) -> Iterator[str]:
    writable = [place for place in cell.own if cell.run_dir not in place.parents]
    both = {str(place): str(place) for place in (*cell.data, *cell.read)}
    home = Path(os.environ.get("HOME", "/nonexistent"))
    for place in cell.data:  # a script looks for it below its home, too
        if place.is_relative_to(home) and place != home:
            both[f"{_FIXED['HOME']}/{place.relative_to(home)}"] = str(place)
    for place in writable:
        yield from ("--volume", _volume(place, place, "rw"))
    for target, source in both.items():
        yield from ("--volume", _volume(source, target, "ro"))
    for path in cell.covered(map(Path, both)):
        if path.is_dir():
            # Podman would copy into it what is to be hidden; docker copies nothing.
            bare = ",notmpcopyup" if engine == "podman" else ""
            yield from ("--tmpfs", f"{path}:ro,size=4096{bare}")
        else:
            yield from ("--volume", _volume("/dev/null", path, "ro"))
    for path in sealed(cell.tree, cell.writable, _MOST_MOUNTS):
        yield from ("--volume", _volume(path, path, "ro"))


def _volume(source: Path | str, target: Path | str, mode: str) -> str:
    if ":" in f"{source}{target}":
        raise SandboxError(
            f"{source} has a colon in its name", "container engines cannot take such a path",
            "move the project to a folder without one",
        )  # fmt: skip
    return f"{source}:{target}:{mode}"


def _owner() -> str:
    """This process, in a way that no later one is taken for it."""
    fields = _proc.stat_fields(os.getpid())
    return f"{os.getpid()}.{fields[19].decode() if len(fields) > 19 else 0}"


def sweep(engine: str) -> int:
    """Remove containers of dead nightlabs on this machine. How many there were."""
    if not _proc.LINUX:
        return 0
    label = "index .Labels" if engine == "podman" else ".Label"
    listing = f'{{{{.ID}}}} {{{{{label} "{_LABEL}"}}}}'
    said = _call(engine, "ps", "--all", "--filter", f"label={_LABEL}", "--format", listing)
    count = 0
    for line in said.text.splitlines():
        found = re.fullmatch(r"(\w+) (\d+)\.(\d+)", line.strip())
        if found is None:
            continue
        fields = _proc.stat_fields(found[2])
        if len(fields) <= 19 or fields[19].decode() != found[3]:
            remove(engine, found[1])
            count += 1
    return count


def remove(engine: str, name: str) -> None:
    """Kill a container and remove it. Raises SandboxError when it is still there."""
    _call(engine, "kill", "--signal", "KILL", name)
    done = _call(engine, "rm", "--force", name)
    if done.exit_code != 0 and _state(engine, name) is not None:
        raise SandboxError(
            f"the container {name} could not be removed", done.text.strip()[-300:],
            f"{engine} rm --force {name}",
        )  # fmt: skip


def _state(engine: str, name: str) -> dict[str, Any] | None:
    """What the engine knows of a container, None when it knows none of that name."""
    done = _call(engine, "inspect", "--type", "container", name)
    with contextlib.suppress(ValueError, LookupError, TypeError):
        return dict(json.loads(done.text)[0]["State"])
    return None


@dataclass(frozen=True)
class _Said:
    exit_code: int
    text: str


def _call(engine: str, *words: str) -> _Said:
    try:
        done = process.call((engine, *words), timeout_s=60)
    except NightlabError as error:
        return _Said(-1, error.why or error.what)
    text = done.stdout if done.exit_code == 0 else done.stdout + done.stderr
    return _Said(done.exit_code, text.decode("utf-8", "replace"))


def _ask(engine: str, what: str, *words: str) -> None:
    done = _call(engine, *words)
    if done.exit_code != 0:
        said = process.clean(done.text).strip()
        cures = [cure for text, cure in _CURES if text in said]
        raise SandboxError(what, said[-300:], (*cures, f"{engine} version")[0])
