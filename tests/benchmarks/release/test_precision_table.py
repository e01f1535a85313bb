"""The page of precisions, from figures made up for the purpose."""

from __future__ import annotations

from benchmarks.release.precision_table import markdown


def test_a_line_an_engine_and_what_was_refused() -> None:
    row = {
        "precision": "fp16",
        "engine": "openvino",
        "megabytes": 1.234,
        "flips": 3,
        "beyond": 0,
        "max_error": 0.00123,
        "mean_error": 0.0001,
        "rank": 0.99999,
        "auroc": [0.9, 0.8995],
        "passed": True,
        "time": 0.5,
    }
    run = {
        "name": "hog on shirts",
        "network": "hog",
        "prior": "full_normal",
        "parameters": 1234567,
        "n_frames": 2000,
        "milliseconds": 0.7,
        "refused": {"int8": "AUROC shifts"},
        "rows": [row],
    }
    lines = list(markdown({"command": "python it.py", "cpu": "CPU", "threads": 1, "runs": [run]}))
    assert "| fp16 | openvino | 1.23 | 3 (0) | 1.2e-03 | 1.0e-04 | 0.99999 | -0.0005 | passed | 0.50 |" in lines
    assert "int8 was refused: AUROC shifts" in lines
    assert "Network hog, prior full_normal, 1,234,567 parameters, 2000 frames." in lines
