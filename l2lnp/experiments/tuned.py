"""``tuned.json``: the best settings found for hand-designed optimizers, and what they were found for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from l2lnp.errors import InputError
from l2lnp.files import cannot, read_text, replace_file

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
        for entry in self._entries():
            if entry["question"] == question:
                answer = entry["answer"]
                return Tuned(
                    answer["settings"], answer["loss"], tuple(answer["seeds"]), tuple(answer["tried"])
                )
        return None

    def add(self, question: Mapping[str, Any], answer: Tuned) -> None:
        """Store the answer in place of an older one."""
        others = [entry for entry in self._entries() if entry["question"] != question]
        entries = [*others, {"question": dict(question), "answer": asdict(answer)}]
        text = json.dumps({"format": FORMAT, "entries": entries}, indent=1)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot("make the folder", self.path.parent, error) from error
        replace_file(self.path, text.encode() + b"\n")

    def _entries(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        try:
            content = json.loads(read_text(self.path))
            if content["format"] != FORMAT:
                raise InputError(f"{self.path} is from another version of l2lnp: give another --tuned")
            return [entry for entry in content["entries"] if entry["question"] and entry["answer"]]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.path} is damaged, or no file of tuned settings ({error})") from None
