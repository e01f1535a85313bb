from __future__ import annotations

import pytest

from edge_runtime.errors import ConfigError
from train.views.sizes import SizePolicy, view_size


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        pytest.param(1.0, (256, 256), id="square"),
        pytest.param(300 / 205, (208, 304), id="a pill"),
        pytest.param(255 / 640, (400, 160), id="a commutator"),
        pytest.param(640 / 255, (160, 400), id="the same, lying"),
    ],
)
def test_a_size_keeps_the_aspect_at_the_budget(aspect: float, size: tuple[int, int]) -> None:
    found = view_size(aspect)
    assert found == size
    assert found[1] / found[0] == pytest.approx(aspect, rel=0.05)
    assert found[0] * found[1] == pytest.approx(256 * 256, rel=0.05)


def test_a_size_is_one_that_the_network_takes() -> None:
    assert view_size(1.0, 128 * 128, takes=lambda height, width: height % 48 == 0 == width % 48) == (144, 144)
    with pytest.raises(ConfigError, match=r"takes no input of about 16384 pixels and aspect 1.00; name one"):
        view_size(1.0, 128 * 128, takes=lambda height, width: False)


def test_the_smallest_defect_makes_the_input_as_large_as_it_needs() -> None:
    # 16 pixels of 800 become 8 of 400.
    policy = SizePolicy(smallest_defect=16.0)
    assert policy.size_of(800, 800) == (400, 400)
    span = policy.span((400, 400), 800, 800)
    assert span is not None
    assert (span.pixels, span.hint) == (8.0, "")


def test_a_large_smallest_defect_leaves_the_usual_size() -> None:
    policy = SizePolicy(smallest_defect=200.0)
    assert policy.size_of(800, 800) == (256, 256)
    assert policy.span((256, 256), 800, 800).pixels == 64.0  # type: ignore[union-attr]


def test_what_cannot_be_reached_is_hinted_at() -> None:
    policy = SizePolicy(smallest_defect=10.0)
    assert policy.size_of(2000, 2000) == (640, 640)  # the most, where 1600 would be needed
    span = policy.span((640, 640), 2000, 2000)
    assert span is not None
    assert span.pixels == pytest.approx(3.2)
    assert "--roi" in span.hint


def test_a_photograph_is_not_enlarged() -> None:
    policy = SizePolicy(smallest_defect=3.0, budget_pixels=128 * 128)
    assert policy.size_of(320, 320) == (320, 320)
    span = policy.span((320, 320), 320, 320)
    assert span is not None
    assert span.pixels == 3.0
    assert "from nearer" in span.hint


def test_a_named_size_wins() -> None:
    assert SizePolicy(imgsz=(50, 70)).size_of(800, 100) == (50, 70)


def test_without_a_smallest_defect_there_is_no_span() -> None:
    assert SizePolicy().span((256, 256), 800, 800) is None
