"""One face over `Conversation` and `AsyncConversation`, so that one body of tests runs on both."""

from __future__ import annotations

import inspect
from typing import Any

import llamaroute as lr
from llamaroute.emulator import Emulator
from tests.client.api import Api, SyncStream

SCOUT = "llama-4-scout"


def config(emu: Emulator, **more: Any) -> dict[str, Any]:
    return {"providers": emu.providers("openai"), "default": f"openai:{SCOUT}", **more}


async def done(value: Any) -> Any:
    """What a blocking call gave, or an async one will give."""
    return await value if inspect.isawaitable(value) else value


class Talk:
    """A conversation with an async face."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def send(self, *args: Any, **options: Any) -> lr.ChatResponse[Any]:
        response: lr.ChatResponse[Any] = await done(self.inner.send(*args, **options))
        return response

    async def run(self, *args: Any, **options: Any) -> Any:
        return await done(self.inner.run(*args, **options))

    async def interrupt(self) -> Any:
        return await done(self.inner.interrupt())

    def stream(self, *args: Any, **options: Any) -> Any:
        stream = self.inner.stream(*args, **options)
        return SyncStream(stream) if isinstance(stream, lr.Stream) else stream

    def branch(self) -> Talk:
        return Talk(self.inner.branch())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def talk(client: Any, **options: Any) -> Talk:
    return Talk(client.conversation(**options))


def load(api: Api, client: Any, path: Any, **options: Any) -> Talk:
    if api.is_async:
        return Talk(lr.AsyncConversation.load(path, client, **options))
    return Talk(lr.Conversation.load(path, client.inner, **options))


def said(messages: Any) -> list[tuple[str, str]]:
    """Role and text of each turn, of messages or of what a host was sent."""
    return [(m["role"], m["content"]) if isinstance(m, dict) else (m.role, m.text) for m in messages]
