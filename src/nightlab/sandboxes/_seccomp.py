"""A seccomp filter as bytes: which system calls no training script needs.

Classic BPF, written by hand: a deny list, so that what is new in the kernel works. Numbers
are the kernel's own (``asm/unistd.h``); -1 where a machine has no such call.
"""

from __future__ import annotations

import errno
import struct

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
LOCAL_FAMILIES = (AF_UNIX, AF_INET, AF_INET6, AF_NETLINK)  # in a network namespace of its own

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMN = {"x86_64": 0, "aarch64": 1}
_X32_BIT = 0x40000000
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_NAMESPACES = 0x7E020000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_CALLS = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "ioctl": (16, 29),
    "sendmmsg": (307, 269),
    "sendmsg": (46, 211),
    "sendto": (44, 206),
    "socket": (41, 198),
    "unshare": (272, 97),
}
# Other processes, keys, modules, mounts, clocks, swap, and young or large kernel surfaces.
DENIED = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, -1),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, -1),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, -1),
    "iopl": (172, -1),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "memfd_secret": (447, 447),
    "modify_ldt": (154, -1),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "query_module": (178, -1),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "userfaultfd": (323, 282),
    "uselib": (134, -1),
    "ustat": (136, -1),
    "vhangup": (153, 58),
}

_LOAD, _AND, _IF_EQUAL, _IF_BITS, _RETURN = 0x20, 0x54, 0x15, 0x45, 0x06
_SOCK_STREAM, _SOCK_KIND, _IPPROTO_TCP = 1, 0xF, 6
_MSG_FASTOPEN = 0x20000000
# call -> which of its arguments holds the flags
_FLAGS = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH = 0, 4


def _argument(number: int) -> int:
    """Where the low half of an argument lies; both machines are little-endian."""
    return 16 + 8 * number


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _refuse(error: int) -> bytes:
    return _step(_RETURN, _ERRNO | error)


def _in_call(number: int, body: bytes) -> bytes:
    """The body, jumped over unless this is the call; it must end in a return."""
    return _step(_IF_EQUAL, number, 0, len(body) // 8) + body


# With the family loaded: an IP one, of streams, and TCP itself (not MPTCP or SMC). What is not
# goes to the step behind these, what is goes to the one after that.
_TCP = (
    _step(_IF_EQUAL, AF_INET, 1, 0)
    + _step(_IF_EQUAL, AF_INET6, 0, 6)
    + _step(_LOAD, _argument(1))
    + _step(_AND, _SOCK_KIND)
    + _step(_IF_EQUAL, _SOCK_STREAM, 0, 3)
    + _step(_LOAD, _argument(2))
    + _step(_IF_EQUAL, 0, 2, 0)
    + _step(_IF_EQUAL, _IPPROTO_TCP, 1, 0)
)


def program(machine: str, families: tuple[int, ...], *, tcp: bool = False) -> bytes | None:
    """The filter for this machine (``os.uname().machine``), None for one that we do not know.

    Sockets may be of the given address families only; with ``tcp`` also TCP ones, which then
    connect by no other call than ``connect`` (all that Landlock looks at). Namespaces cannot
    be made: ``clone3`` says that it does not exist (its flags cannot be looked at), and libc
    then uses ``clone``.
    """
    if machine not in _AUDIT:
        return None
    at = _COLUMN[machine]
    allow = _step(_RETURN, _ALLOW)
    code = _step(_LOAD, _ARCH) + _step(_IF_EQUAL, _AUDIT[machine], 1, 0) + _step(_RETURN, _KILL)
    code += _step(_LOAD, _NR)
    if machine == "x86_64":
        code += _step(_IF_BITS, _X32_BIT, 0, 1) + _step(_RETURN, _KILL)
    for numbers in DENIED.values():
        if numbers[at] >= 0:
            code += _in_call(numbers[at], _refuse(errno.EPERM))
    code += _in_call(_CALLS["clone3"][at], _refuse(errno.ENOSYS))
    flags = _step(_LOAD, _argument(0)) + _step(_IF_BITS, _NAMESPACES, 0, 1)
    for name in ("clone", "unshare"):
        code += _in_call(_CALLS[name][at], flags + _refuse(errno.EPERM) + allow)
    more = _TCP if tcp else b""
    known = b"".join(
        _step(_IF_EQUAL, family, len(families) - place + len(more) // 8, 0)
        for place, family in enumerate(families)
    )
    sockets = _step(_LOAD, _argument(0)) + known + more + _refuse(errno.EAFNOSUPPORT) + allow
    for name, number in _FLAGS.items() if tcp else ():
        flags = _step(_LOAD, _argument(number)) + _step(_IF_BITS, _MSG_FASTOPEN, 0, 1)
        code += _in_call(_CALLS[name][at], flags + _refuse(errno.EOPNOTSUPP) + allow)
    code += _in_call(_CALLS["socket"][at], sockets)
    typing = _step(_LOAD, _argument(1)) + _step(_IF_EQUAL, _TIOCSTI, 1, 0)
    typing += _step(_IF_EQUAL, _TIOCLINUX, 0, 1) + _refuse(errno.EPERM) + allow
    return code + _in_call(_CALLS["ioctl"][at], typing) + allow
