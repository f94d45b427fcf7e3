"""The tree of commands. Importing it imports typer and the commands' signatures, nothing they work with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from .chat import chat
from .config import check, init, schema
from .doctor import doctor
from .emulate import emulate
from .explain import explain
from .failures import DONE, guarded, outcome
from .local import list_models, pull
from .models import models
from .output import prepare_streams, unwritable, write

__all__ = ["app", "run"]


def _group(help: str, epilog: str | None = None) -> typer.Typer:
    return typer.Typer(
        help=help,
        epilog=epilog,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,  # boxes wrap messages at the terminal's width, and make every command start later
        pretty_exceptions_enable=False,  # tracebacks with local variables would show secrets
    )


app = _group(
    "One API for Meta's Llama 4 on every host.",
    "Exit codes: 0 done, 1 the provider failed, 2 bad usage or configuration, 3 policy, 130 Ctrl-C.",
)
config_app = _group("The config file: check it, write one, describe it.")
local_app = _group("Models that run in this process.")

app.command()(guarded(chat))
app.command()(guarded(explain))
app.command()(guarded(models))
app.command()(guarded(doctor))
app.add_typer(local_app, name="local")
local_app.command()(guarded(pull))
local_app.command("list")(guarded(list_models))
app.add_typer(config_app, name="config")
config_app.command()(guarded(check))
config_app.command()(guarded(schema))
config_app.command()(guarded(init))
app.command()(guarded(emulate))


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        write(f"llamaroute {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """One API for Meta's Llama 4 on every host."""


def run(argv: Sequence[str]) -> int:
    """Run the command that `argv` names, and return its exit code."""
    prepare_streams()
    command = typer.main.get_command(app)

    def typed() -> int:
        try:
            command.main(args=list(argv), prog_name="llamaroute")
        except SystemExit as done:
            return done.code if isinstance(done.code, int) else int(done.code is not None)
        except OSError as error:  # commands answer for their own: this one is of printing help
            raise unwritable(error) from None
        return DONE

    return outcome(typed)
