"""The box of a coding agent: its model can be reached and nothing else; real programs try."""

from __future__ import annotations

import http.server
import os
import shlex
import shutil
import socket
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nightlab.errors import ConfigError, SandboxError
from nightlab.sandboxes import (
    Cell,
    Endpoint,
    Options,
    Sandbox,
    _landlock,
    _profile,
    agent_cell,
)
from nightlab.sandboxes.bubblewrap import BubblewrapSandbox
from nightlab.sandboxes.container import ContainerSandbox
from nightlab.sandboxes.landlock import LandlockSandbox
from nightlab.testing.contracts import AGENT_CHECKS, alive, fresh_sleep
from tests.redteam import image
from tests.support import boxed as run


def why_not() -> str:
    try:
        BubblewrapSandbox().check()
    except SandboxError as error:
        return f"bubblewrap does not work here: {error.what}: {error.why}"
    return ""


WHY_NOT = why_not()
needs_bubblewrap = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


class Model(http.server.BaseHTTPRequestHandler):
    """Answers a GET at once, and a POST with three parts, one after the other."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"hello {self.path} {self.headers['Host']}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in (b"one\n", b"two\n", b"three\n"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
            time.sleep(0.3)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *words: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found.server_port
        found.shutdown()


@pytest.fixture
def box() -> BubblewrapSandbox:
    return BubblewrapSandbox()


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    """An agent's cell in a project with one file in scope, one sealed; its command is ``true``."""
    repo = tmp_path / "repo"
    (repo / ".git").mkdir(parents=True)
    (repo / ".git" / "config").write_text("sesame")
    home, tree, run_dir = (repo / ".nightlab" / n for n in ("home", "tree", "run"))
    for folder in (home, tree, run_dir):
        folder.mkdir(parents=True)
    (tree / "train.py").write_text("original\n")
    (tree / "prepare.py").write_text("original\n")
    (home / "settings.json").write_text("{}\n")
    return agent_cell(
        ("true",), tree=tree, cwd=tree, run_dir=run_dir, home=home, writable=("train.py",),
        env={"MODEL_KEY": "mine"}, endpoints=(),
    )  # fmt: skip


def shell(cell: Cell, text: str, *endpoints: Endpoint) -> Cell:
    return replace(
        cell, command=text, programs=("curl", "git", sys.executable), endpoints=endpoints
    )


def python(cell: Cell, source: str, *endpoints: Endpoint) -> Cell:
    (cell.home or cell.tree).joinpath("probe.py").write_text(textwrap.dedent(source))
    return shell(cell, f'{shlex.quote(sys.executable)} "$HOME/probe.py"', *endpoints)


@needs_bubblewrap
def test_the_model_on_loopback_is_reached_under_its_own_address(
    box: Sandbox, cell: Cell, server: int
) -> None:
    url = f"http://127.0.0.1:{server}"
    command = f"curl -sS {url}/a && curl -sS http://localhost:{server}/b"
    done = run(box, shell(cell, command, Endpoint("127.0.0.1", server)))
    assert done.text == f"hello /a 127.0.0.1:{server}\nhello /b localhost:{server}\n"
    assert (done.finished.exit_code, done.broke) == (0, None)


@needs_bubblewrap
def test_an_answer_streams_part_by_part(box: Sandbox, cell: Cell, server: int) -> None:
    source = f"""
        import time, urllib.request
        began = time.monotonic()
        with urllib.request.urlopen("http://127.0.0.1:{server}/", data=b"x" * 200000) as answer:
            for line in answer:
                print(line.decode().strip(), time.monotonic() - began)
    """
    done = run(box, python(cell, source, Endpoint("127.0.0.1", server)))
    rows = [line.split() for line in done.text.splitlines()]
    assert [word for word, _ in rows] == ["one", "two", "three"], done.text
    assert float(rows[2][1]) - float(rows[0][1]) > 0.3  # not held back to the end


