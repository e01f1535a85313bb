"""The tables of real-sets.md, from results made up for the purpose."""

from __future__ import annotations

from typing import Any

from benchmarks.industrial.real_sets_report import markdown
from benchmarks.peers.methods import GAUSSIAN


def _result(name: str, variant: str, auroc: float | None, seed: int = 0, **named: Any) -> dict[str, Any]:
    key = {"seed": seed, "share": 0.0, "reserved": 0.0, "arguments": [], "source": "abc", **named.pop("key", {})}
    return {
        "set": name,
        "variant": variant,
        "key": key,
        "auroc": auroc,
        "failures": [],
        "cpu": "some CPU",
        "threads": 2,
        "n_train": 10,
        "n_mixed_in": 0,
        "n_good": 4,
        "n_tested_defects": 6,
        **named,
    }


def _lines(*found: dict[str, Any]) -> list[str]:
    return list(markdown(found, primary="features", missing={}, command="python"))


def _row(lines: list[str], beginning: str) -> str:
    (line,) = [line for line in lines if line.startswith(beginning)]
    return line


def test_aims_are_met_by_the_mean_as_it_is_printed() -> None:
    lines = _lines(_result("mvtec-pill", "features", 0.9696), _result("mvtec-pill", GAUSSIAN, 0.975))
    assert _row(lines, "| mvtec-pill | reported").endswith("| 0.97 | 0.970 | 0.975 | yes |")
    lines = _lines(_result("mvtec-pill", "features", 0.9694), _result("mvtec-pill", GAUSSIAN, 0.99))
    assert _row(lines, "| mvtec-pill | reported").endswith(f"| no: aim by 0.001, {GAUSSIAN} by 0.011 |")


def test_a_turned_set_is_held_to_the_upright_one() -> None:
    upright = _result("aliens", "features", 0.99)
    lines = _lines(upright, _result("turned-aliens", "features", 0.95))
    assert _row(lines, "| turned-aliens | dev").endswith("| aliens - 0.02 | 0.950 | no: upright by 0.020 |")
    assert _row(_lines(_result("deep-pcb", "features", 0.5)), "| deep-pcb | dev").endswith("| - | 0.500 | - |")


def test_rows_say_how_many_seeds_and_exports_did_not_fail() -> None:
    failed = _result("aliens", "features", None, 2, exported=False, failures=[{"step": "export", "line": "a|b"}])
    done = [_result("aliens", "features", value, seed, exported=True) for seed, value in enumerate((0.9, 1.0))]
    lines = _lines(*done, failed)
    row = _row(lines, "| aliens | features | 3 |")
    assert "| 10 / 4 / 6 | 0.950 ± 0.071 (2 of 3) |" in row
    assert row.endswith("| 2 of 3 |")
    assert "| aliens | features | 2 | 0 % | export | a\\|b |" in lines


def test_the_table_of_peers_says_who_wins_as_printed() -> None:
    lines = _lines(
        _result("aliens", "features", 0.9804),
        _result("aliens", GAUSSIAN, 0.9796),
        _result("aliens", "PatchCore", 0.9),
        _result("kolektor", "features", 0.8),
        _result("kolektor", GAUSSIAN, 0.85),
        _result("kolektor", "PatchCore", None, failures=[{"step": "start", "line": "no weights"}]),
    )
    assert f"| set | use | features | {GAUSSIAN} | PatchCore | features against the best other |" in lines
    assert "| aliens | development | **0.980** | **0.980** | 0.900 | +0.000 |" in lines
    assert "| kolektor | reported once | 0.800 | **0.850** | failed | -0.050 |" in lines
    assert "| mean of the 1 sets with all figures | | 0.980 | 0.980 | 0.900 | |" in lines
    assert "| sets won, alone or with others | | 1 | 2 | 0 | |" in lines
    assert "| set | use | aim | features | per-site Gaussian | features: aims met |" in lines
    assert "## Beside other methods" not in _lines(_result("aliens", "features", 0.9), _result("aliens", GAUSSIAN, 0.8))


def test_contaminated_cells_stand_apart_by_share() -> None:
    of_share = [
        _result(
            "aliens",
            "features",
            0.9 - share,
            key={"share": share, "reserved": 0.2},
            n_mixed_in=n,
            mixed_in_rejected=n // 2,
        )
        for share, n in ((0.0, 0), (0.2, 8))
    ]
    lines = _lines(_result("aliens", "features", 0.95), *of_share)
    assert "| set | variant | seeds | 0 % | 20 % |" in lines
    assert "| aliens | features | 1 | 0.900 | 0.700 (4 of 8) |" in lines
    assert "| aliens | development | 0.99 | 0.950 | no: aim by 0.040 |" in lines


def test_sources_of_a_variant_are_named() -> None:
    lines = _lines(
        *(_result("aliens", "features", 0.9, seed, key={"source": source}) for seed, source in enumerate("ab"))
    )
    assert "| features | - | a, b |" in lines
