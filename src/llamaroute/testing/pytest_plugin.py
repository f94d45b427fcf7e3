"""The pytest plugin: every test run with llamaroute installed loads this, so it imports nothing but pytest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..emulator import Emulator

__all__ = ["llamaroute_emulator"]


@pytest.fixture
def llamaroute_emulator() -> Iterator[Emulator]:
    """A started `llamaroute.emulator.Emulator`; it ends with the test."""
    from ._emulator import emulator

    with emulator() as running:
        yield running
