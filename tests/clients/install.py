"""Install pinned coding agents into a cache folder: ``python -m tests.clients.install [NAME…]``.

Each goes into ``.clients/<name>`` of the project (or of ``$NIGHTLAB_CLIENTS``), from its
registry's ordinary client, npm or pip. An install that is already there at the pinned
versions costs nothing. Exit status: the number of clients that could not be installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TIMEOUT_S = 900


@dataclass(frozen=True)
class Client:
    """A coding agent: what to install, and where its program then lies under its folder."""

    name: str
    kind: str  # npm or pip
    packages: tuple[str, ...]
    program: str


CLIENTS: dict[str, Client] = {
    client.name: client
    for client in (
        Client("claude", "npm", ("@anthropic-ai/claude-code@2.1.329",), "node_modules/.bin/claude"),
        Client("codex", "npm", ("@openai/codex@0.169.0",), "node_modules/.bin/codex"),
        # pi wants a newer node than Debian's: it gets one of its own.
        Client("pi", "npm", ("@earendil-works/pi-coding-agent@0.87.1", "node@22.23.3"), "pi"),
        Client("gemini", "npm", ("@google/gemini-cli@0.61.0",), "node_modules/.bin/gemini"),
        Client("opencode", "npm", ("opencode-ai@1.18.33",), "node_modules/.bin/opencode"),
        Client("aider", "pip", ("aider-chat==0.86.2",), "venv/bin/aider"),
        # litellm, as a fresh venv gets it, fails without mcp.
        Client("mini", "pip", ("mini-swe-agent==2.4.6", "mcp"), "venv/bin/mini"),
    )
}
# The ones that install in seconds: what `make clients` and CI install.
QUICK = ("claude", "codex", "pi", "gemini")


def cache_folder() -> Path:
    return Path(os.environ.get("NIGHTLAB_CLIENTS") or ROOT / ".clients").resolve()


def find(name: str) -> Path | str:
    """The program of an installed client, or the reason why there is none."""
    client = CLIENTS[name]
    folder = cache_folder() / name
    program = folder / client.program
    if not program.exists():
        return f"{name} is not installed: python -m tests.clients.install {name}"
    if stamp_of(folder) != stamp(client):
        return f"{name} is not at its pinned version: python -m tests.clients.install {name}"
    return program


def stamp(client: Client) -> str:
    return " ".join(client.packages)


def stamp_of(folder: Path) -> str:
    path = folder / "installed.txt"
    return path.read_text().strip() if path.exists() else ""


def commands(client: Client, folder: Path) -> list[list[str]]:
    if client.kind == "npm":
        flags = ["--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        return [["npm", "install", "--prefix", str(folder), *flags, *client.packages]]
    venv = folder / "venv"
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    return [
        [sys.executable, "-m", "venv", str(venv)],
        [*pip, "--disable-pip-version-check", *client.packages],
    ]


def install(client: Client) -> str | None:
    """Install a client anew unless it is there. Returns None, or why it failed."""
    folder = cache_folder() / client.name
    if isinstance(find(client.name), Path):
        return None
    if client.kind == "npm" and shutil.which("npm") is None:
        return "npm is not on this machine"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for command in commands(client, folder):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode:
            return (done.stderr or done.stdout)[-2000:]
    if client.program == client.name:
        write_launcher(folder, client.name)
    if not (folder / client.program).exists():
        return f"the installation left no {client.program}"
    (folder / "installed.txt").write_text(stamp(client) + "\n")
    return None


def write_launcher(folder: Path, name: str) -> None:
    """A program that runs the client with the node that was installed beside it."""
    binaries = folder / "node_modules" / ".bin"
    launcher = folder / name
    launcher.write_text(f'#!/bin/sh\nexec "{binaries}/node" "{binaries}/{name}" "$@"\n')
    launcher.chmod(0o755)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CLIENTS)}")
    parser.add_argument("--all", action="store_true", help="also the large ones")
    options = parser.parse_args(arguments)
    names = options.names or list(CLIENTS if options.all else QUICK)
    unknown = [name for name in names if name not in CLIENTS]
    if unknown:
        parser.error(f"no client is called {', '.join(unknown)}; known: {', '.join(CLIENTS)}")
    failed = 0
    for name in names:
        began = time.monotonic()
        why = install(CLIENTS[name])
        failed += why is not None
        state = "ready" if why is None else f"FAILED: {why}"
        sys.stdout.write(f"{name:10} {time.monotonic() - began:6.1f} s  {state}\n")
        sys.stdout.flush()
    return failed


if __name__ == "__main__":
    sys.exit(main())
