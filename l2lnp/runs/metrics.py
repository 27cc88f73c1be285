"""``metrics.jsonl``: one line of JSON for each logged step, readable while the run goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from l2lnp.errors import InputError
from l2lnp.files import cannot, read_file, replace_file


class Line(NamedTuple):
    """What was measured at one step.

    ``step`` counts the updates made so far; ``train_loss`` is the mini-batch loss before
    the last of them (None: not finite), ``test_error`` the share of test pictures
    classified wrongly after it (None: not measured at this step).
    """

    step: int
    train_loss: float | None
    test_error: float | None
    elapsed_s: float

    def to_json(self) -> str:
        """Return the line as it stands in the file, without its end."""
        finite = self.train_loss is not None and math.isfinite(self.train_loss)
        values = {**self._asdict(), "train_loss": self.train_loss if finite else None}
        return json.dumps({**values, "elapsed_s": round(self.elapsed_s, 3)})


def append_line(path: Path, line: Line) -> None:
    """Add ``line`` to ``metrics.jsonl``; it is with the system, and so safe from a kill, at once."""
    try:
        with open(path, "ab") as file:
            file.write(line.to_json().encode() + b"\n")
    except OSError as error:
        raise cannot("write", path, error) from error


def read_metrics(path: Path) -> list[Line]:
    """Return the lines of ``metrics.jsonl``; a damaged last line, left by a kill, is passed over.

    Raises
    ------
    InputError
        If another line is damaged, or the file cannot be read.
    """
    texts = read_file(path).split(b"\n")
    lines: list[Line] = []
    for number, text in enumerate(texts[:-1], start=1):
        try:
            lines.append(_parse(text))
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            if number < len(texts) - 1:
                raise InputError(f"{path}: line {number} is damaged") from None
    return lines


def write_metrics(path: Path, lines: Iterable[Line]) -> None:
    """Write ``lines`` to ``metrics.jsonl`` in place of those that stood there."""
    replace_file(path, "".join(line.to_json() + "\n" for line in lines).encode())


def losses(lines: Iterable[Line]) -> tuple[list[int], list[float]]:
    """Return the steps with a finite training loss, and the losses."""
    pairs = [
        (x.step, x.train_loss) for x in lines if x.train_loss is not None and math.isfinite(x.train_loss)
    ]
    return [step for step, _ in pairs], [loss for _, loss in pairs]


def test_errors(lines: Iterable[Line]) -> tuple[list[int], list[float]]:
    """Return the steps at which the test error was measured, and the errors."""
    pairs = [(line.step, line.test_error) for line in lines if line.test_error is not None]
    return [step for step, _ in pairs], [error for _, error in pairs]


def _parse(text: bytes) -> Line:
    values = json.loads(text)
    line = Line(*(values[name] for name in Line._fields))
    measured = [value for value in (line.train_loss, line.test_error) if value is not None]
    for value in (line.step, line.elapsed_s, *measured):
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"{value} is no finite number")
    least, error = min(line.step, line.elapsed_s), line.test_error or 0
    if type(line.step) is not int or least < 0 or not 0 <= error <= 1:
        raise ValueError("a number is out of its range")
    return line
