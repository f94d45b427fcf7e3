"""`api` runs a test blocking, on asyncio and on trio, as in tests/client; its clients can `run` and `run_stream`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

import llamaroute as lr
from tests.client.api import Api, SyncClient, SyncStream
from tests.client.conftest import _no_proxy, _quick_collection, emu, pytest_pyfunc_call

__all__ = ["_no_proxy", "_quick_collection", "api", "emu", "pytest_pyfunc_call"]


class RunClient(SyncClient):
    async def run(self, *args: Any, **options: Any) -> lr.RunResult[Any]:
        return self.inner.run(*args, **options)

    def run_stream(self, *args: Any, **options: Any) -> SyncStream:
        return SyncStream(self.inner.run_stream(*args, **options))


class RunApi(Api):
    def client(self, config: Any, **options: Any) -> Any:
        options.setdefault("env", {})
        options.setdefault("transport", self.engine)
        return lr.AsyncClient(config, **options) if self.is_async else RunClient(config, **options)


@pytest.fixture(params=["sync", "asyncio", "trio"])
def api(request: pytest.FixtureRequest, _quick_collection: None) -> Iterator[Api]:
    yield RunApi(request.param)
    gc.collect()
