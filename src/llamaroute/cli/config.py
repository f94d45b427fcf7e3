"""`llamaroute config`: check a config file, write one to begin with, describe it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, InputError, LlamarouteError
from .failures import DONE, USAGE
from .output import note, write

if TYPE_CHECKING:
    from ..routing.resolve import Account
    from ..runtime import Runtime
    from ..spi import Target

__all__ = ["check", "init", "schema"]


# -- check ------------------------------------------------------------------------------------------------------------


def check(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="The config file. Default: the one that is found.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", metavar="NAME", help="Profile of the config file.")
    ] = None,
) -> int:
    """Check a config file: its keys, its variables and secrets, where each name leads. Sends nothing."""
    from ..runtime import Runtime

    runtime = Runtime(file, profile=profile, env=None, observers=(), layers=())
    chosen = runtime.loaded.profile
    write(f"config: {runtime.loaded.origin}{f' (profile {chosen})' if chosen else ''}\n")
    problems = 0
    for label, lookup in _lookups(runtime):
        try:
            write(f"{label}: ok, {lookup()}\n")
        except LlamarouteError as error:
            problems += 1
            note("error", f"{label}: {error}")
    return USAGE if problems else DONE


def _lookups(runtime: Runtime) -> Iterator[tuple[str, _Lookup]]:
    config = runtime.config
    for account in runtime.accounts.values():
        yield f"provider {account.name}", _Lookup(runtime, account.name, account)
    for name in config.routes:
        yield f"route {name}", _Lookup(runtime, name)
    if config.default is not None:
        yield f"default {config.default}", _Lookup(runtime, None)


class _Lookup:
    """Follows one name of the file to where it leads, and says where that is.

    Raises:
        LlamarouteError: nowhere.
    """

    def __init__(self, runtime: Runtime, name: str | None, account: Account | None = None) -> None:
        self._runtime, self._name, self._account = runtime, name, account

    def __call__(self) -> str:
        if self._account is not None:
            return self._provider(self._account)
        return ", ".join(target.name for target in self._targets())

    def _targets(self) -> list[Target]:
        call = self._runtime.prepare("nothing is sent", {"model": self._name}, output=None, stream=False)
        for notice in call.ledger.notices:
            note("warning", notice.message)
        return [candidate.target for candidate in call.candidates]

    def _provider(self, account: Account) -> str:
        from ..registry import make_auth
        from ..spi import AuthSettings

        make_auth(account.spec, AuthSettings(account.name, account.options, os.environ))
        if account.spec.transport == "local":
            _look_at_model(account)
        try:
            (target,) = self._targets()
        except ConfigError as error:
            if error.key != f"providers.{account.name}.model":
                raise
            return f"no model of its own; calls name {account.name}:<model>"
        as_id = "" if target.model_id == target.model else f" as {target.model_id}"
        return f"{target.model}{as_id}"


def _look_at_model(account: Account) -> None:
    """The files of a model in this process. One that `local pull` can get is no problem of the config file.

    Raises:
        ConfigError: no such file, or no GGUF.
    """
    from importlib.util import find_spec

    from ..local_models import KNOWN, cached, find

    name = account.options.model or account.spec.default_model or ""
    if name in KNOWN and not cached(name):
        note("warning", f"provider {account.name}: {name} is not here yet; `llamaroute local pull {name}` gets it")
    else:
        find(name, key=f"providers.{account.name}.model")
    if mmproj := getattr(account.options, "mmproj", None):
        find(mmproj, key=f"providers.{account.name}.mmproj")
    if find_spec("xllamacpp") is None:
        note("warning", f"provider {account.name}: the engine is not installed; pip install 'llamaroute[local]'")


# -- schema -----------------------------------------------------------------------------------------------------------


def schema(
    response: Annotated[bool, typer.Option("--response", help="The response's schema instead of the file's.")] = False,
) -> int:
    """Print the JSON Schema of the config file, for completion in editors."""
    from ..config.schema import config_schema, render, response_schema

    write(render(response_schema() if response else config_schema()))
    return DONE


# -- init -------------------------------------------------------------------------------------------------------------


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")] = Path("llamaroute.toml"),
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite the file.")] = False,
) -> int:
    """Write a config file to begin with, out of what the environment has. It names variables, never their values."""
    from ..config.files import FILE_NAMES
    from .starter import starter

    if file.suffix.lower() != ".toml":
        raise InputError(f"{file}: what is written is TOML; give the file a name that ends in .toml")
    if file.name in FILE_NAMES:
        # Two of them in one folder are an error for whoever looks for a config file there.
        for other in FILE_NAMES:
            if other != file.name and (file.parent / other).exists():
                raise InputError(f"{file.parent / other} is there already; a folder can have one config file")
    text, active = starter(os.environ)
    try:
        with file.open("w" if force else "x", encoding="utf-8", newline="\n") as out:
            out.write(text)
    except FileExistsError:
        raise InputError(f"{file} is there already; --force overwrites it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a valid path"
        raise InputError(f"cannot write {file}: {reason}") from None
    write(f"{file}: written, with {', '.join(active)}\n")
    note("", f"next: llamaroute config check {file}")
    return DONE
