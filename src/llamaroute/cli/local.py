"""`llamaroute local`: the files of models that run in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..local_models import DEFAULT_MODEL
from .failures import DONE
from .output import note, size, stderr_is_terminal, table, write

if TYPE_CHECKING:
    from ..local_models import Progress

__all__ = ["list_models", "pull"]

_CACHE = typer.Option("--cache", metavar="DIR", help="Folder of the files. Default: LLAMAROUTE_CACHE, or the user's.")


def pull(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The model; `llamaroute local list` has the names.")
    ] = DEFAULT_MODEL,
    cache: Annotated[Path | None, _CACHE] = None,
) -> int:
    """Get a model's file once, and print its path."""
    from .. import local_models

    with _bar(name) if stderr_is_terminal() else _lines(name) as progress:
        path = local_models.pull(name, cache=cache, progress=progress)
    write(f"{path}\n")
    return DONE


def list_models(cache: Annotated[Path | None, _CACHE] = None) -> int:
    """List the models that can be had: name, size, licence, and where the file is."""
    from ..local_models import KNOWN, cached

    rows = [("NAME", "SIZE", "LICENCE", "FILE")]
    for model in KNOWN.values():
        path = cached(model.name, cache=cache)
        where = str(path) if path else f"not here; llamaroute local pull {model.name}"
        rows.append((model.name, size(model.size), model.licence, where))
    write(table(rows))
    return DONE


@contextmanager
def _bar(name: str) -> Iterator[Progress]:
    """A progress bar on the terminal: bytes, rate, and what is being done."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=None)
        doing = ""

        def report(done: int, total: int | None, what: str) -> None:
            nonlocal doing
            if what != doing:  # each stage counts bytes of its own
                doing = what
                progress.reset(task, total=total, completed=done, description=f"{name}: {what}")
            progress.update(task, completed=done, total=total)

        yield report
    note("", f"{name}: {doing or 'ready'}")


@contextmanager
def _lines(name: str) -> Iterator[Progress]:
    """A line at the beginning and one at the end, for logs."""
    began = False

    def report(done: int, total: int | None, what: str) -> None:
        nonlocal began
        if not began and what != "ready":
            began = True
            note("", f"{name}: {what}{f' ({size(total)})' if total else ''}")

    yield report
    note("", f"{name}: ready" if began else f"{name}: is there already")
