"""A tiny Llama 4 with a vision tower runs in this process: real engine, real wire shapes, answers of no meaning."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaroute.local_models import cached
from llamaroute.providers.local import LocalSettings
from llamaroute.transport.local import LocalEngine, LocalTransport


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    """The folder of tiny-llama-4.gguf and mmproj-tiny-llama-4.gguf."""
    default = Path(__file__).parents[2] / "examples" / "tiny_llama_4"
    return Path(os.environ.get("LLAMAROUTE_TINY_MODEL") or default)


@pytest.fixture(scope="session")
def settings(tiny_folder: Path) -> Callable[..., LocalSettings]:
    """Settings of the tiny model; `vision=False` leaves the vision tower out."""

    def make(*, vision: bool = True, **more: Any) -> LocalSettings:
        if vision:
            more["mmproj"] = str(tiny_folder / "mmproj-tiny-llama-4.gguf")
        return LocalSettings(kind="local", **{"model": str(tiny_folder / "tiny-llama-4.gguf"), "threads": 1, **more})

    return make


@pytest.fixture(scope="module")
def transport(settings: Callable[..., LocalSettings]) -> Iterator[LocalTransport]:
    """One engine for a module's tests, with one slot."""
    options = settings()
    transport = LocalTransport(options, account="local", engine=LocalEngine(options, account="local"))
    yield transport
    transport.close()


@pytest.fixture
def smollm2() -> LocalSettings:
    if cached("smollm2") is None:
        pytest.skip("SmolLM2 is not in the cache: llamaroute local pull smollm2")
    return LocalSettings(kind="local", threads=1)
