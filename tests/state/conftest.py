"""A Redis server for tests. scripts/test sees to it that Debian's is there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..servers.redis_server import RedisServer


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running
