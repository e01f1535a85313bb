"""This machine's addresses as other devices reach it, for a page that is served at every interface."""

from __future__ import annotations

import array
import ipaddress
import re
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Interface", "interface_addresses", "reachable"]

SIOCGIFCONF, SIOCGIFFLAGS = 0x8912, 0x8913
"""Of Linux, netdevice(7); by an IPv4 socket, for a service may have no netlink"""
IFREQ = 16 + max(16, struct.calcsize("LLHBBB0L"))
"""Bytes of struct ifreq: a name, and a union whose largest member is struct ifmap"""
MOST_ADDRESSES = 256
IFF_LOOPBACK, IFF_RUNNING = 0x8, 0x40

IF_INET6 = Path("/proc/net/if_inet6")
SCOPE_GLOBAL = 0x00
TEMPORARY, DADFAILED, DEPRECATED, TENTATIVE = 0x01, 0x08, 0x20, 0x40
"""Flags of an IPv6 address (linux/if_addr.h) that is not, not yet or not for long to be connected to"""

OF_CONTAINERS = re.compile(r"(docker|virbr|podman|lxcbr|lxdbr|cni|veth)\S*|br-[0-9a-f]{12}")
"""Interfaces whose network is within this machine"""

ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Of nobody (RFC 5737, RFC 3849): to ask by which address we would go there; nothing is sent"""


@dataclass(frozen=True, slots=True)
class Interface:
    """One address of one interface."""

    name: str
    address: str
    is_up: bool
    """Running, and the address usable"""


def interface_addresses(*, ipv6: bool) -> list[str]:
    """Addresses by which another device may reach this machine, the default route's first; IPv4 before IPv6.

    Empty where it has none; where the system does not list them (not Linux) the default route's alone.
    """
    found = []
    for family, told in ((socket.AF_INET, _ipv4), (socket.AF_INET6, _ipv6))[: 1 + ipv6]:
        outward = _outward(family)
        # A system that lists none still says this one.
        found += reachable([*told(), *([Interface("", outward, True)] if outward else [])], first=outward)
    return found


def reachable(interfaces: Iterable[Interface], first: str = "") -> list[str]:
    """Addresses of interfaces that are up, less loopback, link-local ones and networks of containers; each once.

    first: comes before all others.
    """
    found = []
    for one in interfaces:
        address = ipaddress.ip_address(one.address)
        unfit = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
        if one.is_up and not unfit and (one.address == first or not OF_CONTAINERS.fullmatch(one.name)):
            found.append(one.address)
    return sorted(dict.fromkeys(found), key=lambda address: address != first)


def _ipv4() -> list[Interface]:
    if sys.platform != "linux":
        return []
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        import fcntl

        room = array.array("B", bytes(IFREQ * MOST_ADDRESSES))
        told = fcntl.ioctl(asked, SIOCGIFCONF, struct.pack("iP", len(room), room.buffer_info()[0]))
        content = room.tobytes()[: struct.unpack("iP", told)[0]]
        found = []
        for start in range(0, len(content), IFREQ):
            label = content[start : start + 16].split(b"\0")[0]
            address = socket.inet_ntoa(content[start + 20 : start + 24])
            flags = struct.unpack_from("H", fcntl.ioctl(asked, SIOCGIFFLAGS, label.ljust(IFREQ, b"\0")), 16)[0]
            is_up = bool(flags & IFF_RUNNING) and not flags & IFF_LOOPBACK
            # Of a second address the label is eth0:1.
            found.append(Interface(label.decode("ascii", "replace").split(":")[0], address, is_up))
        return found
    return []


def _ipv6() -> list[Interface]:
    found = []
    with suppress(OSError, ValueError):
        for line in IF_INET6.read_text(encoding="ascii").splitlines():
            digits, _, _, scope, flags, name = line.split()
            unusable = int(flags, 16) & (TEMPORARY | DADFAILED | DEPRECATED | TENTATIVE)
            address = str(ipaddress.IPv6Address(bytes.fromhex(digits)))
            found.append(Interface(name, address, int(scope, 16) == SCOPE_GLOBAL and not unusable))
    return found


def _outward(family: socket.AddressFamily) -> str:
    """The address that a packet to elsewhere would have; empty where there is no way."""
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asked:
        asked.connect((ELSEWHERE[family], 9))
        return str(asked.getsockname()[0])
    return ""
