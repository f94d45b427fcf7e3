"""llamaroute as its users have it: the whole public API, with retry, deadline and ledger as they are by default."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import llamaroute as lr

from ..answers import MODEL
from .common import KEY, MAX_TOKENS, TEMPERATURE

_OPTIONS: Any = {"max_tokens": MAX_TOKENS, "temperature": TEMPERATURE}


def _config(base: str) -> dict[str, Any]:
    table = {"kind": "openai-compatible", "base_url": f"{base}/v1", "api_key": KEY, "model": MODEL}
    return {"providers": {"canned": table}}


def _input(prompt: str, image: lr.Image | None) -> Any:
    return prompt if image is None else [prompt, image]


def wind_speed(place: str) -> str:
    """How fast the wind blows.

    Args:
        place: name of a town
    """
    return f"12 knots in {place}"


class _Images:
    @staticmethod
    def image(png: bytes) -> lr.Image:
        # "high": such an image is more than is sent by default, and is not to be reduced here.
        return lr.Image(png, detail="high")

    new_image = image


class Sync(_Images):
    def __init__(self, base: str) -> None:
        self.client = lr.Client(_config(base))

    def call(self, prompt: str, image: lr.Image | None = None) -> str:
        return self.client.chat(_input(prompt, image), **_OPTIONS).text

    def stream(self, prompt: str) -> Iterator[str]:
        with self.client.stream(prompt, **_OPTIONS) as stream:
            yield from stream.text()

    def tools(self, prompt: str) -> str:
        return self.client.run(prompt, tools=[wind_speed], **_OPTIONS).text


class Async(_Images):
    def __init__(self, base: str) -> None:
        self.client = lr.AsyncClient(_config(base))

    async def call(self, prompt: str, image: lr.Image | None = None) -> str:
        return (await self.client.chat(_input(prompt, image), **_OPTIONS)).text

    async def stream(self, prompt: str) -> AsyncIterator[str]:
        async with self.client.stream(prompt, **_OPTIONS) as stream:
            async for text in stream.text():
                yield text

    async def tools(self, prompt: str) -> str:
        return (await self.client.run(prompt, tools=[wind_speed], **_OPTIONS)).text

    async def aclose(self) -> None:
        await self.client.aclose()
