"""Ports for servers that tests start, which tell nobody the port that they would choose themselves."""

from __future__ import annotations

import random
import socket
from pathlib import Path

RAYS_LAST = 23_999
"""Ray's workers listen at 10002 and above, the servers of its clients at 23000 and above, up to this one."""
_DICE = random.SystemRandom()  # several test processes choose at once, and Hypothesis seeds Python's own


def free_port() -> int:
    """A port at which nothing listens, and which the kernel gives nobody meanwhile: it is below those of connections."""
    while True:
        port = _DICE.randint(RAYS_LAST + 1, _first_of_connections() - 1)
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _first_of_connections() -> int:
    """The first port that the kernel gives to connections, and to servers that ask for any."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:  # no Linux
        return 32_768
    return first if first > RAYS_LAST + 1_000 else 32_768
