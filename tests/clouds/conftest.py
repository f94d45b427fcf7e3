"""Each test of a cloud runs blocking, on asyncio with both engines and on trio, against an emulator of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llamaroute.emulator import Emulator
from tests.client.api import FLAVOURS, Api


@pytest.fixture(params=FLAVOURS)
def api(request: pytest.FixtureRequest) -> Api:
    return Api(request.param)


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running
