"""OpenAI's own SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import openai

from .common import KEY, SETTINGS, messages


class Sync:
    def __init__(self, base: str) -> None:
        self.client = openai.OpenAI(base_url=f"{base}/v1", api_key=KEY)

    def call(self, prompt: str, image: str | None = None) -> str:
        answer = self.client.chat.completions.create(messages=messages(prompt, image), **SETTINGS)
        return answer.choices[0].message.content or ""

    def stream(self, prompt: str) -> Iterator[str]:
        for chunk in self.client.chat.completions.create(messages=messages(prompt), stream=True, **SETTINGS):
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""


class Async:
    def __init__(self, base: str) -> None:
        self.client = openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=KEY)

    async def call(self, prompt: str, image: str | None = None) -> str:
        answer = await self.client.chat.completions.create(messages=messages(prompt, image), **SETTINGS)
        return answer.choices[0].message.content or ""

    async def stream(self, prompt: str) -> AsyncIterator[str]:
        async for chunk in await self.client.chat.completions.create(
            messages=messages(prompt), stream=True, **SETTINGS
        ):
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""

    async def aclose(self) -> None:
        await self.client.close()
