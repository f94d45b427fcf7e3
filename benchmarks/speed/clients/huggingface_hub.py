"""Hugging Face's inference client, at an address of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from huggingface_hub import AsyncInferenceClient, InferenceClient

from .common import KEY, MAX_TOKENS, TEMPERATURE, messages

_OPTIONS: dict[str, Any] = {"max_tokens": MAX_TOKENS, "temperature": TEMPERATURE}


class Sync:
    def __init__(self, base: str) -> None:
        self.client = InferenceClient(base_url=f"{base}/v1", api_key=KEY)

    def call(self, prompt: str, image: str | None = None) -> str:
        return self.client.chat_completion(messages(prompt, image), **_OPTIONS).choices[0].message.content or ""

    def stream(self, prompt: str) -> Iterator[str]:
        for chunk in self.client.chat_completion(messages(prompt), stream=True, **_OPTIONS):
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""


class Async:
    def __init__(self, base: str) -> None:
        self.client = AsyncInferenceClient(base_url=f"{base}/v1", api_key=KEY)

    async def call(self, prompt: str, image: str | None = None) -> str:
        answer = await self.client.chat_completion(messages(prompt, image), **_OPTIONS)
        return answer.choices[0].message.content or ""

    async def stream(self, prompt: str) -> AsyncIterator[str]:
        async for chunk in await self.client.chat_completion(messages(prompt), stream=True, **_OPTIONS):
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""

    async def aclose(self) -> None:
        await self.client.close()
