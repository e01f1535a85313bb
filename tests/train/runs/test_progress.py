from __future__ import annotations

import io
import logging
import sys
from types import SimpleNamespace

import pytest

import train.runs.progress
from train.learning.trainer import EpochRow
from train.runs.progress import LOG_INTERVAL_S, TrainingProgress


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        patch.setattr(train.runs.progress, "time", SimpleNamespace(monotonic=lambda: self.now_s))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="train.runs.progress")
    return caplog


def row(epoch: int, phase: str = "train", *, adversary: bool = True, candidates: int = 0) -> EpochRow:
    return EpochRow(
        phase=phase,
        epoch=epoch,
        reconstruction_loss=1.23456,
        encoder_loss=0.6931 if adversary else 0.0,
        discriminator_loss=1.3863 if adversary else 0.0,
        images=100,
        candidates=candidates,
        seconds=1.0,
    )


def test_without_a_terminal_an_epoch_is_a_log_line_with_phase_losses_and_remaining_seconds(
    clock: Clock, lines: pytest.LogCaptureFixture
) -> None:
    with TrainingProgress(10) as progress:
        clock.now_s += 3.0
        progress(row(1))
    assert lines.messages == ["train epoch 1/10  reconstruction 1.2346  encoder 0.693  discriminator 1.386  27 s left"]


def test_the_remaining_time_follows_the_mean_epoch(clock: Clock, lines: pytest.LogCaptureFixture) -> None:
    with TrainingProgress(10) as progress:
        clock.now_s += 2.0
        progress(row(1))
        clock.now_s += 18.0
        progress(row(4))  # 20 s for 4 epochs, 6 are left
    assert lines.messages[-1].startswith("train epoch 4/10")
    assert lines.messages[-1].endswith("30 s left")


def test_a_resumed_run_estimates_from_the_epochs_it_ran_itself(clock: Clock, lines: pytest.LogCaptureFixture) -> None:
    with TrainingProgress(100, done_epochs=90) as progress:
        clock.now_s += 4.0
        progress(row(92))  # 2 s an epoch, not 4 / 92
    assert lines.messages[-1].endswith("16 s left")


def test_epochs_within_the_interval_are_not_logged(clock: Clock, lines: pytest.LogCaptureFixture) -> None:
    with TrainingProgress(100) as progress:
        for epoch in range(1, 25):
            clock.now_s += 1.0
            progress(row(epoch))
    shown = [message.split()[2] for message in lines.messages]
    assert LOG_INTERVAL_S == 10.0
    assert shown == ["1/100", "11/100", "21/100"]


def test_the_last_epoch_is_always_logged(clock: Clock, lines: pytest.LogCaptureFixture) -> None:
    with TrainingProgress(3) as progress:
        for epoch in (1, 2, 3):
            clock.now_s += 0.1
            progress(row(epoch))
    assert [message.split()[2] for message in lines.messages] == ["1/3", "3/3"]
    assert lines.messages[-1].endswith(" 0 s left")


def test_a_new_phase_is_logged_at_once_but_not_every_refinement_round(
    clock: Clock, lines: pytest.LogCaptureFixture
) -> None:
    phases = ["pretrain", "pretrain", "refine-1", "refine-2", "refine-10", "retrain", "retrain", "retrain"]
    with TrainingProgress(100) as progress:
        for epoch, phase in enumerate(phases, start=1):
            clock.now_s += 0.1
            progress(row(epoch, phase))
    assert [message.split()[0] for message in lines.messages] == ["pretrain", "refine-1", "retrain"]


def test_a_line_names_the_adversary_and_the_candidates_only_where_there_are_any(
    clock: Clock, lines: pytest.LogCaptureFixture
) -> None:
    with TrainingProgress(1) as progress:
        progress(row(1, adversary=False))
        progress(row(1, candidates=12))
    assert "encoder" not in lines.messages[0]
    assert "candidates" not in lines.messages[0]
    assert "candidates 12" in lines.messages[1]


def test_on_a_terminal_a_bar_takes_the_place_of_log_lines(
    monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with TrainingProgress(1200) as progress:
        progress(row(1100, "refine-10"))
    shown = terminal.getvalue()
    assert "refine-10" in shown
    assert "1100/1200" in shown
    assert "error 1.235 enc 0.69 disc 1.39" in shown, "80 columns hold the whole line"
    assert not lines.messages
