"""The switch that makes any attempt to reach a real model an error: ``NIGHTLAB_OFFLINE=1``.

Every researcher calls ``forbid_real`` with the address it is about to use, before it opens a
connection or starts an agent. The test suite has the switch on.
"""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import urlsplit

from nightlab.errors import ResearcherError

SWITCH = "NIGHTLAB_OFFLINE"
OFF = ("", "0", "false", "no", "off")


def offline() -> bool:
    """Is the switch on?"""
    return os.environ.get(SWITCH, "").strip().lower() not in OFF


def forbid_real(url: str | None) -> None:
    """Raise ResearcherError if the switch is on and the address is not this machine's own.

    None is the provider's own address, and so a real one.
    """
    if offline() and not is_loopback(url):
        raise ResearcherError(
            f"no model is called at {url or 'the provider'}",
            f"{SWITCH} is set: only addresses of this machine are allowed",
            f"unset {SWITCH}",
        )


def is_loopback(url: str | None) -> bool:
    """Does a URL name this machine, by 127.0.0.0/8, ::1 or localhost, and nothing else?"""
    try:
        # What parsers read differently (user@host, backslashes, blanks) is never loopback.
        if url is None or re.search(r"[\\@\s\x00-\x1f]", url):
            return False
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
