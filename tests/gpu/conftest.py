"""The GPU that the checks run on.

They need numpy, scipy, h5py, click, threadpoolctl, pytest and CuPy, and the digits that come with the
package. With ``L2LNP_GPU_STAND_IN=1`` they run over the stand-in for CuPy: that checks the checks.
"""

import os
import sys

import pytest


@pytest.fixture
def gpu(monkeypatch, request):
    """CuPy on a machine with a GPU; elsewhere the test is skipped."""
    if os.environ.get("L2LNP_GPU_STAND_IN") == "1":
        from stand_in.module import make

        monkeypatch.setitem(sys.modules, "cupy", make())
        return sys.modules["cupy"]
    from l2lnp.backend import load_backend
    from l2lnp.errors import InputError

    try:
        cupy = load_backend("cupy")
    except InputError as error:
        pytest.skip(str(error))
    request.node.user_properties.append(("gpu", True))
    return cupy
