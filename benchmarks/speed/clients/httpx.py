"""httpx alone, with the code one would write by hand: a client that is kept, `json=`, lines of SSE, `json.loads`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import httpx

from .common import KEY, body, delta, text

_OPTIONS = {
    "headers": {"authorization": f"Bearer {KEY}"},
    "timeout": 60.0,
    # As many connections as there are calls, as all others have it here; the default is 100.
    "limits": httpx.Limits(max_connections=None, max_keepalive_connections=None),
}


def _text(line: str) -> str | None:
    """The text in one line of SSE, if it has any."""
    if line.startswith("data: ") and line != "data: [DONE]":
        return delta(json.loads(line[6:]))
    return None


class Sync:
    def __init__(self, base: str) -> None:
        self.url = f"{base}/v1/chat/completions"
        self.client = httpx.Client(**_OPTIONS)  # type: ignore[arg-type]

    def call(self, prompt: str, image: str | None = None) -> str:
        response = self.client.post(self.url, json=body(prompt, image))
        response.raise_for_status()
        return text(response.json())

    def stream(self, prompt: str) -> Iterator[str]:
        with self.client.stream("POST", self.url, json=body(prompt, stream=True)) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                found = _text(line)
                if found is not None:
                    yield found


class Async:
    def __init__(self, base: str) -> None:
        self.url = f"{base}/v1/chat/completions"
        self.client = httpx.AsyncClient(**_OPTIONS)  # type: ignore[arg-type]

    async def call(self, prompt: str, image: str | None = None) -> str:
        response = await self.client.post(self.url, json=body(prompt, image))
        response.raise_for_status()
        return text(response.json())

    async def stream(self, prompt: str) -> AsyncIterator[str]:
        async with self.client.stream("POST", self.url, json=body(prompt, stream=True)) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                found = _text(line)
                if found is not None:
                    yield found

    async def aclose(self) -> None:
        await self.client.aclose()
