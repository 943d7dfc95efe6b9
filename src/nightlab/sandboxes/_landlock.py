"""Puts itself under Landlock and a system call filter, then becomes the command.

Started as ``python -I -S -B _landlock.py FD FD``: an anonymous file with the order
(``marshal``), and one to say in whether it came to the end. It imports nothing of nightlab.
Numbers and structures: the kernel's ``linux/landlock.h``.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import stat
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH, _NET_PORT = 1, 1, 2
_SET_NO_NEW_PRIVS, _CAPBSET_DROP, _SET_SECCOMP, _FILTER = 38, 24, 22, 2

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
READ = EXECUTE | READ_FILE | READ_DIR
# Files and devices as against folders: only these rights may be given to a file.
_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14 | 1 << 15
_FIRST_RIGHTS = (1 << 13) - 1
_CONNECT, _NET_RIGHTS, _SCOPES = 2, 3, 3  # TCP bind and connect; abstract sockets and signals
_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The version of Landlock that this kernel speaks, 0 for none."""
    version = _libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)
    return int(max(0, version))


def all_rights(version: int) -> int:
    """Every right to files that this version can withhold."""
    rights = _FIRST_RIGHTS
    for bit, since in ((13, 2), (14, 3), (15, 5)):
        if version >= since:
            rights |= 1 << bit
    return rights


def _call(what: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def restrict(names: list[bytes], read: list[bytes], write: list[bytes], ports: list[int]) -> None:
    """From here on only what lies beneath these paths can be listed, read, written.

    Where the kernel can, only these TCP ports can be connected to, on whatever host, and none
    listened on.
    """
    version = abi()
    rights = all_rights(version)
    net = _NET_RIGHTS if version >= 4 else 0
    scopes = _SCOPES if version >= 6 else 0
    # A kernel takes a shorter structure than it knows, and no longer one.
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = struct.pack("=QQQ", rights, net, scopes)[:size]
    number = _libc.syscall(CREATE_RULESET, ruleset, ctypes.c_size_t(size), 0)
    fd = _call("landlock", number)
    for paths, given in ((names, READ_DIR), (read, READ), (write, rights)):
        for path in paths:
            try:
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            is_folder = stat.S_ISDIR(os.fstat(place).st_mode)
            may = given if is_folder else given & _FILE_RIGHTS & rights
            rule = struct.pack("=Qi", may, place)
            _call("landlock rule", _libc.syscall(ADD_RULE, fd, _PATH_BENEATH, rule, 0))
            os.close(place)
    for port in ports if net else ():
        rule = struct.pack("=QQ", _CONNECT, port)
        _call("landlock rule", _libc.syscall(ADD_RULE, fd, _NET_PORT, rule, 0))
    _call("landlock", _libc.syscall(RESTRICT_SELF, fd, 0))
    os.close(fd)


def drop_capabilities() -> None:
    """For root: none now, and none by a later exec."""
    for number in range(64):
        _libc.prctl(_CAPBSET_DROP, number, 0, 0, 0)
    header, nothing = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    _call("capset", _libc.capset(header, nothing))


def install(code: bytes) -> None:
    """Install a seccomp filter."""
    holder = ctypes.create_string_buffer(code)
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(holder))
    _call("seccomp", _libc.prctl(_SET_SECCOMP, _FILTER, program, 0, 0))


def main() -> None:
    """Do as the order says; what fails is written into the second file."""
    order_fd, status_fd = int(sys.argv[1]), int(sys.argv[2])
    order: dict[str, Any] = marshal.loads(os.pread(order_fd, 1 << 24, 0))  # noqa: S302 - from nightlab
    os.close(order_fd)
    try:
        _call("no_new_privs", _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        restrict(order["list"], order["read"], order["write"], order["ports"])
        if os.geteuid() == 0:
            drop_capabilities()
        if order["filter"]:
            install(order["filter"])
        os.set_inheritable(status_fd, False)
        os.write(status_fd, b"up")
        os.execve(order["argv"][0], order["argv"], os.environ)  # noqa: S606 - /bin/sh, as in every sandbox
    except OSError as error:
        os.ftruncate(status_fd, 0)
        os.pwrite(status_fd, f"{error}".encode(), 0)
        os._exit(125)


if __name__ == "__main__":
    main()
