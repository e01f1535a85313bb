"""What the runtime imports, and when: a device has neither torch nor scikit-learn, and starts fast."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

HEAVY = ("torch", "sklearn", "scipy", "matplotlib", "onnx", "cv2", "onnxruntime")


def run_python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints, started in the repository."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_runtime_imports_nothing_heavy() -> None:
    code = f"import sys, edge_runtime; print([name for name in {HEAVY} if name in sys.modules])"
    assert run_python(code) == "[]"


def test_the_public_names_come_at_first_use() -> None:
    code = (
        "import sys, edge_runtime\n"
        "print('edge_runtime.scoring.detector' in sys.modules)\n"
        "print(edge_runtime.Detector.__name__, edge_runtime.Result.__name__, edge_runtime.Bundle.__name__)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    assert run_python(code).splitlines() == ["False", "Detector Result Bundle", "[]"]


def test_every_module_imports_in_a_bare_environment() -> None:
    code = (
        "import importlib, pkgutil, sys\n"
        f"sys.modules.update(dict.fromkeys({HEAVY}))\n"
        "import edge_runtime\n"
        "names = [module.name for module in pkgutil.walk_packages(edge_runtime.__path__, 'edge_runtime.')]\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
        "print(*names)\n"
    )
    names = run_python(code).split()
    assert {"edge_runtime.model.score", "edge_runtime.scoring.detector", "edge_runtime.live.server"} <= set(names)


def test_scoring_a_frame_needs_opencv_and_onnxruntime_alone(bundle_file: Path) -> None:
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from edge_runtime import Detector\n"
        "result = Detector.load(sys.argv[1], threads=1).score(np.zeros((20, 30, 3), dtype=np.uint8))\n"
        "print(result.is_anomaly)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    assert run_python(code, str(bundle_file)).splitlines() == ["False", "['cv2', 'onnxruntime']"]
