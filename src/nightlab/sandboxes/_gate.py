"""The inside end of a box's only way out: hands over listening sockets, becomes the command.

Run as ``python -I -S -B -c SOURCE WHERE PORTS ARGV...`` in a network namespace that has nothing
but its own loopback. It listens there on each of PORTS (``4000,4001``), passes the sockets to
nightlab through WHERE (an inherited socket's number, or the path of a local one), waits for
its word and is gone: whoever connects is then answered from outside, and nothing stays inside
that the command could kill or change. It imports nothing of nightlab.
"""

from __future__ import annotations

import array
import os
import socket
import sys


def _listeners(port: int) -> list[socket.socket]:
    """On 127.0.0.1, and on ::1 where the box has that: some clients try no second address."""
    found = [socket.create_server(("127.0.0.1", port))]
    try:
        found.append(socket.create_server(("::1", port), family=socket.AF_INET6))
    except OSError:
        return found
    return found


def main() -> None:
    """Listen, hand over, exec. Ends with 125 and a line on stderr when that fails."""
    where, ports, argv = sys.argv[1], sys.argv[2], sys.argv[3:]
    try:
        if where.isdigit():
            way = socket.socket(fileno=int(where))
        else:
            way = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            way.connect(where)
        listeners = [s for port in ports.split(",") for s in _listeners(int(port))]
        numbers = array.array("i", [s.fileno() for s in listeners])
        told = ",".join(str(s.getsockname()[1]) for s in listeners).encode()
        way.sendmsg([told], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
        if not way.recv(1):
            os._exit(125)  # nightlab is gone, or did not take them
        way.close()
        for listener in listeners:
            listener.close()
        os.execv(argv[0], argv)  # noqa: S606 - /bin/sh, as in every sandbox
    except OSError as error:
        sys.stderr.write(f"nightlab: the way to the endpoints could not be opened: {error}\n")
        os._exit(125)


if __name__ == "__main__":
    main()
