"""No user and no password of a URL gets past, and nothing else is taken; cases by source stand in test_records."""

from __future__ import annotations

import time

import pytest

from edge_runtime.redact import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:secret@cam/live", "rtsp://***@cam/live"),
        ("RTSPS://admin:secret@CAM", "RTSPS://***@CAM"),
        ("rtsp://admin:p@s@s@cam/live", "rtsp://***@cam/live"),
        ("rtsp://:secret@cam", "rtsp://***@cam"),
        ("rtsp://admin:@cam", "rtsp://***@cam"),
        ("rtsp://admin:secret@[fe80::1%eth0]:554/live", "rtsp://***@[fe80::1%eth0]:554/live"),
        ("mqtts://line3:s%2Fcret@broker:8883", "mqtts://***@broker:8883"),
        ("http://u:p?w=1#@cam/mjpg", "http://***@cam/mjpg"),
        ("http://zähler:geheimß@cam", "http://***@cam"),
    ],
)
def test_the_credentials_of_any_scheme_are_replaced_and_the_host_stays(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lost rtsp://a:b@x/live after 3 frames; retry", "lost rtsp://***@x/live after 3 frames; retry"),
        ("rtsp://a:b@x\nrtsp://c:d@y\n", "rtsp://***@x\nrtsp://***@y\n"),
        ("rtsp://a:b@x,rtsp://c:d@y", "rtsp://***@x,rtsp://***@y"),
        ("('rtsp://a:b@x', 'rtsp://c:d@y')", "('rtsp://***@x', 'rtsp://***@y')"),
        ("http://cam/next?to=rtsp://a:b@x", "http://cam/next?to=rtsp://***@x"),
        ("rtsp://x/live and mail to a@b", "rtsp://x/live and mail to a@b"),
        ("lost rtsp://x\tcall a@b", "lost rtsp://x\tcall a@b"),
    ],
)
def test_every_url_in_a_text_is_redacted_and_the_text_around_it_stays(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "camera:0",
        "/data/line 3/a@b.png",
        "a@b",
        "rtsp://cam",
        "rtsp://@cam",
        "rtsp://cam:554/a@b",
        "://",
        "@",
        "a://b",
    ],
)
def test_what_holds_no_credentials_is_unchanged(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("text", ["rtsp://admin:p@ss@cam/live", "rtsp://a:b@x and http://c:d@y", "rtsp://***@x"])
def test_redacting_again_changes_nothing(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("part", ["://a", "://a:b@", "a@", "@", ":", "://"])
def test_a_long_line_takes_no_time(part: str) -> None:
    line = "rtsp://" + part * (100_000 // len(part))
    start = time.perf_counter()
    redact(line)
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("password", ["pa/ss", "/pass", "pass/"])
def test_a_password_with_a_slash_that_nobody_encoded_is_hidden(password: str) -> None:
    # No player opens such a URL: what names the password is the error message.
    assert password not in redact(f"cannot open rtsp://admin:{password}@10.0.0.5/live")
