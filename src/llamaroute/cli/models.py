"""`llamaroute models`: what the catalogue knows, and what the configured accounts can call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .failures import DONE, FAILED
from .output import note, table, write

if TYPE_CHECKING:
    from ..catalog import Fact
    from ..client import AsyncClient
    from ..types.capability import ModelRow
    from ..types.discovery import Discovered, Discovery

__all__ = ["models"]

_CALLABLE = {True: "yes", False: "no", None: "not known"}
_LETTERS = {"native": "N", "emulate": "E", "refuse": "R"}


def models(
    provider: Annotated[
        str | None,
        typer.Option("--provider", metavar="NAME", help="Only this kind of provider; with --live, only this account."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Ask the configured accounts' hosts what can be called.")
    ] = False,
    config: Annotated[
        str | None, typer.Option("--config", "-c", metavar="FILE", help="Config file for --live. Default: as found.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", metavar="NAME", help="Profile of the config file.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Seconds for each host, with --live.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, with the source of every fact.")] = False,
) -> int:
    """List models: what the catalogue knows of each host, or with --live what your accounts can call."""
    if live:
        return _live(provider, config, profile, timeout, as_json)
    if config is not None or profile is not None or timeout is not None:
        raise InputError("--config, --profile and --timeout go with --live: the catalogue is the same for everybody")
    return _catalogue(provider, as_json)


# -- the catalogue ----------------------------------------------------------------------------------------------------


def _catalogue(provider: str | None, as_json: bool) -> int:
    from .. import catalog
    from ..registry import builtin_specs

    kinds = [spec.name for spec in builtin_specs()]
    if provider is not None and provider not in kinds:
        raise InputError(f"no kind of provider is called {provider!r} (known: {', '.join(kinds)})")
    chosen = [provider] if provider is not None else kinds
    rows = [(kind, row, catalog.facts(kind, row.model)) for kind in chosen for row in catalog.rows(kind)]
    if as_json:
        _write_json([_entry(*row) for row in rows])
        return DONE
    if rows:
        write(table([_HEADS, *(_cells(*row) for row in rows)]))
        from ..types.capability import FEATURES

        note("", f"features: {', '.join(FEATURES)}; N native, E made up by llamaroute, R refused")
        note("", "ends: from that day it is not served there; with a ?, somebody claims so")
        note("", "prices: US dollars per million tokens; evidence: facts recorded / documented / inferred")
    if bare := [kind for kind in chosen if not catalog.rows(kind)]:
        note("", f"not in the catalogue, since they serve what you give them: {', '.join(bare)}")
    return DONE


_HEADS = ("MODEL", "PROVIDER", "ID", "CONTEXT", "OUTPUT", "IN", "OUT", "ENDS", "FEATURES", "EVIDENCE")


def _cells(kind: str, row: ModelRow, facts: Mapping[str, Fact]) -> Sequence[str]:
    from ..types.capability import FEATURES

    letters = "".join(_LETTERS[row.features[name]] for name in FEATURES)
    counts = Counter(fact.evidence for fact in facts.values())
    evidence = f"{counts['recorded']} / {counts['documented']} / {counts['inferred']}"
    numbers = (row.context_window, row.max_output, row.input_price, row.output_price)
    end = "-" if row.end_of_life is None else f"{row.end_of_life.day}{'' if row.end_of_life.sure else '?'}"
    return (row.model, kind, row.model_id, *("-" if n is None else str(n) for n in numbers), end, letters, evidence)


def _entry(kind: str, row: ModelRow, facts: Mapping[str, Fact]) -> dict[str, Any]:
    return {
        "model": row.model,
        "provider": kind,
        "id": row.model_id,
        "context_window": row.context_window,
        "max_output": row.max_output,
        "input_price": row.input_price,
        "output_price": row.output_price,
        "end_of_life": None if row.end_of_life is None else asdict(row.end_of_life),
        "features": row.features,
        "facts": {name: asdict(fact) for name, fact in facts.items()},
    }


# -- the accounts -----------------------------------------------------------------------------------------------------


def _live(provider: str | None, config: str | None, profile: str | None, timeout: float | None, as_json: bool) -> int:
    import asyncio

    from ..client import AsyncClient

    client = AsyncClient(config, profile=profile)
    names = list(client.config.providers) if provider is None else [provider]
    results = asyncio.run(_ask(client, names, timeout))
    if as_json:
        _write_json([asdict(result) for result in results])
    else:
        _show(client, results)
    for result in results:
        for problem in result.problems:
            note("warning" if result.answered else "error", f"{result.provider}: {problem}")
    return DONE if any(result.answered for result in results) else FAILED


async def _ask(client: AsyncClient, names: Sequence[str], timeout: float | None) -> list[Discovery]:
    import asyncio

    async with client:
        return await asyncio.gather(*(client.discover(name, timeout=timeout) for name in names))


def _show(client: AsyncClient, results: Sequence[Discovery]) -> None:
    lines = [_line(found) for result in results for found in result.found]
    if lines:
        write(table([("PROVIDER", "MODEL", "ID", "WHAT", "REGION", "CALLABLE", "STATUS", "NOTE"), *lines]))


def _line(found: Discovered) -> Sequence[str]:
    model, region = found.model or "-", found.region or "-"
    can = _CALLABLE[found.callable]
    return (found.provider, model, found.id, found.what, region, can, found.status or "-", found.note)


def _write_json(value: Any) -> None:
    from pydantic_core import to_json

    write(to_json(value, indent=2).decode() + "\n")
