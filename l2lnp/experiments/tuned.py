"""``tuned.json``: the best settings found for hand-designed optimizers, and what they were found for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

from l2lnp.errors import InputError
from l2lnp.experiments.contenders import find_baseline
from l2lnp.files import read_text, replace_file
from l2lnp.lock import locked

FORMAT = 1


@dataclass(frozen=True)
class Tuned:
    """The answer to one question: what is best over the first n steps.

    Parameters
    ----------
    settings
        The tuned ones: learning_rate, and epsilon of sou.
    loss
        Mean training loss over the steps and seeds.
    tried
        All points of the search with their losses (None: diverged).
    """

    settings: Mapping[str, float]
    loss: float
    seeds: tuple[int, ...]
    tried: tuple[Mapping[str, float | None], ...]

    def __post_init__(self) -> None:
        """Raise `InputError` where a number is impossible, as in a file that was edited."""
        numbers: dict[str, Any] = {"learning_rate": None, **self.settings, "loss": self.loss}
        for name, value in numbers.items():
            if type(value) not in (int, float) or not 0 < value < inf:
                raise InputError(f"a tuned {name} cannot be {value!r}")
        if not all(type(seed) is int for seed in self.seeds):
            raise InputError(f"the seeds of a tuning cannot be {list(self.seeds)!r}")

    def given(self) -> dict[str, Any]:
        """Return the settings as a run takes them."""
        own = {name: value for name, value in self.settings.items() if name != "learning_rate"}
        return {"learning_rate": self.settings["learning_rate"], "optimizer_settings": own}


class TunedFile:
    """The file ``path``; questions are dictionaries of what the answer depends on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, question: Mapping[str, Any]) -> Tuned | None:
        """Return the answer to ``question``, or None."""
        for asked, answer in self._entries():
            if asked == question:
                wanted = find_baseline(question["contender"]).start
                if answer.settings.keys() != wanted.keys():
                    raise InputError(
                        f"{self.path} is damaged: of {question['contender']} {', '.join(wanted)} "
                        f"should be tuned, not {', '.join(answer.settings)}"
                    )
                return answer
        return None

    def add(self, question: Mapping[str, Any], answer: Tuned) -> None:
        """Store the answer in place of an older one; other processes wait, and lose none of theirs."""
        with locked(self.path.with_name(f".{self.path.name}.lock"), lambda: None):
            others = [entry for entry in self._entries() if entry[0] != question]
            entries = [
                {"question": asked, "answer": asdict(found)}
                for asked, found in (*others, (dict(question), answer))
            ]
            text = json.dumps({"format": FORMAT, "entries": entries}, indent=1)
            replace_file(self.path, text.encode() + b"\n")

    def _entries(self) -> list[tuple[dict[str, Any], Tuned]]:
        if not self.path.exists():
            return []
        text = read_text(self.path)
        try:
            content = json.loads(text)
            if content["format"] == FORMAT:
                return [(dict(entry["question"]), _tuned(entry["answer"])) for entry in content["entries"]]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(f"{self.path} is damaged, or no file of tuned settings ({error})") from None
        raise InputError(f"{self.path} is from another version of l2lnp: give another --tuned")


def _tuned(answer: Mapping[str, Any]) -> Tuned:
    return Tuned(answer["settings"], answer["loss"], tuple(answer["seeds"]), tuple(answer["tried"]))
