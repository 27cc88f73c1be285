"""The code of docs/tutorials/your_own_loss.md runs as it stands, and trains what it says."""

import re
from pathlib import Path

import numpy as np
import pytest

from l2lnp.checking import second_slope, slope

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "your_own_loss.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def run(blocks, capsys):
    """Return the names that the blocks define, and the losses that they print, by their text."""
    names = {"__name__": "tutorial"}
    exec(compile("\n".join(blocks), PAGE.name, "exec"), names)
    lines = (line.rsplit(": ", 1) for line in capsys.readouterr().out.splitlines())
    return names, {text: float(loss) for text, loss in lines}


def test_a_function_written_by_hand(capsys):
    names, losses = run(BLOCKS[:2], capsys)
    assert losses["Adam"] < 1e-5
    assert losses["SLSTM, step 1000"] < 1e-3 < losses["SLSTM, step 1"]

    valley, rng = names["Rosenbrock"](5), np.random.default_rng(0)
    theta, d = rng.normal(size=(2, 5))
    _, g, h = valley.evaluate(theta, None, True)

    def f(v):
        return valley.evaluate(v, None, False)[0]

    np.testing.assert_allclose(g @ d, slope(f, theta, d), rtol=1e-6, atol=1e-7)
    for i, unit in enumerate(np.eye(5)):
        np.testing.assert_allclose(h[i], second_slope(f, theta, unit), rtol=1e-5, atol=1e-5)


def test_a_function_from_pytorch(capsys):
    pytest.importorskip("torch", reason="PyTorch is not installed: it is no dependency of l2lnp")
    _, losses = run([BLOCKS[0], BLOCKS[2]], capsys)
    assert losses["PyTorch's network"] < 0.05
