from __future__ import annotations

import json

import pytest

from edge_runtime.errors import ConfigError
from train.data.settings import DataSettings


def test_contaminating_without_normal_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--contaminate needs --classes, the normal ones"):
        DataSettings(path="x", contaminate=((2, 0.05),))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 5.0, float("nan")])
def test_a_contaminating_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"--contaminate 2:.*, expected a share between 0 and 1, such as 2:0\.05"):
        DataSettings(path="x", classes=(0,), contaminate=((2, share),))


def test_shares_that_leave_no_room_for_normal_images_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--contaminate shares add up to 1 or more"):
        DataSettings(path="x", classes=(0,), contaminate=((1, 0.5), (2, 0.5)))


def test_a_class_that_is_normal_cannot_contaminate() -> None:
    with pytest.raises(ConfigError, match=r"--contaminate 2: that class is among the normal --classes"):
        DataSettings(path="x", classes=(0, 2), contaminate=((2, 0.05),))


def test_a_class_cannot_contaminate_twice() -> None:
    with pytest.raises(ConfigError, match=r"--contaminate 2"):
        DataSettings(path="x", classes=(0,), contaminate=((2, 0.05), (2, 0.1)))


@pytest.mark.parametrize("max_bad", [-0.01, 1.01, float("nan")])
def test_a_share_of_bad_images_outside_0_to_1_is_refused(max_bad: float) -> None:
    with pytest.raises(ConfigError, match=r"--max-bad is .*, expected between 0% and 100%"):
        DataSettings(path="x", max_bad=max_bad)


def test_data_settings_survive_json() -> None:
    settings = DataSettings(
        path="x",
        classes=(0, 1),
        contaminate=((2, 0.05), (3, 0.01)),
        imgsz=(32, 48),
        channels=3,
        fit="letterbox",
        roi=(1, 2, 3, 4),
        max_bad=0.2,
        seed=9,
    )
    assert DataSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    plain = DataSettings(path="x")
    assert DataSettings.from_json(json.loads(json.dumps(plain.to_json()))) == plain


def test_data_settings_of_another_release_are_refused() -> None:
    values = DataSettings(path="x").to_json()
    with pytest.raises(ConfigError, match=r"data settings are of another release: .*augment.*; train again"):
        DataSettings.from_json({**values, "augment": True})
    del values["roi"]
    with pytest.raises(ConfigError, match=r"data settings are of another release: .*roi.*; train again"):
        DataSettings.from_json(values)
