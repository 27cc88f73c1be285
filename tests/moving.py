"""Trees of arrays, moved to another library and compared."""

import numpy as np

from l2lnp.backend import array_module, to_backend, to_host


def moved(xp, tree):
    """Return ``tree`` (tuples, lists, dictionaries) with its NumPy arrays moved to ``xp``."""
    if isinstance(tree, np.ndarray):
        return to_backend(xp, tree)
    if isinstance(tree, dict):
        return {key: moved(xp, value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [moved(xp, value) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def assert_same(ours, expected, xp, **tolerances):
    """Compare a tree on ``xp`` with one of NumPy arrays; arrays must have stayed where they belong."""
    if isinstance(expected, dict):
        assert set(ours) == set(expected)
        for key, value in expected.items():
            assert_same(ours[key], value, xp, **tolerances)
    elif isinstance(expected, tuple | list):
        for left, right in zip(ours, expected, strict=True):
            assert_same(left, right, xp, **tolerances)
    elif isinstance(expected, np.ndarray | np.generic):
        assert array_module(ours) is xp
        assert ours.dtype == expected.dtype
        np.testing.assert_allclose(to_host(ours), expected, **tolerances)
    elif expected is None:
        assert ours is None
    else:
        assert type(ours) in (int, float)
        np.testing.assert_allclose(ours, expected, **tolerances)
