"""What a run was computed with, for ``environment.json``."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from threadpoolctl import threadpool_info

from l2lnp.execution import available_cores
from l2lnp.kernels import numba_version
from l2lnp.runs.settings import TrainSettings
from l2lnp.version import VERSION, commit


def describe_environment(settings: TrainSettings, step: int) -> dict[str, Any]:
    """Return versions, machine and threads of a session that begins at ``step``."""
    return {
        "step": step,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "l2lnp": VERSION,
        "commit": commit(),
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "scipy": metadata.version("scipy"),
        "h5py": metadata.version("h5py"),
        "numba": numba_version(),
        "cupy": _cupy_version(),
        "backend": settings.backend,
        "device": _device(settings.backend),
        "blas": [
            f"{pool['internal_api']} {pool['version']}"
            for pool in threadpool_info()
            if "blas" in pool["user_api"]
        ],
        "threads": settings.threads,
        "cores": available_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
    }


def _cupy_version() -> str | None:
    cupy = sys.modules.get("cupy")
    return None if cupy is None else str(cupy.__version__)


def _device(backend: str) -> str:
    if backend == "cupy":
        cupy = sys.modules["cupy"]
        return str(cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode())
    return platform.processor() or platform.machine()
