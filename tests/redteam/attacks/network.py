"""Calling out. Only this machine's own listeners are called."""

from __future__ import annotations

import socket

from tests.redteam.attack import LANDLOCK, NETWORK, PROCESS, Attack


def _call(name: str, steps: str, **more: object) -> Attack:
    inner = "\n".join("    " + line for line in steps.strip().split("\n"))
    code = f"import socket\nwith attempt():\n{inner}\narmed()"
    more = {"through": (PROCESS,)} | more
    return Attack(name, NETWORK, code, **more)  # type: ignore[arg-type]


def _no_vsock() -> str:
    try:
        socket.socket(40, socket.SOCK_STREAM).close()
    except OSError as error:
        return f"no AF_VSOCK here: {error}"
    return ""


def _no_ipv6() -> str:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError as error:
        return f"no IPv6 here: {error}"
    return ""


def _no_raw() -> str:
    try:
        socket.socket(17, socket.SOCK_RAW).close()
    except OSError as error:
        return f"no packet sockets here: {error}"
    return ""


ATTACKS = (
    _call("a TCP connection", 'socket.create_connection(("127.0.0.1", W.TCP), 2)'),
    _call(
        "a TCP connection over IPv6",
        'socket.create_connection(("::1", W.TCP6), 2)',
        needs=_no_ipv6,
    ),
    _call(
        "a UDP packet",
        "one = socket.socket(type=socket.SOCK_DGRAM)\n"
        'one.sendto(W.TOKEN.encode(), ("127.0.0.1", W.UDP))',
    ),
    _call(
        "a DNS query that carries data",
        'name = b"".join(bytes([len(x)]) + x for x in (W.TOKEN.encode(), b"example"))\n'
        'query = b"\\x12\\x34\\1\\0\\0\\1" + bytes(6) + name + b"\\0\\0\\1\\0\\1"\n'
        'socket.socket(type=socket.SOCK_DGRAM).sendto(query, ("127.0.0.1", W.UDP))',
    ),
    _call(
        "the ssh agent's socket",
        "socket.socket(socket.AF_UNIX).connect(W.SSH_AGENT)",
        through=(PROCESS, LANDLOCK),
    ),
    _call(
        "docker's socket",
        "socket.socket(socket.AF_UNIX).connect(W.DOCKER)",
        through=(PROCESS, LANDLOCK),
    ),
    _call("an abstract unix socket", "socket.socket(socket.AF_UNIX).connect(W.ABSTRACT)"),
    _call(
        "a vsock socket to the hypervisor",
        'socket.socket(40, socket.SOCK_STREAM)\nprint("vsock made")',
        needs=_no_vsock,
        sees=lambda s: ["a vsock socket was made"] if b"vsock made" in s.output else [],
    ),
    _call(
        "a packet socket that listens to the machine's traffic",
        "ears = socket.socket(17, socket.SOCK_RAW, socket.htons(3))\n"
        'print("ears:", [name for _, name in socket.if_nameindex()])',
        as_root=True,
        needs=_no_raw,
        sees=lambda s: ["it can listen to the network"] if b"ears:" in s.output else [],
    ),
)
