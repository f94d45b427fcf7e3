"""`api` runs a test blocking, on asyncio and on trio, as in tests/client; its clients can `run` and `run_stream`."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import pytest

import llamaroute as lr
from tests.client.api import Api, SyncClient
from tests.client.conftest import _no_proxy, _quick_collection, emu, pytest_pyfunc_call

__all__ = ["_no_proxy", "_quick_collection", "api", "emu", "pytest_pyfunc_call"]


class SyncRunStream:
    """A blocking run with an async face."""

    def __init__(self, stream: lr.RunStream) -> None:
        self.inner = stream

    async def __aenter__(self) -> Self:
        self.inner.__enter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        self.inner.__exit__(*exc)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> lr.RunEvent:
        try:
            return next(self.inner)
        except StopIteration:
            raise StopAsyncIteration from None

    async def text(self) -> AsyncIterator[str]:
        for piece in self.inner.text():
            yield piece

    async def interrupt(self) -> lr.RunResult[Any]:
        return self.inner.interrupt()

    @property
    def result(self) -> lr.RunResult[Any]:
        return self.inner.result

    @property
    def partial(self) -> Any:
        return self.inner.partial


class RunClient(SyncClient):
    async def run(self, *args: Any, **options: Any) -> lr.RunResult[Any]:
        return self.inner.run(*args, **options)

    def run_stream(self, *args: Any, **options: Any) -> SyncRunStream:
        return SyncRunStream(self.inner.run_stream(*args, **options))


class RunApi(Api):
    def client(self, config: Any, **options: Any) -> Any:
        options.setdefault("env", {})
        return lr.AsyncClient(config, **options) if self.is_async else RunClient(config, **options)


@pytest.fixture(params=["sync", "asyncio", "trio"])
def api(request: pytest.FixtureRequest, _quick_collection: None) -> Iterator[Api]:
    yield RunApi(request.param)
    gc.collect()
