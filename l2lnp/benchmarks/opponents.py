"""The opponents: the jobs in other frameworks, found in ``tests/benchmarks/opponents`` of a checkout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import l2lnp
from l2lnp.benchmarks.jobs import Contender, Job
from l2lnp.errors import InputError, unknown_name

OPPONENTS = {"torch": "pytorch", "torch-compile": "compiled", "backpack": "backpack", "jax": "jax_jit"}
ON_A_GPU = {"torch": "pytorch_cuda", "torch-compile": "compiled_cuda", "jax": "jax_cuda"}
_PACKAGE = "l2lnp_opponents"


def check_names(against: Sequence[str], on_gpu: bool = False) -> None:
    """Raise `InputError` for an unknown opponent, or where there is no checkout."""
    known = ON_A_GPU if on_gpu else OPPONENTS
    for name in against:
        if name not in known:
            raise unknown_name("opponent on a GPU" if on_gpu else "opponent", name, known)
    if against and not _folder().is_dir():
        raise InputError("the opponents are part of the source repository: run --against from a checkout")


def opponents_of(job: Job, name: str, on_gpu: bool = False) -> list[Contender]:
    """Return the ways in which the opponent called ``name`` does ``job``.

    Raises
    ------
    InputError
        If the framework is not installed, or sees no GPU where it is to run on one.
    """
    check_names([name], on_gpu)
    if _PACKAGE not in sys.modules:
        folder = _folder()
        spec = spec_from_file_location(
            _PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        package = module_from_spec(spec)
        sys.modules[_PACKAGE] = package
        spec.loader.exec_module(package)
    try:
        module = import_module(f"{_PACKAGE}.{(ON_A_GPU if on_gpu else OPPONENTS)[name]}")
    except ModuleNotFoundError as error:
        raise InputError(
            f"the opponent {name} needs {error.name}: install the extra 'peers' of l2lnp"
        ) from None
    contenders: list[Contender] = module.contenders(job)
    return contenders


def _folder() -> Path:
    return Path(l2lnp.__file__).parents[1] / "tests" / "benchmarks" / "opponents"
