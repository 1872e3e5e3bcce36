"""The site of the documentation, and the notebooks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = ("keywords", "probing")
FETCHED = re.compile(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?https?://[^>]+>")


def test_the_site_builds_and_needs_no_other(root: Path, tmp_path: Path) -> None:
    """Guards against broken links and anchors, an interface that is gone, fonts from elsewhere."""
    subprocess.run(["make", "as-wheel"], cwd=root, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", tmp_path],
        cwd=root,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    pages = {page: page.read_text(encoding="utf-8") for page in tmp_path.rglob("*.html")}
    for page, text in pages.items():
        links = [link for link in FETCHED.findall(text) if 'rel="canonical"' not in link]
        assert not links, f"{page.name}: {links}"
    assert "<math" in pages[tmp_path / "concepts.html"]
    assert 'class="arithmatex"' not in pages[tmp_path / "concepts.html"]
    assert "integrate_and_fire" in pages[tmp_path / "api.html"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebooks_run(name: str, root: Path, tmp_path: Path) -> None:
    """Guards a reader's first steps; figures are not committed, which no result file would hold."""
    book = nbformat.read(root / "examples" / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(book, timeout=300, kernel_name="python3", resources=resources).execute()
    shown = [out for cell in book.cells for out in cell.get("outputs", ())]
    assert any(out.output_type == "display_data" for out in shown)
