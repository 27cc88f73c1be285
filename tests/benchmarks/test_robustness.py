"""The page on robustness is what its numbers say, and its settings are those that are drawn."""

import csv
import re
import runpy
from pathlib import Path

import pytest

from l2lnp.networks import NetworkFile

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "results" / "robustness"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "tests" / "benchmarks" / "robustness.py"))


@pytest.fixture(scope="module")
def rows():
    with (FOLDER / "settings.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_committed_page_and_figure_can_be_made_again(script, rows, tmp_path):
    text = (FOLDER / "robustness.md").read_text()
    command = re.search(r"```sh\n(.*)\n```", text)[1]
    assert script["page"](rows, command) == text
    script["draw_figure"](rows, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size


def test_its_settings_are_drawn_again(script, rows):
    for index, row in enumerate(rows):
        setting = script["draw"](index)
        assert (row["network"], int(row["batch_size"])) == (setting.description, setting.batch_size)
        assert float(row["input_scale"]) == pytest.approx(setting.input_scale, abs=6e-4)
        assert NetworkFile("drawn", setting.network).build((1, 28, 28), 10).output_shape == (10,)
