from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from edge_runtime.errors import ConfigError
from train.learning.settings import TrainSettings
from train.refinement.itsr import ItsrSettings
from train.schedule import Schedule

Quick = Callable[..., TrainSettings]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "vgg"}, r"network is 'vgg', expected one of mlp, conv, hog"),
        ({"method": "vae"}, r"method is 'vae', expected one of aae, ae"),
        ({"refine": "svm"}, r"refine is 'svm', expected one of none, itsr, robust"),
        ({"decision": "vote"}, r"decision is 'vote', expected one of union, fused"),
        ({"decision": "fused"}, r"--decision fused needs out-of-fold scores, which only --refine robust makes"),
        ({"method": "ae", "refine": "itsr"}, r"--method ae has no prior to refine with; use --refine none"),
        ({"latent_dim": 0}, r"--latent is 0, expected 1 or more"),
        ({"batch_size": 1}, r"--batch is 1, expected 2 or more: batch normalisation needs two"),
        ({"learning_rate": 0.0}, r"learning rate is 0\.0, expected a number above 0"),
        ({"learning_rate": math.nan}, r"learning rate is nan, expected a number above 0"),
        ({"adversarial_weight": -0.1}, r"adversarial weight is -0\.1, expected 0 or more"),
        ({"adversarial_weight": math.inf}, r"adversarial weight is inf, expected 0 or more"),
        ({"seed": -1}, r"--seed is -1, expected 0 or more, below 2\^63"),
        ({"seed": 2**63}, r"--seed is 9223372036854775808, expected 0 or more"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_what_came(quick: Quick, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        quick(**changes)


def test_settings_survive_json(quick: Quick) -> None:
    settings = quick(
        refine="itsr",
        schedule=Schedule(train=7, refine=3, retrain=5),
        itsr=ItsrSettings(nu=0.05, rounds=3, retrain_percentile=0.7, negative_weight=-1.0, error_cap=3.0),
        seed=2**63 - 1,
        learning_rate=3e-4,
    )
    assert TrainSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_settings_of_another_release_are_refused(quick: Quick) -> None:
    values = quick().to_json()
    with pytest.raises(ConfigError, match=r"settings are of another release.*dropout.*train again"):
        TrainSettings.from_json({**values, "dropout": 0.5})
    del values["itsr"]
    with pytest.raises(ConfigError, match=r"settings are of another release.*itsr.*train again"):
        TrainSettings.from_json(values)
