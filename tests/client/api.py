"""One interface over `Client` and `AsyncClient`, so that one body of tests runs on both.

A test is an async function. On `sync` nothing ever suspends: the coroutine is driven by hand, without an event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Self

import llamaroute as lr

ASYNC = ("asyncio", "asyncio-aiohttp", "trio")
FLAVOURS = ("sync", *ASYNC)
"""Clients a test runs on. Those of asyncio and trio have the httpx engine; `asyncio-aiohttp` has the other one."""


class SyncStream:
    """A blocking stream, or a blocking run of tools, with an async face."""

    def __init__(self, stream: Any) -> None:
        self.inner = stream

    async def __aenter__(self) -> Self:
        self.inner.__enter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        self.inner.__exit__(*exc)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self.inner)
        except StopIteration:
            raise StopAsyncIteration from None

    async def text(self) -> AsyncIterator[str]:
        for piece in self.inner.text():
            yield piece

    async def interrupt(self) -> Any:
        return self.inner.interrupt()

    @property
    def response(self) -> lr.ChatResponse[Any]:
        return self.inner.response

    @property
    def result(self) -> lr.RunResult[Any]:
        return self.inner.result

    @property
    def partial(self) -> Any:
        return self.inner.partial


class SyncClient:
    """A blocking client with an async face."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.inner = lr.Client(*args, **options)

    async def chat(self, *args: Any, **options: Any) -> lr.ChatResponse[Any]:
        return self.inner.chat(*args, **options)

    def stream(self, *args: Any, **options: Any) -> SyncStream:
        return SyncStream(self.inner.stream(*args, **options))

    async def count_tokens(self, *args: Any, **options: Any) -> lr.TokenCount:
        return self.inner.count_tokens(*args, **options)

    async def aclose(self) -> None:
        self.inner.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Api:
    """What a test is given: `api.client(config)` makes a client of the flavour under test."""

    def __init__(self, flavour: str) -> None:
        self.flavour, _, engine = flavour.partition("-")
        self.engine = engine or "httpx"
        if engine:
            import llamaroute.transport.aiohttp  # noqa: F401  (it takes longer than some tests' calls may)
        self.is_async = flavour != "sync"

    def client(self, config: Any, **options: Any) -> Any:
        options.setdefault("env", {})
        options.setdefault("transport", self.engine)
        return lr.AsyncClient(config, **options) if self.is_async else SyncClient(config, **options)

    def run(self, test: Coroutine[Any, Any, Any]) -> Any:
        """Run a test to its end."""
        match self.flavour:
            case "asyncio":
                return asyncio.run(test)
            case "trio":
                import trio

                async def main() -> Any:
                    return await test

                return trio.run(main)
        try:
            test.send(None)
        except StopIteration as stop:
            return stop.value
        test.close()
        raise AssertionError("a blocking client suspended")


def box(url: str, **more: Any) -> dict[str, Any]:
    """A configuration with one OpenAI-compatible account called `box`."""
    table = {"kind": "openai-compatible", "base_url": url, "model": "llama-4-scout", **more}
    return {"providers": {"box": table}}


def boxes(*urls: str, **route: Any) -> dict[str, Any]:
    """A configuration with a route over accounts `a`, `b`, ... each asked once."""
    names = "abcdefgh"[: len(urls)]
    providers = {
        name: {"kind": "openai-compatible", "base_url": url, "model": "llama-4-scout", "retry": 1}
        for name, url in zip(names, urls, strict=True)
    }
    return {"default": "chat", "providers": providers, "routes": {"chat": {"targets": list(names), **route}}}
