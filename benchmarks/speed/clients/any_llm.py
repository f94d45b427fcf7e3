"""any-llm with its OpenAI provider. Sync and async have a client each: its sync calls run a loop of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from any_llm import AnyLLM

from .common import KEY, SETTINGS, messages


class Sync:
    def __init__(self, base: str) -> None:
        self.client = AnyLLM.create("openai", api_key=KEY, api_base=f"{base}/v1")

    def call(self, prompt: str, image: str | None = None) -> str:
        answer = self.client.completion(messages=messages(prompt, image), **SETTINGS)
        return str(answer.choices[0].message.content)

    def stream(self, prompt: str) -> Iterator[str]:
        for chunk in self.client.completion(messages=messages(prompt), stream=True, **SETTINGS):
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""


class Async:
    def __init__(self, base: str) -> None:
        self.client = AnyLLM.create("openai", api_key=KEY, api_base=f"{base}/v1")

    async def call(self, prompt: str, image: str | None = None) -> str:
        answer = await self.client.acompletion(messages=messages(prompt, image), **SETTINGS)
        return str(answer.choices[0].message.content)

    async def stream(self, prompt: str) -> AsyncIterator[str]:
        async for chunk in await self.client.acompletion(messages=messages(prompt), stream=True, **SETTINGS):
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""

    async def aclose(self) -> None:
        pass  # it has nothing to close
