"""A process of its own for each number of threads: ``python -m l2lnp.benchmarks.worker REQUEST RESULT``.

The request is JSON: the name of a function of `l2lnp.benchmarks.measuring` and its
arguments. Libraries fix their pools when they are loaded, so threads and cores are set before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from l2lnp.errors import InputError

_POOLS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_BAD_INPUT = 2


def ask(function: str, threads: int, **arguments: Any) -> dict[str, Any]:
    """Call a function of `measuring` in a fresh process with ``threads`` cores and return its result."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        request = json.dumps({"function": function, "threads": threads, **arguments})
        command = [sys.executable, "-W", "ignore", "-m", "l2lnp.benchmarks.worker", request, str(result)]
        environment = os.environ | dict.fromkeys(_POOLS, str(threads))
        ended = subprocess.run(command, env=environment, check=False)
        answer: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {}
    if ended.returncode == _BAD_INPUT and "message" in answer:
        raise InputError(answer["message"])
    if ended.returncode:
        raise InputError(f"the benchmark process ended with code {ended.returncode}; its error stands above")
    return answer


def main(request: str, result: str) -> int:
    """Do what is asked and write the answer, or the message of an `InputError`."""
    arguments = json.loads(request)
    _pin(arguments["threads"])
    from l2lnp.benchmarks import measuring

    function = getattr(measuring, arguments.pop("function"))
    if function is measuring.measure_jobs:
        arguments["say"] = lambda text: print(f"  {text}", file=sys.stderr, flush=True)
    try:
        answer, code = function(**arguments), 0
    except InputError as error:
        answer, code = {"message": str(error)}, _BAD_INPUT
    Path(result).write_text(json.dumps(answer))
    return code


def _pin(threads: int) -> None:
    """Keep this process on its first cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:threads])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
