"""azure-ai-inference, with a key. Its async client is made within the loop it works in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from azure.core.credentials import AzureKeyCredential

from .common import KEY, SETTINGS, messages


class Sync:
    def __init__(self, base: str) -> None:
        from azure.ai.inference import ChatCompletionsClient

        self.client = ChatCompletionsClient(f"{base}/v1", AzureKeyCredential(KEY))

    def call(self, prompt: str, image: str | None = None) -> str:
        return str(self.client.complete(messages=messages(prompt, image), **SETTINGS).choices[0].message.content)

    def stream(self, prompt: str) -> Iterator[str]:
        for chunk in self.client.complete(messages=messages(prompt), stream=True, **SETTINGS):
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""


class Async:
    def __init__(self, base: str) -> None:
        from azure.ai.inference.aio import ChatCompletionsClient

        self.make = lambda: ChatCompletionsClient(f"{base}/v1", AzureKeyCredential(KEY))
        self.made: Any = None

    def client(self) -> Any:
        if self.made is None:
            self.made = self.make()
        return self.made

    async def call(self, prompt: str, image: str | None = None) -> str:
        answer = await self.client().complete(messages=messages(prompt, image), **SETTINGS)
        return str(answer.choices[0].message.content)

    async def stream(self, prompt: str) -> AsyncIterator[str]:
        async for chunk in await self.client().complete(messages=messages(prompt), stream=True, **SETTINGS):
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""

    async def aclose(self) -> None:
        if self.made is not None:
            await self.made.close()
