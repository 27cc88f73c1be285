"""The product with the adjoint of patches, cut into a few channels at a time."""

import numpy as np
import pytest

from l2lnp.kernels import windows
from l2lnp.layers.window import Window
from l2lnp.workspace import Workspace


@pytest.mark.parametrize("channels_at_a_time", [0.5, 1, 2, 3, 7])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_few_channels_at_a_time(monkeypatch, channels_at_a_time, padding):
    window, k, o, n = Window((3, 2), (1, 2), padding), 7, 4, 5
    r, c = window.output((6, 8))
    monkeypatch.setattr(windows, "_CACHED", int(channels_at_a_time * 6 * r * c * n))
    rng = np.random.default_rng(0)
    w, v_y = rng.normal(size=(o, k * 6)), rng.normal(size=(o, r * c * n))
    shape = (k, 3, 2, r, c, n)
    image = windows.unpatch_product(w, v_y, shape, (6, 8), window, Workspace(), "image")
    monkeypatch.undo()
    whole = windows.unpatch_product(w, v_y, shape, (6, 8), window, Workspace(), "image")
    np.testing.assert_allclose(image, whole, rtol=1e-12, atol=1e-12)
