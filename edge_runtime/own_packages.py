"""edge-aae's packages under their own names, though a user's folder has a train.py or an export.py.

`python -m` and torchrun put the working folder before everything else, and PYTHONPATH may do so for the command: a
module of the user's would come in the place of ours. A process that is ours takes its own packages first; one that is
the user's (a script that imports edge_aae) is told which file is in the way.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from edge_runtime.errors import ConfigError

__all__ = ["PACKAGES", "claim"]

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("edge_runtime", "train", "export")
PACKAGES = ("edge_aae", *NAMES)
"""What logs as edge-aae."""


def claim() -> None:
    """Import those of our packages that are installed by where they lie, so that their names are ours from here on.

    A device may have edge_runtime alone.

    Raises ConfigError where another module has one of the names already.
    """
    for name in NAMES:
        file = ROOT / name / "__init__.py"
        if not file.exists():
            continue
        loaded = sys.modules.get(name)
        if loaded is not None:
            found = Path(getattr(loaded, "__file__", None) or "a module without a file")
            if found.resolve() != file:
                raise ConfigError(
                    f"{found} hides edge-aae's own package {name!r}: rename it, or start from another folder"
                )
            continue
        spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)])
        assert spec is not None, "the file is part of this package's distribution"
        assert spec.loader is not None, "likewise"
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
