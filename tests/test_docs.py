"""The tutorials run as they stand, and links between pages lead somewhere."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from l2lnp.data import load_dataset

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_tutorial_on_layers_runs(capsys):
    page = (ROOT / "docs" / "tutorials" / "your_own_layer.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    exec(compile("\n".join(blocks), "your_own_layer.md", "exec"), {"__name__": "tutorial"})
    assert "curvature" in capsys.readouterr().out


def test_a_data_set_is_made_of_arrays_as_the_page_says(tmp_path):
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "data.md").read_text(), re.DOTALL)
    subprocess.run([sys.executable, "-"], input=script, text=True, cwd=tmp_path, check=True, timeout=60)
    dataset = load_dataset(str(tmp_path / "mine.h5"))
    assert [dataset.split(s).n_samples for s in ("train", "validation", "test")] == [450, 50, 100]
    assert list(dataset.class_names) == ["cat", "dog"]


def test_the_picture_of_the_curvature_basis_can_be_drawn_again(tmp_path):
    script = runpy.run_path(str(ROOT / "docs" / "images" / "curvature_basis.py"))
    before, after = script["draw"](tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert (before, after) == pytest.approx((0.32, 0.19), abs=0.02)  # as the committed one says


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_citation_names_the_version_of_the_package():
    citation = (ROOT / "CITATION.cff").read_text()
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"\nversion: {package['version']}\n" in citation
    assert f"\nlicense: {package['license']}\n" in citation
