"""Help, version and completion: complete, true to the library, and quick."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from l2lnp.backend import BACKENDS
from l2lnp.cli import COMMANDS, commands
from l2lnp.curvature import MODES
from l2lnp.data.loading import NAMES
from l2lnp.networks import NETWORKS
from l2lnp.optimizers import OPTIMIZERS
from l2lnp.runs.resolving import DTYPES, JOINT_DEFAULTS, PRACTISED_JOINT_DEFAULTS
from l2lnp.runs.settings import TrainSettings, check_given, option

from .command_line import l2lnp, start


def help_of(capsys, command):
    ended = l2lnp(capsys, command, "--help")
    assert ended.code == 0
    return " ".join(ended.out.split()).replace("- ", "-")


def test_the_help_lists_the_commands(capsys):
    ended = l2lnp(capsys, "--help")
    assert ended.code == 0
    assert all(command in ended.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_help(capsys, command):
    text = help_of(capsys, command)
    assert f"Usage: l2lnp {command}" in text
    assert "-h, --help" in text


def test_the_help_of_train_has_every_setting_with_its_default_and_all_names(capsys):
    text = help_of(capsys, "train")
    for name in vars(TrainSettings()):
        if name not in ("micro_batch", "lanes", "chunk"):  # stored with a run, not asked for
            assert option(name).removesuffix("s") in text
    for names in (NAMES, NETWORKS, OPTIMIZERS, MODES, BACKENDS, DTYPES):
        assert all(name in text for name in names)
    by_beginning = [
        f"{PRACTISED_JOINT_DEFAULTS[name]:g} for pretrained optimizers, else {JOINT_DEFAULTS[name]:g}"
        for name in ("unroll_length_steps", "meta_learning_rate")
    ]
    clip_norm = f"{JOINT_DEFAULTS['clip_norm']:g}"
    for default in (
        "digits",
        "small",
        "slstm",
        "hesscale",
        "600",
        "128",
        "float32",
        clip_norm,
        *by_beginning,
    ):
        assert f"[default: {default}]" in " ".join(text.split())
    assert text.count("[default: frozen; joint if") == 1


def test_the_version_is_that_of_the_package(capsys):
    from importlib.metadata import version

    assert l2lnp(capsys, "--version").out == f"l2lnp, version {version('l2lnp')}\n"


def test_no_arguments_show_the_help(capsys):
    ended = l2lnp(capsys)
    assert ended.code == 2
    assert "Usage: l2lnp" in ended.err


def test_module_and_script_are_the_same():
    process = start("--help")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Usage: l2lnp [OPTIONS]" in out


def test_help_loads_none_of_the_heavy_libraries():
    code = (
        "import sys; from l2lnp.cli import commands\n"
        "commands.main(['--help'], standalone_mode=False)\n"
        "heavy = ('numpy', 'h5py', 'rich', 'matplotlib', 'pooch', 'PIL')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.endswith("[]\n")


def test_training_loads_no_library_that_it_does_not_use(tmp_path):
    code = (
        "import sys; from l2lnp.cli import commands\n"
        "commands.main(['train', '--steps', '1', '--out', 'run'], standalone_mode=False)\n"
        "print([name for name in ('rich', 'pooch') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path
    )
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("l2lnp tr", {"train", "transfer"}),
        ("l2lnp train --opt", {"--optimizer", "--optimizer-setting"}),
        ("l2lnp train --optimizer s", {"sgd", "soap", "sou", "slstm"}),
        ("l2lnp train --curvature ex", {"exact", "exact_head"}),
        ("l2lnp gradcheck --layer co", {"conv"}),
    ],
)
def test_shell_completion(words, expected):
    environment = {
        "_L2LNP_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from l2lnp.cli import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = [line.split(",") for line in done.stdout.split()]
    assert {text for kind, text in found if kind == "plain"} == expected


def test_the_examples_in_the_docs_are_commands():
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    blocks = "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))
    examples = [shlex.split(line, comments=True) for line in blocks.splitlines() if line.startswith("l2lnp ")]
    assert len(examples) >= 10
    for _, name, *arguments in examples:
        command = commands.get_command(None, name)
        context = command.make_context(name, arguments)
        given = {key: value for key, value in context.params.items() if key in vars(TrainSettings())}
        check_given({key: value for key, value in given.items() if key != "optimizer_settings"})


def test_every_option_in_the_docs_exists():
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    every = [commands.get_command(None, name) for name in COMMANDS]
    every += [sub for group in every for sub in getattr(group, "commands", {}).values()]
    known = {spelling for one in every for p in one.params for spelling in (*p.opts, *p.secondary_opts)}
    asked = set(re.findall(r"`(--[a-z-]+)", page)) - {"--help", "--version"}
    assert len(asked) > 20
    assert asked <= known
