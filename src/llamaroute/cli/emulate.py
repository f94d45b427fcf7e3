"""`llamaroute emulate`: a local server that speaks the hosts' wire formats."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError, InputError
from .failures import DONE
from .output import note, write
from .toml_text import toml_table, toml_value

if TYPE_CHECKING:
    from ..emulator import Emulator

__all__ = ["emulate"]


def emulate(
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="What answers: a GGUF file, the URL of an OpenAI-compatible server, or a pulled model's name.",
        ),
    ] = None,
    mmproj: Annotated[str | None, typer.Option("--mmproj", metavar="FILE", help="Vision tower of the GGUF.")] = None,
    reply: Annotated[
        list[str] | None, typer.Option("--reply", metavar="TEXT", help="Answer, in order, each once; repeatable.")
    ] = None,
    quirk: Annotated[
        list[str] | None, typer.Option("--quirk", metavar="NAME", help="A host's departure to switch on; repeatable.")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the config file for --port, and do not start.")
    ] = False,
) -> int:
    """Serve the wire formats of the hosts on this machine, until Ctrl-C. No account needed.

    What is printed is a config file for it. Without --reply and --model, answers are echoes.
    """
    from ..emulator import Emulator

    if print_config and not port:
        raise InputError("--print-config needs --port: a free port is only known once the emulator runs")
    source = None if print_config else _model(model, mmproj)
    try:
        emulator = Emulator(reply or (), model=source, host=host, port=port, quirks=quirk or ())
    except ValueError as error:
        raise InputError(str(error)) from None
    if print_config:
        write(_config(emulator))
        return DONE
    _start(emulator, model)
    try:
        write(_config(emulator))
        note("", f"emulator at {emulator.url}; Ctrl-C ends it")
        while True:
            time.sleep(3600)
    finally:
        emulator.stop()


def _model(model: str | None, mmproj: str | None) -> Any:
    """What `Emulator(model=...)` takes."""
    if model is None or model.startswith(("http://", "https://")):
        if mmproj is not None:
            raise InputError("--mmproj goes with a --model that is a GGUF file")
        return model
    from ..local_models import find

    path = find(model, key="--model")
    return str(path) if mmproj is None else {"path": str(path), "mmproj": str(find(mmproj, key="--mmproj"))}


def _start(emulator: Emulator, model: str | None) -> None:
    try:
        emulator.start()
    except ModuleNotFoundError:
        raise ConfigError("--model: a GGUF file needs the engine: pip install 'llamaroute[local]'") from None
    except RuntimeError as error:
        raise InputError(f"--model: the engine cannot load {model}: {error}") from None
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot listen there: {reason or error}") from None


def _config(emulator: Emulator) -> str:
    """A config file with every host that a kind of provider can talk to."""
    from ..emulator import HOSTS

    names = [name for name, host in HOSTS.items() if host.kind]
    lines = [f"# llamaroute emulator at {emulator.url}", "version = 1", f"default = {toml_value(names[0])}"]
    for name, table in emulator.providers(*names).items():
        lines += ["", *toml_table(("providers", name), table)]
    return "\n".join(lines) + "\n"
