"""A source with a threshold of its own, from `calibrate --of-source` to a run's records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.site_calibration import SiteCalibration, overlay_path
from tests.edge_aae.device.forking import Commands

TWO = ("line3=test://pattern?fps=99&frames=4&width=8&height=8", "left=test://pattern?fps=98&frames=4&width=8&height=8")


@pytest.fixture
def model(tmp_path: Path, bundle: Bundle) -> Path:
    bundle.write(tmp_path / "model.aae")
    return tmp_path / "model.aae"


@pytest.fixture
def commands(model: Path) -> Iterator[Commands]:
    with Commands(model.parent) as running:
        yield running


def thresholds(text: str) -> dict[str, set[float]]:
    found: dict[str, set[float]] = {}
    for record in map(json.loads, text.splitlines()):
        if record["type"] == "frame":
            found.setdefault(record["source_id"], set()).add(record["threshold"])
    return found


def test_one_source_is_judged_by_its_own_and_the_others_by_theirs(commands: Commands, model: Path) -> None:
    made = commands.run("calibrate", "--threshold", "-7", "--of-source", "line3")
    assert made.status == 0, made.err
    assert "line3: threshold -7, chosen by a person" in made.out
    assert "undo: edge-aae calibrate --undo model.aae --of-source line3\n" in made.out
    assert "line3: -7, chosen by a person" in commands.run("info").out
    ended = commands.run("run", *TWO, "--alarm", "1/1")
    assert thresholds(ended.out) == {"line3": {-7.0}, "left": {1.0}}, ended.err
    events = [json.loads(line) for line in ended.out.splitlines() if '"type":"event"' in line.replace(" ", "")]
    assert {event["threshold"] for event in events if event["source_id"] == "line3"} == {-7.0}
    # What the run is given still wins, for all.
    ended = commands.run("run", *TWO, "--threshold", "3")
    assert thresholds(ended.out) == {"line3": {3.0}, "left": {3.0}}
    # A second one joins it; one for all takes their places, and says so.
    assert commands.run("calibrate", "--threshold", "5", "--of-source", "left").status == 0
    ended = commands.run("run", *TWO)
    assert thresholds(ended.out) == {"line3": {-7.0}, "left": {5.0}}
    made = commands.run("calibrate", "--threshold", "2")
    assert "line3 has no threshold of its own any more" in made.out
    assert thresholds(commands.run("run", *TWO).out) == {"line3": {2.0}, "left": {2.0}}
    assert commands.run("calibrate", "--undo").status == 0


def test_one_of_them_is_taken_back(commands: Commands, model: Path) -> None:
    for name in ("line3", "left"):
        commands.run("calibrate", "--threshold", "5", "--of-source", name)
    undone = commands.run("calibrate", "--undo", "--of-source", "line3")
    assert "line3 is judged as all sources are again: 1;" in undone.out
    assert thresholds(commands.run("run", *TWO).out) == {"line3": {1.0}, "left": {5.0}}
    again = commands.run("calibrate", "--undo", "--of-source", "line3")
    assert (again.status, "no threshold is kept for line3 alone, but for left" in again.err) == (1, True)
    assert commands.run("calibrate", "--undo", "--of-source", "left").status == 0
    assert not overlay_path(model).exists()  # nothing but the bundle's own was left


def test_a_shadow_has_its_own_thresholds_too(commands: Commands, model: Path) -> None:
    commands.run("calibrate", "--threshold", "-7", "--of-source", "line3")
    ended = commands.run("run", TWO[0], "--shadow", "model.aae")
    frames = [json.loads(line) for line in ended.out.splitlines()]
    seen = [(frame["is_anomaly"], frame["shadow"]["anomalous"]) for frame in frames if frame.get("shadow")]
    assert set(seen) == {(True, True)}


def test_a_password_in_a_name_is_what_the_run_shows(commands: Commands, model: Path) -> None:
    commands.run("calibrate", "--threshold", "2", "--of-source", " rtsp://admin:hunter22@h/hunter22/live ")
    kept = SiteCalibration.beside(model)
    assert kept is not None
    assert list(kept.sources) == ["rtsp://***@h/***/live"]


def test_frames_of_a_source_make_its_own(commands: Commands, model: Path) -> None:
    commands.run("calibrate", "--threshold", "4")
    source = ("--source", "line3=test://pattern?fps=200&width=8&height=8", "--frames", "40")
    made = commands.run("calibrate", *source, "--of-source", "line3", "--target-fpr", "10%")
    assert made.status == 0, made.err
    assert "line3: threshold" in made.out
    assert "before: threshold 4," in made.out
    assert "undo: edge-aae calibrate --undo model.aae --of-source line3\n" in made.out
    kept = SiteCalibration.beside(model)
    assert kept is not None
    assert (kept.threshold, kept.basis) == (4.0, "person")
    own = kept.sources["line3"]
    assert (own.frames >= 20, own.stated_fpr, own.by) == (True, 0.1, None)
    assert thresholds(commands.run("run", *TWO).out) == {"line3": {own.threshold}, "left": {4.0}}


def test_a_run_without_the_source_says_whose_threshold_is_nobodys(commands: Commands) -> None:
    commands.run("calibrate", "--threshold", "-7", "--of-source", "line4")
    ended = commands.run("run", *TWO)
    assert ended.status == 0
    assert "kept for line4 alone, and no source of this run is called so, only line3, left" in ended.err
    assert thresholds(ended.out) == {"line3": {1.0}, "left": {1.0}}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--undo", "--threshold", "2"), "--undo goes back to what the bundle has"),
        (("--undo", "--source", "test://pattern"), "--undo goes back to what the bundle has"),
        (("--threshold", "2", "--target-fpr", "1%"), "leave --target-fpr and --strict out"),
        (("--source", "test://pattern", "--target-fpr", "5"), "--target-fpr is 5 (500%), expected a rate above 0"),
        ((), "name where normal frames come from: --camera 0, or --source FOLDER"),
        (("--of-source", " ", "--threshold", "2"), "--of-source names the source that a threshold is for"),
        (("--of-source", "a", "--min-area", "3px", "--threshold", "2"), "are for all sources"),
        (("--of-source", "a", "--threshold", "2", "--roi", "0,0,4,4"), "has no --roi or --mask of its own"),
        (("--of-source", "a"), "name where normal frames come from"),
    ],
)
def test_what_one_source_cannot_have_is_refused(
    commands: Commands, model: Path, given: tuple[str, ...], says: str
) -> None:
    ended = commands.run("calibrate", *given)
    assert (ended.status, says in ended.err, overlay_path(model).exists()) == (2, True, False), ended.err
    commands.run("calibrate", "--threshold", "2")
    before = overlay_path(model).read_bytes()
    ended = commands.run("calibrate", *given)
    assert (ended.status, says in ended.err) == (2, True), ended.err
    assert overlay_path(model).read_bytes() == before


@pytest.mark.parametrize("own", [{"line3": 2.0}, {"line3": {"threshold": 1e999, "created": ""}}, [1], {"a": {"b": 1}}])
def test_a_damaged_one_is_said_with_the_remedy(commands: Commands, model: Path, own: object) -> None:
    commands.run("calibrate", "--threshold", "2", "--of-source", "line3")
    path = overlay_path(model)
    path.write_text(json.dumps({**json.loads(path.read_text()), "sources": own}))
    ended = commands.run("run", *TWO)
    assert (ended.status, "is no calibration" in ended.err) == (1, True), ended.err
    assert "calibrate again, or undo it" in ended.err
