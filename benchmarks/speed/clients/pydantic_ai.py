"""pydantic-ai's direct requests, below its agents. Sync ones start an event loop each, so they are left out."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pydantic_ai import ImageUrl
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.messages import (
    ModelRequest,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    UserPromptPart,
)
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from ..answers import MODEL
from .common import KEY, MAX_TOKENS, TEMPERATURE

_SETTINGS = ModelSettings(max_tokens=MAX_TOKENS, temperature=TEMPERATURE)


def _messages(prompt: str, image: str | None = None) -> list[ModelRequest]:
    content = prompt if image is None else [prompt, ImageUrl(url=image)]
    return [ModelRequest(parts=[UserPromptPart(content)])]


class Async:
    def __init__(self, base: str) -> None:
        self.model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=f"{base}/v1", api_key=KEY))

    async def call(self, prompt: str, image: str | None = None) -> str:
        answer = await model_request(self.model, _messages(prompt, image), model_settings=_SETTINGS)
        part = answer.parts[0]
        assert isinstance(part, TextPart)
        return part.content

    async def stream(self, prompt: str) -> AsyncIterator[str]:
        async with model_request_stream(self.model, _messages(prompt), model_settings=_SETTINGS) as events:
            async for event in events:
                if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                    yield event.part.content
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                    yield event.delta.content_delta

    async def aclose(self) -> None:
        pass  # the HTTP client is the process's
