"""How many connections a server has, and how long each may take: absolute deadlines, and room for who comes next.

A connection waits until its request is whole and may be asked; then it is being answered; after the answer it waits
again. Only those that wait are many, and they never keep anyone out: where there are too many, the one that has
waited longest at the address that has most of them goes. So silent or slow sockets lock out nobody, wherever they
come from. Lives in an event loop; server_of in live/guarded.py and operations/health_process.py are who calls it.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from edge_runtime.errors import ConfigError

__all__ = ["BACKLOG", "Doorkeeper", "Limits", "group_of"]

BACKLOG = 128
"""Connections that may wait to be accepted: all who are told the address at once."""

IPV6_SITE = 64
"""Bits of an IPv6 address that one owner has in common at least (RFC 6177)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a server grants. Times in seconds, from when the connection was accepted or its last answer ended."""

    head_s: float = 5.0
    """Until a request's header is whole, however its bytes come."""
    body_s: float = 10.0
    """Until its body is."""
    answer_s: float = 60.0
    """From then on, until the answer is given and taken; what streams has a deadline of its own for each piece."""
    waiting: int = 64
    """Connections without a request that may be answered, in all"""
    waiting_per_address: int = 16
    """The same of one address: a browser opens six."""
    answering: int = 128
    """Requests that are being answered"""

    def __post_init__(self) -> None:
        if not 0 < self.head_s <= self.body_s or self.answer_s <= 0:
            raise ConfigError(
                f"deadlines are {self.head_s}, {self.body_s}, {self.answer_s} s, expected 0 < head <= body"
            )
        if not 1 <= self.waiting_per_address <= self.waiting or self.answering < 1:
            raise ConfigError(f"{self.waiting} may wait, {self.waiting_per_address} an address, expected 1 or more")


@dataclass(slots=True)
class _Connection:
    group: str
    abort: Callable[[], None]
    since_s: float
    timer: asyncio.TimerHandle | None = None
    answering: bool = False


class Doorkeeper:
    """Keeps the connections of one server, by keys of its own such as (address, port)."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.turned_out = 0
        """Connections that were ended for their time or for those that came after them"""
        self._connections: dict[Hashable, _Connection] = {}
        self._waiting: Counter[str] = Counter()

    def __len__(self) -> int:
        """Connections that are open."""
        return len(self._connections)

    @property
    def answering(self) -> int:
        """Requests that are being answered."""
        return sum(connection.answering for connection in self._connections.values())

    def arrived(self, key: Hashable, address: str, abort: Callable[[], None]) -> None:
        """A connection was accepted. abort: ends it at once, sent or not; `left` follows."""
        now_s = asyncio.get_running_loop().time()
        self._connections[key] = _Connection(group_of(address), abort, now_s)
        self._waits(key, now_s)

    def has_header(self, key: Hashable) -> None:
        """Its request's header is whole: the body's deadline is the next."""
        connection = self._connections.get(key)
        if connection is not None and not connection.answering:
            now_s = asyncio.get_running_loop().time()
            self._until(key, max(0.0, connection.since_s + self.limits.body_s - now_s))

    def let_in(self, key: Hashable, *, streams: bool = False) -> bool:
        """Its request is whole and may be answered; False where too many are being answered. streams: the answer has
        deadlines of its own."""
        connection = self._connections.get(key)
        if connection is None or connection.answering:
            return True
        if self.answering >= self.limits.answering:
            return False
        connection.answering = True
        self._waits_no_more(connection)
        self._until(key, None if streams else self.limits.answer_s)
        return True

    def answered(self, key: Hashable) -> None:
        """Its answer was given; what it has not taken of it within head_s is lost."""
        connection = self._connections.get(key)
        if connection is None:
            return
        if connection.answering:
            connection.answering = False
        else:
            self._waits_no_more(connection)
        # At the end again, where the youngest are.
        self._connections[key] = self._connections.pop(key)
        connection.since_s = asyncio.get_running_loop().time()
        self._waits(key, connection.since_s)

    def left(self, key: Hashable) -> None:
        """It is closed."""
        connection = self._connections.pop(key, None)
        if connection is None:
            return
        if connection.timer is not None:
            connection.timer.cancel()
        if not connection.answering:
            self._waits_no_more(connection)

    def _waits(self, key: Hashable, now_s: float) -> None:
        connection = self._connections[key]
        self._waiting[connection.group] += 1
        self._until(key, self.limits.head_s)
        if self._waiting[connection.group] > self.limits.waiting_per_address:
            self._turn_out(connection.group)
        elif self._waiting.total() > self.limits.waiting:
            self._turn_out(max(self._waiting, key=self._waiting.__getitem__))

    def _waits_no_more(self, connection: _Connection) -> None:
        self._waiting[connection.group] -= 1
        if self._waiting[connection.group] <= 0:
            del self._waiting[connection.group]

    def _turn_out(self, group: str) -> None:
        """The connection of an address that has waited longest."""
        for key, connection in self._connections.items():
            if connection.group == group and not connection.answering:
                self._end(key)
                return

    def _until(self, key: Hashable, seconds: float | None) -> None:
        connection = self._connections[key]
        if connection.timer is not None:
            connection.timer.cancel()
        connection.timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._end, key)

    def _end(self, key: Hashable) -> None:
        connection = self._connections.get(key)
        if connection is not None:
            self.turned_out += 1
            self.left(key)
            connection.abort()


def group_of(address: str) -> str:
    """What counts as one address: an IPv4 address, also as it is mapped into IPv6; the first 64 bits of an IPv6 one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        if found.is_loopback:
            return "::1"
        return str(ipaddress.ip_network((found, IPV6_SITE), strict=False).network_address)
    return str(found)
