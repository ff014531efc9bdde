"""How every command line of ours runs: its help, its errors and its exit status."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError
from rich.console import Console

from clustrix_prefect.display.sending import send_silently
from clustrix_prefect.errors import ClustrixError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

# What a shell says of a program whose reader has left, as it does of one that Ctrl-C has ended.
_NOBODY_READS = 141
_INTERRUPTED = 130
_OF_FLOWS = (
    "Exit status: 0 if all is well; 1 if it is not, or something went wrong; 2 if the command line"
    " is wrong; 130 after Ctrl-C."
)


def new_app(name: str, about: str | None, exit_statuses: str) -> App:
    """Return a command line without commands, for `run`.

    Args:
        name: The program.
        about: What it does; by default what its default command says of itself.
        exit_statuses: What its exit statuses mean.
    """
    is_terminal = sys.stdout.isatty()
    return App(
        name=name,
        help=about,
        help_epilogue=exit_statuses,
        help_format="plaintext",
        # Boxes and colours are for a terminal.
        help_formatter="default" if is_terminal else "plain",
        console=Console(soft_wrap=not is_terminal),
        version_flags=(),
        # `run` says what is wrong, and returns.
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative=(), show_default=False),
    )


def run(commands: App, arguments: Sequence[str]) -> int:
    """Run a command line; the process's exit status.

    Args:
        commands: One that `new_app` made.
        arguments: What follows the program's name.
    """
    words = list(arguments)
    send_silently()
    try:
        status: int | None = _run(commands, words)
        sys.stdout.flush()
    except CycloptsError as error:
        named = " ".join([*commands.name, *commands.parse_commands(words)[0]])
        _say(commands, f"{_wrong(error)}\n`{named} --help` says what there is.")
        return 2
    except ClustrixError as error:
        _say(commands, str(error))
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Python would flush once more when it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOBODY_READS
    except Exception as error:
        _say(commands, _unforeseen(error))
        return 1
    return status or 0


def run_flow(main: Callable[..., State[Any] | None]) -> NoReturn:
    """Run what a flow's script does when it is started, and end the process.

    Args:
        main: Takes what the command line may say, and returns the flow run's state, if it has
            waited for one.
    """
    commands = new_app(Path(sys.argv[0]).name, None, _OF_FLOWS)

    @commands.default
    @functools.wraps(main)
    def status(*arguments: Any, **named: Any) -> int:
        state = main(*arguments, **named)
        if state is None:
            return 0
        print(state.message)
        return 0 if state.is_completed() else 1

    sys.exit(run(commands, sys.argv[1:]))


def _run(commands: App, words: list[str]) -> int | None:
    _, chosen, rest = commands.parse_commands(words)
    if chosen[-1].default_command is None and not rest:
        names = ", ".join(sorted(name for name in chosen[-1] if not name.startswith("-")))
        raise CycloptsError(msg=f"Say which command: {names}.")
    status: int | None = commands(words)
    return status


def _say(commands: App, text: str) -> None:
    print(f"{commands.name[0]}: {text}", file=sys.stderr)


def _wrong(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError):
        return f"It takes no {' '.join(error.unused_tokens or ())}."
    return " ".join(str(error).split())


def _unforeseen(error: Exception) -> str:
    """Return what is said of an exception that is none of ours, such as one of Prefect's."""
    from clustrix_prefect.display import api_server

    if logging.getLogger("prefect").isEnabledFor(logging.DEBUG):
        raise error
    if remedy := api_server.remedy(error):
        return remedy
    return (
        f"{type(error).__name__}: {' '.join(str(error).split())}\n"
        "PREFECT_LOGGING_LEVEL=DEBUG shows where it comes from."
    )
