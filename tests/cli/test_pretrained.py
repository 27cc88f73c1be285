"""The command that ``l2lnp pretrained`` prints makes the file again."""

import shlex
from dataclasses import fields, replace

import pytest

from l2lnp.cli import meta_train
from l2lnp.cli.pretrained import WITHOUT_LIMIT, _command, _set_afterwards
from l2lnp.cli.settings_options import OF_BASIS
from l2lnp.meta.settings import MetaSettings
from l2lnp.pretrained import load_learned_optimizer, pretrained_names, save_learned_optimizer
from l2lnp.runs.resolving import own_settings


@pytest.fixture
def former(tmp_path, monkeypatch):
    """What bundled files began with: with other settings, all of which the command names."""
    monkeypatch.chdir(tmp_path)
    for folder, names in {"first": ("slstm-coordinates",), "second": ("slstm", "lstm")}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            learned = load_learned_optimizer(name)
            other = {**learned.settings, "decay": 0.5, "unit_limit": 7.0, "full_width": 5}
            save_learned_optimizer(tmp_path / folder / f"{name}.h5", replace(learned, settings=other))


def settings_of_command(words):
    """Return the settings that ``l2lnp meta-train`` makes of the words after it."""
    context = meta_train.command.make_context("meta-train", words)
    known = {field.name for field in fields(MetaSettings)} | {"optimizer_setting", *OF_BASIS}
    with context:
        return meta_train._settings({key: value for key, value in context.params.items() if key in known})


@pytest.mark.parametrize("name", pretrained_names())
def test_its_settings_are_those_that_the_file_was_made_with(name, former):
    learned = load_learned_optimizer(name)
    program, command, *words = shlex.split(_command(learned))
    assert (program, command) == ("l2lnp", "meta-train")
    made = settings_of_command(words)
    as_made = {key: value for key, value in learned.settings.items() if key not in _set_afterwards(learned)}
    expected = own_settings(learned.name, {**WITHOUT_LIMIT, **as_made})
    assert own_settings(made.optimizer, made.optimizer_settings) == expected
    said = next(line for line in learned.provenance.splitlines() if line.startswith("MetaSettings("))
    then = eval(said, {"MetaSettings": MetaSettings})
    assert replace(made, optimizer_settings={}) == replace(then, optimizer_settings={})
