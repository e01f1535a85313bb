"""Frame records of two machines on the same frames: equal decisions, and the largest difference of their scores.

    python docker/compare_records.py here.jsonl aarch64.jsonl --json docs/results/aarch64.json

Exit status 3 where a decision differs, or a score by more than --tolerance of the threshold.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

TOLERANCE = 1e-4
"""Of the threshold: floating-point sums in another order move a score by about 1e-7 of it; frames that were decoded
to other bytes move it by a hundred times this (docs/results/aarch64.md)."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("here", type=Path)
    parser.add_argument("there", type=Path)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    here, there = frames_in(arguments.here), frames_in(arguments.there)
    if len(here) != len(there) or not here:
        print(f"{len(here)} frames here, {len(there)} there; expected as many, and some", file=sys.stderr)
        return 3
    differences = [
        abs(one["score"] - other["score"]) / one["threshold"] for one, other in zip(here, there, strict=True)
    ]
    flips = sum(one["is_anomaly"] != other["is_anomaly"] for one, other in zip(here, there, strict=True))
    criteria = {
        name: max(abs(one["criteria"][name] - other["criteria"][name]) for one, other in zip(here, there, strict=True))
        for name in here[0]["criteria"]
    }
    facts = {
        "here": platform.machine(),
        "model": here[0]["model"],
        "frames": len(here),
        "anomalies": sum(frame["is_anomaly"] for frame in here),
        "decision_flips": flips,
        "largest_score_difference": max(differences),
        "largest_criterion_differences": criteria,
        "tolerance": arguments.tolerance,
    }
    print(json.dumps(facts, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")
    return 0 if flips == 0 and max(differences) <= arguments.tolerance else 3


def frames_in(file: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in file.read_text().splitlines()]
    return [record for record in records if record["type"] == "frame"]


if __name__ == "__main__":
    sys.exit(main())
