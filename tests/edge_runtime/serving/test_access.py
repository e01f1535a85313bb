"""Who may ask: headers of every shape, two tokens, and guesses."""

from __future__ import annotations

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.serving.access import SHORTEST_TOKEN, Access, Refusal, check_token
from edge_runtime.serving.attempts import FORGOTTEN_S, FREE, MOST_ADDRESSES, Attempts

TOKEN, VIEW = "token-of-operators", "token-of-viewers-"


def status_of(access: Access, method: str = "GET", token: str = "", address: str = "10.0.0.1", **headers: str) -> int:
    named = {"host": "10.0.0.5:8080", **{name.replace("_", "-"): value for name, value in headers.items()}}
    try:
        access.check(method, named, token, "", address)
    except Refusal as refusal:
        return refusal.status
    return 200


@pytest.mark.parametrize(
    "host",
    [
        "[::1", "::1]", "[", "]", "[]", "[::1]:x", "[v1.x]", "[::1]a", "[1:2]", "a b", "a/b", "a?b", "a#b", "a@b",
        "a:99999", "a:-1", "a:8\u00b2", "a:80:80", "\u00e4", "a\tb", "[fe80::1%eth0]", "a,b", ":", ":80",
    ],
)  # fmt: skip
def test_a_host_that_is_none_is_a_bad_request(host: str) -> None:
    for bound in ("127.0.0.1", "0.0.0.0"):
        assert status_of(Access(bound), host=host) == 400


@pytest.mark.parametrize("host", ["10.0.0.5", "line3.plant.example:8080", "[2001:db8::1]:80", "LINE_3:80", ""])
def test_hosts_of_every_right_shape_are_taken(host: str) -> None:
    assert status_of(Access("0.0.0.0"), host=host) == 200


def test_on_the_loopback_a_host_is_the_loopback_s() -> None:
    access = Access("127.0.0.1")
    assert [status_of(access, host=host) for host in ("localhost:1", "[::1]:8080", "127.0.0.1", "LOCALHOST")] == [
        200
    ] * 4
    assert [status_of(access, host=host) for host in ("10.0.0.5", "127.0.0.1.example", "[::2]", "")] == [403] * 4


@pytest.mark.parametrize("origin", ["http://[x", "http://[::1", "http://[v1.", "http://]"])
def test_an_origin_that_is_none_is_a_bad_request(origin: str) -> None:
    assert status_of(Access("0.0.0.0"), "POST", origin=origin) == 400


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "\u00b2", "1" * 20, "0x10", "+1"])
def test_a_length_that_is_none_is_a_bad_request(length: str) -> None:
    assert status_of(Access("0.0.0.0"), content_length=length) == 400
    assert status_of(Access("0.0.0.0"), content_length="16385") == 413


def test_two_tokens_make_two_roles_and_the_second_changes_nothing() -> None:
    access, headers = Access("0.0.0.0", TOKEN, VIEW), {"host": "h", "authorization": "Bearer x"}
    assert access.check("GET", headers, TOKEN, "", "10.0.0.1").role == "operator"
    viewer = access.check("GET", headers, "", VIEW, "10.0.0.1")
    assert (viewer.role, viewer.address, viewer.may_change) == ("viewer", "10.0.0.1", False)
    assert access.check("POST", headers, TOKEN, "", "10.0.0.1").may_change
    for method in ("POST", "PUT", "DELETE"):
        with pytest.raises(Refusal, match="this token may look, and change nothing") as refused:
            access.check(method, headers, "", VIEW, "10.0.0.1")
        assert refused.value.status == 403
    assert Access("127.0.0.1").check("GET", {"host": "localhost"}, "", "", "127.0.0.1").role == "local"


def test_who_guesses_waits_and_so_does_the_right_token_of_that_address_and_of_no_other() -> None:
    access = Access("0.0.0.0", TOKEN)
    assert [status_of(access, token=f"guess {number}") for number in range(FREE + 1)] == [401] * (FREE + 1)
    assert status_of(access, token="another") == 429
    assert status_of(access, token=TOKEN) == 429
    assert status_of(access) == 401  # nothing was guessed
    assert status_of(access, token=TOKEN, address="10.0.0.2") == 200
    with pytest.raises(Refusal) as refused:
        access.check("GET", {"host": "h"}, "x", "", "10.0.0.1")
    assert refused.value.retry_after_s == 1


def test_pauses_double_are_bounded_and_end() -> None:
    now = [1000.0]
    attempts = Attempts(lambda: now[0])
    waits = []
    for number in range(FREE + 12):
        attempts.failed("10.0.0.1", str(number))
        waits.append(attempts.wait_s("10.0.0.1"))
    assert waits == [0] * FREE + [1, 2, 4, 8, 16, 32, *[60] * 6]
    now[0] += 60.0
    assert attempts.wait_s("10.0.0.1") == 0
    now[0] += FORGOTTEN_S + 1.0
    attempts.failed("10.0.0.1", "again")
    assert attempts.wait_s("10.0.0.1") == 0


def test_the_same_wrong_token_again_is_no_guess() -> None:
    """As a browser sends it that was open when the run was started again."""
    attempts = Attempts(lambda: 1000.0)
    for _ in range(10 * FREE):
        attempts.failed("10.0.0.1", "token of yesterday")
    assert attempts.wait_s("10.0.0.1") == 0


def test_the_table_of_guesses_is_bounded() -> None:
    attempts = Attempts(lambda: 1000.0)
    for number in range(MOST_ADDRESSES + 50):
        attempts.failed(f"10.0.{number // 256}.{number % 256}", "x")
    for number in range(500):
        attempts.failed("10.9.9.9", str(number))
    assert len(attempts._of) == MOST_ADDRESSES
    assert len(attempts._of["10.9.9.9"].seen) <= 64


@pytest.mark.parametrize("token", ["", "short", "x" * (SHORTEST_TOKEN - 1), "a token with spaces in it", "\u00e4" * 20])
def test_a_token_that_people_choose_is_long_and_fits_into_a_header(token: str) -> None:
    with pytest.raises(ConfigError, match=f"--serve-token has {len(token)} characters, expected 16 or more"):
        check_token(token, "--serve-token")
    assert check_token("x" * SHORTEST_TOKEN, "--serve-token") == "x" * SHORTEST_TOKEN
