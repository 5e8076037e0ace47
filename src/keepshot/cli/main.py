"""The command line: parse, one public call, print."""

import os
import sys
import traceback
from typing import Annotated

import typer
from rich.console import Console

from keepshot import __version__
from keepshot.cli.commands import data_app, mini_app, register
from keepshot.cli.patterns import patterns_app
from keepshot.cli.theory import theory_app
from keepshot.errors import KeepshotError

app = typer.Typer(
    name="keepshot",
    no_args_is_help=False,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Fine-tune a language model for your task, keep its few-shot ability, and prove it.\n\nExample: keepshot demo",
)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """Fine-tune a language model for your task, keep its few-shot ability, and prove it."""
    if version:
        typer.echo(__version__)


_GROUPS = {"data": data_app, "mini": mini_app, "patterns": patterns_app, "theory": theory_app}
for _name, _group in _GROUPS.items():
    app.add_typer(_group, name=_name)
register(app)


def main() -> None:
    """Run the command line; exit status 0 ok, 1 any error, 2 gate failed, 3 insufficient evidence."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    sys.exit(run(arguments, debug=debug))


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command line and return its exit status.

    Args:
        arguments: Without the program's name.
        debug: Show the traceback of an error.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # A thread that waits must not spin: where other programs run, spinning halves the speed (measured with `eval mini`
    # beside two busy processes on two cores: 29 s, and 14 s without). Read when torch is loaded, which comes later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    console = Console(stderr=True, highlight=False)
    if not arguments or arguments in [[name] for name in _GROUPS]:  # a name alone asks what there is
        arguments = [*arguments, "--help"]
    try:
        status = app(arguments, standalone_mode=False, prog_name="keepshot")
    except (typer.Abort, KeyboardInterrupt):
        status = 130
    except KeepshotError as error:
        return _fail(console, str(error), debug)
    except Exception as error:
        # Click's own errors (unknown option, missing argument) carry format_message; anything else is our bug.
        if hasattr(error, "format_message"):
            return _fail(console, f"{error.format_message()} (see --help)", debug)
        if debug:
            raise
        return _fail(console, f"unexpected {type(error).__name__}: {error} (--debug shows where)", debug)
    if status == 130:  # how click says that the user pressed Ctrl-C
        console.print(
            "stopped; what is finished is kept: the same command, with --resume where it has that, goes on from there",
            markup=False,
        )
    return status if isinstance(status, int) else 0


def _fail(console: Console, message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    console.print(f"error: {' '.join(message.split())}", markup=False, soft_wrap=True)
    return 1
