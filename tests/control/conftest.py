"""`discover`, asked by both clients: the same answer is a part of what is tested."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator

Discover = Callable[..., lr.Discovery]


def one(found: lr.Discovery) -> lr.DiscoveryProblem:
    """The only problem there is."""
    assert len(found.problems) == 1, found.problems
    return found.problems[0]


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """No proxy, and none of the variables or files that credentials are read from."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("HF_", "AWS_", "GOOGLE_", "AZURE_", "DATABRICKS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LLAMAROUTE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def discover() -> Discover:
    """Ask both clients what the one account of `tables` can call, and give what both say."""

    def ask(tables: dict[str, Any], *, env: dict[str, str] | None = None, **options: Any) -> lr.Discovery:
        (name,) = tables
        with lr.Client({"providers": tables}, env=env) as client:
            said = client.discover(name, **options)

        async def same() -> lr.Discovery:
            async with lr.AsyncClient({"providers": tables}, env=env) as client:
                return await client.discover(name, **options)

        other = asyncio.run(same())
        assert (other.found, other.answered) == (said.found, said.answered)
        # Engines word a refused connection in their own ways.
        assert [problem.code for problem in other.problems] == [problem.code for problem in said.problems]
        return said

    return ask
