from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import pytest
from benchmarks.speed.processes import ROOT
from benchmarks.speed.run import Bench, Pythons, Server


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """Clients in processes of this interpreter, and a server that speaks TLS too."""
    pythons = Pythons(sys.executable, ROOT, ROOT / "src")
    with contextlib.closing(Server(sys.executable, tls=True)) as server, Bench(pythons, server) as made:
        yield made
