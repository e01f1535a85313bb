"""A bundle that arrives while another one runs: tried in a process of its own, and only then loaded in this one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.gate import trial
from edge_runtime.gate.trial import Trial
from edge_runtime.model.score import Limit, UnionRule
from edge_runtime.operations.model_watch import ModelWatch
from edge_runtime.scoring.detector import Detector
from edge_runtime.signing.signatures import signature_path
from tests.edge_runtime.waiting import wait_until
from tests.signing import key_of, signed


class Arrivals:
    """A watch of a path, and what it reports."""

    def __init__(self, path: Path, digest: str, **settings: Any) -> None:
        self.records: list[dict[str, Any]] = []
        self.loaded: list[Bundle] = []
        self.watch = ModelWatch(path, digest, self._load, self.records.append, look_s=0.02, **settings)

    def _load(self, bundle: Bundle) -> Detector:
        self.loaded.append(bundle)
        return Detector.load(bundle, threads=1)

    def said(self) -> str:
        return str(self.records)


def another(make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle(decision=UnionRule(limits={"reconstruction_error": Limit(threshold=2.0, center=0.5)}))


def test_a_good_bundle_is_taken_up_once(bundle: Bundle, make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    path = tmp_path / "model.aae"
    bundle.write(path)
    arrivals = Arrivals(path, bundle.digest)
    with arrivals.watch as watch:
        new = another(make_bundle)
        new.write(path)
        wait_until(lambda: "MODEL_SWAPPED" in arrivals.said())
        fresh = watch.take()
        assert fresh is not None
        assert fresh.bundle.digest == new.digest
        assert watch.take() is None


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        ("import os; os.abort()", "ends the process that opens it by signal 6"),
        ("import time; time.sleep(60)", "takes more than 0.5 s"),
    ],
)
def test_what_crashes_or_hangs_is_refused_and_never_loaded_here(
    bundle: Bundle,
    make_bundle: Callable[..., Bundle],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    child: str,
    reason: str,
) -> None:
    path = tmp_path / "model.aae"
    bundle.write(path)
    monkeypatch.setattr(trial, "START", child)
    arrivals = Arrivals(path, bundle.digest, trial=Trial(most_s=0.5 if "sleep" in child else 30.0))
    with arrivals.watch as watch:
        another(make_bundle).write(path)
        wait_until(lambda: "MODEL_REFUSED" in arrivals.said())
        assert reason in arrivals.said()
        assert watch.take() is None
    assert arrivals.loaded == []


def refusals(arrivals: Arrivals) -> list[str]:
    return [record["payload"]["reason"] for record in arrivals.records if record["event_type"] == "MODEL_REFUSED"]


def test_where_a_signature_is_required_the_old_bundle_stays_until_one_comes_that_is_trusted(
    bundle: Bundle, make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    """It is looked at again when its signature comes, or the key that it was signed by."""
    path, trusted = tmp_path / "model.aae", tmp_path / "trusted"
    trusted.mkdir()
    bundle.write(path)
    signed(path, trusted / "release")
    arrivals = Arrivals(path, bundle.digest, trial=Trial(require_signature=str(trusted)))
    with arrivals.watch as watch:
        new = another(make_bundle)
        new.write(path)
        wait_until(lambda: len(refusals(arrivals)) == 1)
        assert "does not match its signature by" in refusals(arrivals)[0]
        signature_path(path).unlink()
        wait_until(lambda: len(refusals(arrivals)) == 2)
        assert "is not signed" in refusals(arrivals)[1]
        signed(path, tmp_path / "next")
        wait_until(lambda: len(refusals(arrivals)) == 3)
        assert "not trusted here" in refusals(arrivals)[2]
        assert arrivals.loaded == []
        assert watch.take() is None
        (tmp_path / "next.pub").rename(trusted / "next.pub")
        wait_until(lambda: "MODEL_SWAPPED" in arrivals.said())
        fresh = watch.take()
        assert fresh is not None
        assert fresh.bundle.digest == new.digest
        swapped = arrivals.records[-1]
        (trusted / "next.pub").unlink()
        wait_until(lambda: len(refusals(arrivals)) == 4)
        assert "not trusted here" in refusals(arrivals)[3], "of a key that is taken away while its bundle runs"
        assert watch.take() is None
    by = f"ed25519:{key_of(tmp_path / 'next').public.key_id}"
    assert fresh.bundle.signed_by == by
    assert swapped["payload"]["signed_by"] == by
