from __future__ import annotations

import csv
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

from edge_runtime.errors import ConfigError
from train.distributed import ALONE, World, joined
from train.learning.shared_norm import share_norms

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("one_of_two.py")
LIMIT_S = 120
"""For two processes that need a few seconds on an idle machine."""

CLOSE = {"rtol": 2e-3, "atol": 2e-4}
"""Of what some steps of Adam make of sums in another order."""

Result = dict[str, NDArray[Any]]

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch was built without gloo"
)


def _worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("one_of_two", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment(**variables: str) -> dict[str, str]:
    """This process's, with the checkout's modules and one thread each."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **variables}


def run_two(part: str, folder: Path) -> list[subprocess.CompletedProcess[str]]:
    """Both processes' ends; those that do not end in time are killed and the test fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        variables = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, str(WORKER), part, str(folder)]
        processes.append(
            subprocess.Popen(
                command,
                env=environment(**variables, **address),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        ends = []
        for process in processes:
            out, err = process.communicate(timeout=LIMIT_S)
            ends.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
        return ends
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Result]:
    """What a process of two found, by scenario and rank."""
    folder = tmp_path_factory.mktemp("two")
    ends = run_two("outcomes", folder)
    assert [end.returncode for end in ends] == [0, 0], "".join(end.stderr for end in ends)

    def read(name: str, rank: int = 0) -> Result:
        with np.load(folder / f"{name}-{rank}.npz") as arrays:
            return dict(arrays)

    return read


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """What one process finds."""
    results: dict[str, Result] = _worker().outcomes(ALONE, tmp_path_factory.mktemp("one"))
    return results


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "plain ae", "itsr", "robust"])
def test_two_processes_train_to_what_one_trains_to(
    one: dict[str, Result], two: Callable[[str, int], Result], name: str
) -> None:
    ours, theirs = one[name], two(name, 0)
    assert np.array_equal(ours["images"], theirs["images"])
    assert np.array_equal(ours["candidates"], theirs["candidates"])
    for found in ("losses", "criteria", "codes", "peaks"):
        np.testing.assert_allclose(theirs[found], ours[found], err_msg=found, **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "itsr", "robust"])
def test_both_processes_hold_the_same_bits(two: Callable[[str, int], Result], name: str) -> None:
    first, second = two(name, 0), two(name, 1)
    assert [key for key, array in first.items() if not np.array_equal(array, second[key])] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["step conv", "step mlp"])
def test_a_shared_step_has_the_gradients_and_statistics_of_the_whole_batch(
    one: dict[str, Result], two: Callable[[str, int], Result], name: str
) -> None:
    ours, theirs = one[name], two(name, 0)
    assert sorted(ours) == sorted(theirs)
    for key, expected in ours.items():
        # Rounding grows with the largest gradient of a layer, not with each.
        atol = 1e-5 * max(1e-2, float(np.abs(expected).max()))
        np.testing.assert_allclose(theirs[key], expected, rtol=1e-4, atol=atol, err_msg=key)


@pytest.mark.slow
def test_a_run_that_one_process_stopped_resumes_in_two_as_if_nothing_had_happened(
    two: Callable[[str, int], Result],
) -> None:
    whole, resumed = two("robust", 0), two("interrupted", 0)
    assert sorted(whole) == sorted(resumed)
    assert [key for key, array in whole.items() if not np.array_equal(array, resumed[key])] == []


@pytest.mark.slow
def test_an_error_in_one_process_ends_both_with_its_message_alone(tmp_path: Path) -> None:
    first, second = run_two("error", tmp_path)
    assert first.returncode == second.returncode == 1
    assert second.stderr == "error: process 1 of 2: the images are gone\n"
    assert first.stderr == ""


@pytest.mark.slow
def test_a_killed_process_ends_the_other_with_one_message(tmp_path: Path) -> None:
    first, second = run_two("killed", tmp_path)
    assert second.returncode < 0
    assert first.returncode == 1
    assert first.stderr.count("\n") == 1
    assert "another of the 2 processes ended" in first.stderr
    assert "--resume" in first.stderr


@pytest.mark.slow
def test_torchrun_starts_the_command_and_one_process_writes_and_speaks(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    (tmp_path / "photos").mkdir()
    for index, image in enumerate(_worker().images()):
        cv2.imwrite(str(tmp_path / "photos" / f"{index:02}.png"), image)
    options = ["--imgsz=16", "--network=hog", "--refine=none", "--epochs=2", "--latent=4", "--device=cpu"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "edge_aae"]
    command = [*launcher, "train", "photos", *options, "--out=two"]
    end = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert end.returncode == 0, end.stderr
    assert end.stdout.count("trained: 2 of 2 epochs") == 1
    assert end.stderr.count("training hog") == 1
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    assert config["status"] == "complete"
    assert config["device"] == "cpu, 2 processes"
    with (tmp_path / "two" / "training.csv").open() as file:
        assert [row["images"] for row in csv.DictReader(file)] == ["60", "60"]


def test_shares_cover_a_batch_once_and_differ_by_one_at_most() -> None:
    for size in (1, 2, 3, 8):
        for n in (1, 2, 7, 16, 33):
            shares = [World(rank, size).share(n) for rank in range(size)]
            covered = [row for share in shares for row in range(n)[share]]
            assert covered == list(range(n))
            lengths = [share.stop - share.start for share in shares]
            assert max(lengths) - min(lengths) <= 1


def test_without_torchrun_there_is_one_process_and_norms_stay_as_they_are() -> None:
    layers = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with joined({}, "cpu") as world:
        assert world is ALONE
        share_norms(layers, world)
    assert type(layers[1]) is nn.BatchNorm1d


def test_a_gpu_by_number_is_refused_for_several_processes() -> None:
    with (
        pytest.raises(ConfigError, match=r"--device is 'cuda:1'.*expected auto, cpu or cuda"),
        joined({"WORLD_SIZE": "2", "RANK": "0"}, "cuda:1"),
    ):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that the test wants missing")
def test_more_processes_than_gpus_are_refused_with_both_numbers() -> None:
    with (
        pytest.raises(ConfigError, match=r"process 1 of this machine finds 0 CUDA devices.*--device cpu"),
        joined({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}, "cuda"),
    ):
        pass
