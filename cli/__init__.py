"""The command line: one command per file.

Bad input ends with one sentence on the error stream and exit code 2, an interruption
(after saving) with 130. A command's libraries are loaded when it runs, so that help
and shell completion are quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from l2lnp.errors import DivergedError, InputError, unknown_name

BAD_INPUT, FAILURE, INTERRUPTED = 2, 1, 130

COMMANDS = (
    "train",
    "evaluate",
    "predict",
    "export",
    "data",
    "gradcheck",
    "meta-train",
    "tune",
    "compare",
    "transfer",
    "ablate",
    "pretrained",
    "bench",
)

ELSEWHERE = {  # what other tools call our options
    "--lr": "--learning-rate",
    "--wd": "--weight-decay",
    "--batch": "--batch-size",
    "--model": "--network",
    "--dataset": "--data",
    "--device": "--backend",
    "--output": "--out",
}


class Commands(click.Group):
    """The commands, each loaded from ``l2lnp.cli.<name>`` when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the command called ``name``; the error names the nearest one."""
        if name not in COMMANDS:
            raise unknown_name("command", name, COMMANDS)
        command: click.Command = import_module(f"l2lnp.cli.{name.replace('-', '_')}").command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="l2lnp", prog_name="l2lnp")
def commands() -> None:
    """Train networks by an LSTM that reads gradients and second derivatives."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``l2lnp`` with ``arguments`` (those of the process if None) and exit."""
    if sys.stdout is None:  # closed by whoever started the process
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")  # so that no file takes its number
    try:
        _check_text(sys.argv[1:] if arguments is None else arguments)
        code = commands.main(arguments, prog_name="l2lnp", standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        code = _say(str(error), BAD_INPUT)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = BAD_INPUT
    except click.UsageError as error:
        if isinstance(error, click.NoSuchOption):
            error = _by_our_name(error)
        way_out = f"; see '{error.ctx.command_path} --help'" if error.ctx else ""
        code = _say(error.format_message().rstrip(".") + way_out, BAD_INPUT)
    except click.ClickException as error:
        code = _say(error.format_message(), BAD_INPUT)
    except DivergedError as error:
        code = _say(str(error), FAILURE)
    except MemoryError as error:
        code = _say_memory(error)
    except (KeyboardInterrupt, click.Abort):
        code = _say("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of the output has gone, as `head` does
        code = FAILURE
        _drop_output()
    except OSError as error:  # of the output itself; files that cannot be written are bad input
        code = _say(f"cannot write the output: {error.strerror or error}", FAILURE)
        _drop_output()
    sys.exit(code or 0)


def _by_our_name(error: click.NoSuchOption) -> click.NoSuchOption:
    """Return the error with our name of what another tool calls so, if the command has that option."""
    ours = ELSEWHERE.get(error.option_name)
    if ours is None or error.ctx is None or all(ours not in p.opts for p in error.ctx.command.params):
        return error
    name = error.option_name
    return click.NoSuchOption(name, f"No such option {name!r}: it is called {ours} here", ctx=error.ctx)


def _check_text(arguments: Sequence[str]) -> None:
    """Raise `InputError` unless all is UTF-8: names stand in files that are, and are shown."""
    for text in arguments:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(f"{text!r} is not in UTF-8: rename the file or folder") from None


def _drop_output() -> None:
    """Send what is left of the output nowhere, so that Python does not fail on it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_memory(error: MemoryError) -> int:
    if type(error).__module__.partition(".")[0] != "cupy":
        return _say(f"not enough memory: {error}", FAILURE)
    reason = "; ".join([str(error).rstrip("."), *getattr(error, "__notes__", ())])
    return _say(
        f"not enough GPU memory: {reason[:1].lower()}{reason[1:]}; lower --batch-size, or what is "
        "kept of a learned optimizer's steps (--unroll-length, --truncation), or use --backend numpy",
        BAD_INPUT,
    )


def _say(message: str, code: int) -> int:
    sentence = " ".join(message.split())
    click.echo(f"l2lnp: {sentence}", err=True)
    return code