@needs_bubblewrap
def test_another_port_another_host_and_names_are_out_of_reach(
    box: Sandbox, cell: Cell, server: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        source = f"""
            import socket
            for family, kind, where in (
                (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", {port})),
                (socket.AF_INET, socket.SOCK_STREAM, ("192.0.2.1", 443)),
                (socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 53)),
                (socket.AF_INET6, socket.SOCK_STREAM, ("2001:db8::1", 443)),
            ):
                try:
                    socket.socket(family, kind).connect(where)
                    print("REACHED", where)
                except OSError as error:
                    print(error.errno)
            try:
                print("RESOLVED", socket.getaddrinfo("example.com", 443))
            except OSError:
                print("no name")
            try:
                socket.socket(40, socket.SOCK_STREAM)
                print("VSOCK")
            except OSError as error:
                print(error.errno)
        """
        done = run(box, python(cell, source, Endpoint("127.0.0.1", server)))
    assert done.text.splitlines() == ["111", "101", "101", "101", "no name", "97"]


@needs_bubblewrap
def test_a_host_elsewhere_is_reached_through_the_proxy_and_no_other_is(
    box: Sandbox, cell: Cell, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.create_connection

    def resolve(where: tuple[str, int], *words: object) -> socket.socket:
        assert where in {("model.example", 443), ("plain.example", 80)}
        return real(("127.0.0.1", server))

    monkeypatch.setattr(socket, "create_connection", resolve)
    # Both ways a client uses a proxy: a tunnel (as for TLS), and a whole URL.
    command = (
        "curl -sS --proxytunnel http://model.example:443/tunnel; curl -sS http://plain.example/plain?q=1;"
        " curl -sS http://evil.example/; curl -sS --proxytunnel http://model.example:80/x;"
        " curl -sS https://pypi.org/ || echo refused; env | grep -ci _proxy="
    )
    allowed = (Endpoint("model.example", 443), Endpoint("plain.example", 80))
    done = run(box, shell(cell, command, *allowed))
    assert "hello /tunnel model.example:443\nhello /plain?q=1 plain.example\n" in done.text
    assert "may not reach evil.example:80" in done.text
    assert "refused" in done.text
    assert done.launch.refused() == {
        "evil.example:80": 1, "model.example:80": 1, "pypi.org:443": 1
    }  # fmt: skip


@needs_bubblewrap
def test_an_endpoint_that_is_down_is_an_error_of_the_agent_not_of_the_box(
    box: Sandbox, cell: Cell
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    done = run(box, shell(cell, f"curl -sS http://127.0.0.1:{port}/", Endpoint("localhost", port)))
    assert done.finished.exit_code not in (0, None)
    assert done.broke is None


@needs_bubblewrap
def test_a_way_out_that_cannot_be_opened_is_infrastructure(box: Sandbox, cell: Cell) -> None:
    with pytest.raises(SandboxError):
        box.launch(shell(cell, "true", Endpoint("127.0.0.1", 80)))
    taken = replace(shell(cell, "true", Endpoint("127.0.0.1", 70000)))
    done = run(box, taken)
    assert done.broke is not None
    assert "endpoints" in done.broke


@needs_bubblewrap
def test_an_agent_writes_its_home_its_scratch_and_the_files_in_scope_and_nothing_else(
    box: Sandbox, cell: Cell, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "scratchpad.md").write_text("old\n")
    outside = Path.home() / f"nightlab-test-{os.getpid()}"
    command = (
        f'echo n > "$HOME/state"; cat "$HOME/settings.json"; echo new > {scratch}/scratchpad.md;'
        " echo changed > tmp && mv tmp train.py; echo x > prepare.py; rm -f prepare.py;"
        f" echo x > {outside}; echo x > /usr/x; echo x > /etc/x; cat prepare.py; echo $MODEL_KEY"
    )
    done = run(box, replace(shell(cell, command), write=(scratch,)))
    assert done.text.startswith("{}\n")
    assert done.text.endswith("original\nmine\n")
    assert cell.home is not None
    assert (cell.home / "state").read_text() == "n\n"
    assert (scratch / "scratchpad.md").read_text() == "new\n"
    assert (cell.tree / "train.py").read_text() == "changed\n"
    assert (cell.tree / "prepare.py").read_text() == "original\n"
    assert not outside.exists()


@needs_bubblewrap
def test_a_persons_home_secrets_git_and_sockets_are_not_there(
    box: Sandbox, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sesame")
    secret = Path.home() / f"nightlab-test-{os.getpid()}"
    secret.write_text("sesame")
    command = (
        f"cat {secret}; cat {cell.tree.parent.parent}/.git/config; env; ls -A /tmp /root /home /run;"
        " ls /var/run/docker.sock; git log; git push; git clone https://github.com/a/b;"
        f" {sys.executable} -m pip download --retries 0 --no-cache-dir six"
    )
    try:
        done = run(box, shell(cell, command, Endpoint("api.example", 443)))
    finally:
        secret.unlink()
    assert "sesame" not in done.text
    assert "not a git repository" in done.text
    assert "may not reach" in done.text or "403" in done.text  # git and pip ask the proxy
    assert set(done.launch.refused()) == {"github.com:443", "pypi.org:443"}


@needs_bubblewrap
def test_every_descendant_of_an_agent_is_dead_with_it(
    box: Sandbox, cell: Cell, server: int
) -> None:
    token = fresh_sleep()
    command = (
        f"trap '' TERM; (setsid env -i sleep {token} &); setsid nohup sleep {token} & sleep {token}"
    )
    there = Endpoint("127.0.0.1", server)
    done = run(box, shell(cell, command, there), wall_s=1.5)
    assert done.finished.timed_out
    assert done.finished.survivors == ()
    assert alive(token) == []
    done = run(box, shell(cell, f"(setsid sleep {token} &); true", there))
    assert alive(token) == []


@needs_bubblewrap
def test_when_an_agent_has_ended_nothing_listens_for_it_any_more(
    box: Sandbox, cell: Cell, server: int
) -> None:
    before = {t for t in threading.enumerate() if t.name == "relay"}
    run(box, shell(cell, "sleep 0.1", Endpoint("127.0.0.1", server), Endpoint("a.example", 443)))
    until = time.monotonic() + 5
    while time.monotonic() < until:
        left = {t for t in threading.enumerate() if t.name == "relay"} - before
        if not left:
            break
        time.sleep(0.02)
    assert left == set()


@needs_bubblewrap
@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_a_program_that_npm_installed_below_the_home_works(
    box: Sandbox, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "npm"
    package = prefix / "lib" / "node_modules" / "@a" / "agent"
    package.mkdir(parents=True)
    (package / "cli.js").write_text(
        "#!/usr/bin/env node\nconsole.log(require('./part.js'), require('dep'), process.argv[2])\n"
    )
    (package / "cli.js").chmod(0o755)
    (package / "part.js").write_text("module.exports = 'part'\n")
    (package.parent.parent / "dep").mkdir()
    (package.parent.parent / "dep" / "index.js").write_text("module.exports = 'dep'\n")
    (prefix / "bin").mkdir()
    (prefix / "bin" / "agent").symlink_to("../lib/node_modules/@a/agent/cli.js")
    monkeypatch.setenv("PATH", f"{prefix}/bin:{os.environ['PATH']}")
    made = agent_cell(
        ("agent", "a prompt; $(touch x) 'quoted'"), tree=cell.tree, cwd=cell.tree,
        run_dir=cell.run_dir, home=cell.home, writable=(), env={}, endpoints=(),
    )  # fmt: skip
    done = run(box, made)
    assert done.text == "part dep a prompt; $(touch x) 'quoted'\n"


@needs_bubblewrap
def test_an_agent_reads_its_input_from_a_file(box: Sandbox, cell: Cell, tmp_path: Path) -> None:
    prompt = tmp_path / "the prompt"
    prompt.write_text("think\n")
    made = agent_cell(
        ("cat",), tree=cell.tree, cwd=cell.tree, run_dir=cell.run_dir, home=cell.home,
        writable=(), env={}, endpoints=(), stdin=prompt,
    )  # fmt: skip
    assert run(box, made).text == "think\n"


def test_an_endpoint_is_read_from_the_address_of_a_model() -> None:
    assert Endpoint.of_url("https://api.anthropic.com") == Endpoint("api.anthropic.com", 443)
    assert Endpoint.of_url("http://localhost:11434/v1") == Endpoint("localhost", 11434)
    assert Endpoint.of_url("http://[::1]:8000/v1") == Endpoint("::1", 8000)
    for bad in ("api.anthropic.com", "file:///etc", "https://", "http://a:b", "http://a:99999"):
        with pytest.raises(ConfigError):
            Endpoint.of_url(bad)


def test_what_is_on_this_machines_loopback_is_told_from_the_rest() -> None:
    here = ("127.0.0.1", "127.8.8.8", "::1", "localhost", "a.localhost")
    there = ("10.0.0.1", "api.example", "localhost.example", "0.0.0.0")
    assert [Endpoint(host, 1).is_local for host in here] == [True] * 5
    assert [Endpoint(host, 1).is_local for host in there] == [False] * 4


@needs_bubblewrap
@pytest.mark.parametrize("check", AGENT_CHECKS, ids=lambda check: check.__name__)
def test_bubblewrap_keeps_the_contract_for_agents(
    check: Callable[[Sandbox, Path], None], box: Sandbox, tmp_path: Path
) -> None:
    check(box, tmp_path)


@pytest.fixture(scope="module")
def podman() -> ContainerSandbox:
    why = image.build()
    sandbox = ContainerSandbox(Options(image=image.NAME))
    try:
        sandbox.check()
    except SandboxError as error:
        pytest.skip(f"podman does not work here: {why or error.why}")
    return sandbox


@pytest.mark.parametrize("check", AGENT_CHECKS, ids=lambda check: check.__name__)
def test_podman_keeps_the_contract_for_agents(
    check: Callable[[Sandbox, Path], None], podman: Sandbox, tmp_path: Path
) -> None:
    check(podman, tmp_path)


@pytest.fixture
def landlock() -> LandlockSandbox:
    sandbox = LandlockSandbox()
    try:
        sandbox.check()
    except SandboxError as error:
        pytest.skip(f"Landlock does not work here: {error.why}")
    return sandbox


def test_landlock_lets_an_agent_connect_to_its_ports_alone(
    landlock: Sandbox, cell: Cell, server: int
) -> None:
    if _landlock.abi() < 4:
        pytest.skip("this kernel's Landlock has no rules for the network")
    with socket.create_server(("127.0.0.1", 0)) as other:
        source = f"""
            import socket
            there = ("127.0.0.1", {server})
            socket.create_connection(there).close()
            for family, kind, protocol in (
                (socket.AF_INET, socket.SOCK_DGRAM, 0),
                (socket.AF_INET, socket.SOCK_STREAM, 262),
                (socket.AF_NETLINK, socket.SOCK_RAW, 0),
            ):
                try:
                    socket.socket(family, kind, protocol)
                    print("SOCKET", family, kind)
                except OSError as error:
                    print(error.errno)
            try:
                socket.create_connection(("127.0.0.1", {other.getsockname()[1]}))
                print("REACHED")
            except OSError as error:
                print(error.errno)
            for flag in (0x20000000,):
                try:
                    socket.socket().sendto(b"x", flag, ("127.0.0.1", {other.getsockname()[1]}))
                    print("SENT")
                except OSError as error:
                    print(error.errno)
            socket.socketpair()
        """
        done = run(landlock, python(cell, source, Endpoint("127.0.0.1", server)))
    assert done.text.split() == ["97", "97", "97", "13", "95"]
    assert done.broke is None


def test_an_agent_under_landlock_has_its_home_and_a_proxy_that_refuses(
    landlock: Sandbox, cell: Cell
) -> None:
    command = 'cat "$HOME/settings.json"; echo x > "$HOME/new"; curl -sS https://pypi.org'
    done = run(landlock, shell(cell, command, Endpoint("api.example", 443)))
    assert done.text.startswith("{}\n")
    assert done.launch.refused() == {"pypi.org:443": 1}
    assert cell.home is not None
    assert (cell.home / "new").exists()


def test_a_container_has_no_socket_to_the_machine_around_a_virtual_one(
    podman: Sandbox, tmp_path: Path
) -> None:
    tree, run_dir = tmp_path / "tree", tmp_path / "run"
    tree.mkdir()
    run_dir.mkdir()
    (tree / "probe.py").write_text(
        "import socket\nfor family in (40, 2, 1):\n    try:\n        socket.socket(family, 1)\n"
        "        print('made')\n    except OSError as error:\n        print(error.errno)\n"
    )
    if not _profile.OF_PODMAN.is_file():
        pytest.skip("podman's list of system calls is not where it usually lies")
    done = run(podman, Cell("python3 probe.py", tree, tree, run_dir))
    assert done.text.split()[1:] == ["made", "made"]
    assert done.text.split()[0] != "made"
