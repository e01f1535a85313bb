"""Addresses to serve at, and those that another device can open."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edge_runtime.serving import interfaces, listening
from edge_runtime.serving.interfaces import Interface, interface_addresses, reachable
from edge_runtime.serving.listening import addresses_of, bound

IF_INET6 = """\
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000005 02 40 00 80     eth0
20010db8000000000000000000000006 02 40 00 01     eth0
20010db8000000000000000000000007 02 40 00 20     eth0
20010db8000000000000000000000008 02 40 00 40     eth0
fd000000000000000000000000000002 03 40 00 82    wlan0
"""
"""As Linux tells them: link-local, loopback, one to use, three that pass, a local network's"""


def test_addresses_that_nobody_else_can_open_are_left_out() -> None:
    told = [
        Interface("lo", "127.0.0.1", False),
        Interface("docker0", "172.17.0.1", True),
        Interface("br-0123456789ab", "172.18.0.1", True),
        Interface("virbr0", "192.168.122.1", True),
        Interface("eth1", "169.254.3.4", True),
        Interface("eth2", "10.9.9.9", False),
        Interface("wlan0", "192.168.1.7", True),
        Interface("eth0", "10.0.0.5", True),
        Interface("eth0", "10.0.0.5", True),
        Interface("br0", "10.1.0.5", True),
    ]
    assert reachable(told) == ["192.168.1.7", "10.0.0.5", "10.1.0.5"]
    assert reachable(told, first="10.0.0.5") == ["10.0.0.5", "192.168.1.7", "10.1.0.5"]
    # A bridge that leads elsewhere is none of containers, whatever it is called.
    assert reachable(told, first="192.168.122.1")[0] == "192.168.122.1"
    assert reachable(told[:1]) == []


def test_addresses_of_ipv6_are_those_to_connect_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "if_inet6").write_text(IF_INET6)
    monkeypatch.setattr(interfaces, "IF_INET6", tmp_path / "if_inet6")
    assert reachable(interfaces._ipv6()) == ["2001:db8::5", "fd00::2"]
    (tmp_path / "if_inet6").write_text("what no kernel writes\n")
    assert interfaces._ipv6() == []
    monkeypatch.setattr(interfaces, "IF_INET6", tmp_path / "absent")
    assert interfaces._ipv6() == []


@pytest.mark.skipif(not Path("/proc/net").is_dir(), reason="only Linux tells its interfaces so")
def test_the_system_s_own_list_has_the_loopback_and_the_way_out() -> None:
    told = interfaces._ipv4()
    assert ("127.0.0.1", False) in {(one.address, one.is_up) for one in told}
    outward = interfaces._outward(socket.AF_INET)
    assert outward == "" or outward in {one.address for one in told}
    found = interface_addresses(ipv6=False)
    assert outward in ("", *found[:1])
    assert not any(address.startswith(("127.", "169.254.", "fe80:")) or ":" in address for address in found)


def test_every_interface_is_told_by_addresses_and_one_by_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {False: ["10.0.0.5", "192.168.1.7"], True: ["10.0.0.5", "2001:db8::5"]}
    monkeypatch.setattr(listening, "interface_addresses", lambda *, ipv6: told[ipv6])
    assert addresses_of("0.0.0.0", 8080) == ["http://10.0.0.5:8080/", "http://192.168.1.7:8080/"]
    assert addresses_of("::", 80, "t") == ["http://10.0.0.5:80/?token=t", "http://[2001:db8::5]:80/?token=t"]
    assert addresses_of("::1", 8080) == ["http://[::1]:8080/"]
    assert addresses_of("127.0.0.1", 8080, "t") == ["http://127.0.0.1:8080/?token=t"]
    assert addresses_of("line3.example", 8080) == ["http://line3.example:8080/"]
    monkeypatch.setattr(listening, "interface_addresses", lambda *, ipv6: [])
    assert addresses_of("0.0.0.0", 8080) == [f"http://{socket.gethostname()}:8080/"]


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("198.51.100.7", r"198\.51\.100\.7 is no address of this machine; 0\.0\.0\.0:{port} takes all of them"),
        ("2001:db8::7", r"2001:db8::7 is no address of this machine; \[::\]:{port} takes all of them"),
        ("127.0.0.1", r"Address already in use; choose another port, such as :{another}"),
        ("0.0.0.0", r"Address already in use; choose another port, such as 0\.0\.0\.0:{another}"),
        ("no such host", r"no such host is no address and no name that is known here; 0\.0\.0\.0:{port} takes"),
    ],
)
def test_an_address_that_is_not_to_be_had_is_told_with_one_that_may_be(host: str, says: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("there is no IPv6 here")
    with bound("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        another = port + 1 if port < 65535 else port - 1
        with pytest.raises(OSError, match=rf"^{says.format(port=port, another=another)}"):
            bound(host, port)


def test_what_listens_at_every_address_is_found_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    with bound("0.0.0.0", 0) as listener:
        for address in interface_addresses(ipv6=False):
            socket.create_connection((address, listener.getsockname()[1]), timeout=10).close()
    if not socket.has_ipv6:
        pytest.skip("there is no IPv6 here")
    try:
        listener = bound("::", 0)
    except OSError:
        pytest.skip("there is no IPv6 here")
    with listener:
        for address in ("127.0.0.1", "::1", *interface_addresses(ipv6=True)):
            socket.create_connection((address, listener.getsockname()[1]), timeout=10).close()
