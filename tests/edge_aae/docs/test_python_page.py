"""The Python that README and docs show runs, block after block, as a user would paste it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.edge_aae.docs.test_readme import PAGES, ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
WITH_BLOCKS = [page for page in PAGES if BLOCK.search(page.read_text())]


def test_the_pages_that_show_python() -> None:
    assert {page.name for page in WITH_BLOCKS} >= {"README.md", "python.md", "sinks.md"}


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_in_order(page: Path, workplace: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copy(workplace / "model.aae", tmp_path)
    shutil.copy(photos / "test/scratch/0.png", tmp_path / "part.png")
    shutil.copytree(photos / "train", tmp_path / "photos")
    script = tmp_path / "page.py"
    script.write_text("\n".join(BLOCK.findall(page.read_text())))
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if page.name == "python.md":
        assert "red" in done.stdout
        assert done.stdout.rstrip().endswith("True")
        assert (tmp_path / "annotated.png").stat().st_size > 0
