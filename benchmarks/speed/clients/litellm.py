"""litellm's functions, as for a server that speaks OpenAI's API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import litellm

from .common import KEY, SETTINGS, messages

litellm.telemetry = False
litellm.suppress_debug_info = True


class _Face:
    def __init__(self, base: str) -> None:
        model = f"openai/{SETTINGS['model']}"
        self.options: dict[str, Any] = {**SETTINGS, "model": model, "api_base": f"{base}/v1", "api_key": KEY}


class Sync(_Face):
    def call(self, prompt: str, image: str | None = None) -> str:
        answer = litellm.completion(messages=messages(prompt, image), **self.options)
        return str(answer.choices[0].message.content)

    def stream(self, prompt: str) -> Iterator[str]:
        for chunk in litellm.completion(messages=messages(prompt), stream=True, **self.options):
            yield chunk.choices[0].delta.content or ""


class Async(_Face):
    async def call(self, prompt: str, image: str | None = None) -> str:
        answer = await litellm.acompletion(messages=messages(prompt, image), **self.options)
        return str(answer.choices[0].message.content)

    async def stream(self, prompt: str) -> AsyncIterator[str]:
        async for chunk in await litellm.acompletion(messages=messages(prompt), stream=True, **self.options):
            yield chunk.choices[0].delta.content or ""

    async def aclose(self) -> None:
        pass  # its clients are the process's
