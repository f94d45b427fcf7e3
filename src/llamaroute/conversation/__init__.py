"""Conversations: the turns so far, and what is said next.

    conversation = client.conversation(system="Answer briefly.", model="chat", fit="trim")
    print(conversation.send("Where is Cusco?").text)
    with conversation.stream("Tell me its story.") as stream:
        for text in stream.text():
            print(text, end="")                       # conversation.interrupt(), from anywhere, ends it here
    conversation.save("cusco.json")

A turn is kept when it was answered. One that failed leaves the conversation as it was; one that was interrupted keeps
what the model had said by then, so that the user can go on from there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from ..arguments import ChatOptions, RunOptions, request_from
from ..errors import InputError
from ..streams import AsyncStream, Stream
from ..types.messages import Input, Message, messages_from
from ..types.parts import Text
from ..types.response import ChatResponse, Cost, Usage
from ..types.run import sum_cost, sum_usage
from . import file

if TYPE_CHECKING:
    import anyio

    from ..client import AsyncClient, Client, Tools
    from ..types.run import RunResult

__all__ = ["AsyncConversation", "AsyncConversationStream", "Conversation", "ConversationStream"]


T = TypeVar("T")


class _Base:
    """What both conversations do alike: hold the turns, and let one send at a time."""

    def __init__(self, client: Any, options: dict[str, Any], messages: Input = ()) -> None:
        # What is wrong with an option is said here, not when the first turn is sent.
        request_from("?", ChatOptions(**{n: v for n, v in options.items() if n != "output"}), None)  # type: ignore[typeddict-item]
        self._client = client
        self._options = options
        self._messages: tuple[Message, ...] = _messages(messages)
        self._usages: list[Usage] = []
        self._costs: list[Cost | None] = []
        self._busy = threading.Lock()
        self._stream: Any = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The turns so far, without the system prompt."""
        return self._messages

    @property
    def system(self) -> str | None:
        """The system prompt."""
        system: str | None = self._options.get("system")
        return system

    @property
    def usage(self) -> Usage:
        """Tokens of all turns that are kept, each with the history it was sent with."""
        return sum_usage(self._usages)

    @property
    def cost(self) -> Cost | None:
        """Cost of all turns that are kept; None when one of them has no price."""
        return sum_cost(self._costs)

    def branch(self) -> Self:
        """Another conversation that has said the same so far; what is said in one from here is not said in the other.

        `usage` of the branch counts from here.
        """
        return type(self)(self._client, dict(self._options), self._messages)

    def save(self, path: str | os.PathLike[str], *, images: file.Images = "inline") -> None:
        """Write the conversation to a JSON file. What cannot be written (tools, an `output` type, policies) and what
        should not (headers) is left to whoever loads it, who is told.

        Args:
            path: the file; written whole or not at all.
            images: "inline" writes images into the file; "reference" keeps those from files and URLs as what they
                are named.

        Raises:
            InputError: an image's file is not there any more, or the file cannot be written.
        """
        data = file.dump(self._messages, self._options, self._usages, self._costs, images)
        file.write(path, data)

    @classmethod
    def load(cls, path: str | os.PathLike[str], client: Any, **options: Any) -> Self:
        """A saved conversation, to go on with.

        Args:
            path: what `save` wrote.
            client: who sends its next turns.
            **options: replace saved ones; those that could not be saved have to be given.

        Raises:
            InputError: it is no conversation, of a later version, or an option has to be given.
        """
        loaded = file.load(file.read(path), str(path))
        if missing := [name for name in loaded.needs if name not in options]:
            names = ", ".join(f"{name}=" for name in missing)
            raise InputError(f"{path}: {names} could not be saved; give it to load(), or None to go on without")
        given = {name: value for name, value in {**loaded.options, **options}.items() if value is not None}
        made = cls(client, given, loaded.messages)
        made._usages, made._costs = loaded.usages, loaded.costs
        return made

    # -- one turn -----------------------------------------------------------------------------------------------------

    def _said(self, input: Input) -> tuple[Message, ...]:
        """What is said now.

        Raises:
            InputError: nothing is, or the model still waits for the results of its calls.
        """
        said = messages_from(input)
        if any(message.role == "system" for message in said):
            raise InputError("a conversation's system prompt is its system=, not a turn")
        calls = self._messages[-1].tool_calls if self._messages else ()
        answered = {message.tool_call_id for message in said}
        if waiting := [call.name for call in calls if call.id not in answered]:
            raise InputError(
                f"the model waits for the results of {', '.join(waiting)}: send tool_result(call, ...) for each, or "
                "use run(), which calls the tools"
            )
        return said

    def _begin(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise InputError(
                "this conversation waits for an answer already; interrupt() it, wait for its end, or use a branch()"
            )

    def _end(self) -> None:
        self._stream = None
        self._busy.release()

    def _keep(self, said: Sequence[Message], response: ChatResponse[Any]) -> None:
        answer = response.message
        if response.finish_reason == "interrupted":  # a call that was cut off can be neither made nor answered
            answer = Message("assistant", tuple(part for part in answer.parts if isinstance(part, Text)))
        self._messages = (*self._messages, *said, *((answer,) if answer.parts else ()))
        self._count(response)

    def _keep_run(self, result: RunResult[Any]) -> None:
        self._messages = tuple(message for message in result.messages if message.role != "system")
        for response in result.responses:
            self._count(response)

    def _count(self, response: ChatResponse[Any]) -> None:
        self._usages = [sum_usage([*self._usages, response.usage])]
        self._costs = [*self._costs, response.cost]

    def _merged(self, options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        return {**self._options, **options, **{name: value for name, value in more.items() if value is not None}}


class Conversation(_Base):
    """A conversation over a `Client`; made by `client.conversation(...)`.

    One turn at a time: a second one begun meanwhile, from wherever, is an `InputError`. Only `interrupt` may be called
    while a stream is read, from any thread.
    """

    _client: Client
    _stream: ConversationStream | None

    @overload
    def send(self, input: Input, *, output: type[T], **options: Unpack[ChatOptions]) -> ChatResponse[T]: ...
    @overload
    def send(self, input: Input, *, output: Any = None, **options: Unpack[ChatOptions]) -> ChatResponse[Any]: ...
    def send(self, input: Input, *, output: Any = None, **options: Unpack[ChatOptions]) -> ChatResponse[Any]:
        """Say something, and wait for the answer. Takes what `chat` takes, for this turn.

        Raises:
            InputError: another turn is under way. And whatever `chat` raises; the conversation is then as it was.
        """
        self._begin()
        try:
            said = self._said(input)
            response: ChatResponse[Any] = self._client.chat(
                [*self._messages, *said], **self._merged(options, output=output)
            )
            self._keep(said, response)
        finally:
            self._end()
        return response

    def stream(self, input: Input, *, output: Any = None, **options: Unpack[ChatOptions]) -> ConversationStream:
        """Say something, and read the answer as it comes: `with conversation.stream("...") as stream: ...`.

        The turn is kept when the answer ends, is interrupted, or when the block is left early; an exception that leaves
        the block before leaves the conversation as it was.
        """
        return ConversationStream(self, input, self._merged(options, output=output))

    def run(
        self, input: Input, *, tools: Tools | None = None, output: Any = None, **options: Unpack[RunOptions]
    ) -> RunResult[Any]:
        """Say something, carry out the tool calls that the model makes, and so on until it answers; see `Client.run`.
        The calls and their results become part of the conversation."""
        self._begin()
        try:
            said = self._said(input)
            merged = {"tools": (), **self._merged(options, output=output, tools=tools)}
            result = self._client.run([*self._messages, *said], **merged)
            self._keep_run(result)
        finally:
            self._end()
        return result

    def interrupt(self) -> ChatResponse[Any] | None:
        """Stop the stream that is being read, from any thread, and keep what was said so far. Gives the partial answer,
        or None when no stream is open."""
        stream = self._stream
        return None if stream is None else stream.interrupt()


class ConversationStream(Stream):
    """A `Stream` that becomes a turn of its conversation."""

    def __init__(self, conversation: Conversation, input: Input, options: dict[str, Any]) -> None:
        output = options.pop("output", None)
        super().__init__(conversation._client, (), output, ChatOptions(**options))  # type: ignore[typeddict-item]
        self._conversation = conversation
        self._input = input
        self._said: tuple[Message, ...] = ()
        self._open = False
        self._left = False
        self._turn = threading.RLock()
        """Held while the stream ends: the reader and whoever interrupts may both be about to end it."""

    def __enter__(self) -> Self:
        conversation = self._conversation
        conversation._begin()
        try:
            self._said = conversation._said(self._input)
            _, output, options = self._arguments
            self._arguments = ([*conversation.messages, *self._said], output, options)
            super().__enter__()
        except BaseException:
            conversation._end()
            raise
        self._open = True
        conversation._stream = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = kind is not None
        super().__exit__(kind, error, trace)

    def _finish(self) -> None:
        with self._turn:
            if not self._started().ended:
                super()._finish()
                self._over()

    def _close(self) -> None:
        with self._turn:
            super()._close()
            self._over()

    def _over(self) -> None:
        """The stream has ended, in whatever way; the first time, its turn is kept or forgotten."""
        if not self._open:
            return
        self._open = False
        state = self._started()
        if state.response is not None and state.failure is None and not self._left:
            self._conversation._keep(self._said, state.response)
        self._conversation._end()


class AsyncConversation(_Base):
    """A conversation over an `AsyncClient`; the same names, arguments and results as `Conversation`."""

    _client: AsyncClient
    _stream: AsyncConversationStream | None

    @overload
    async def send(self, input: Input, *, output: type[T], **options: Unpack[ChatOptions]) -> ChatResponse[T]: ...
    @overload
    async def send(self, input: Input, *, output: Any = None, **options: Unpack[ChatOptions]) -> ChatResponse[Any]: ...
    async def send(self, input: Input, *, output: Any = None, **options: Unpack[ChatOptions]) -> ChatResponse[Any]:
        """See `Conversation.send`."""
        self._begin()
        try:
            said = self._said(input)
            response: ChatResponse[Any] = await self._client.chat(
                [*self._messages, *said], **self._merged(options, output=output)
            )
            self._keep(said, response)
        finally:
            self._end()
        return response

    def stream(self, input: Input, *, output: Any = None, **options: Unpack[ChatOptions]) -> AsyncConversationStream:
        """See `Conversation.stream`: `async with conversation.stream("...") as stream: ...`."""
        return AsyncConversationStream(self, input, self._merged(options, output=output))

    async def run(
        self, input: Input, *, tools: Tools | None = None, output: Any = None, **options: Unpack[RunOptions]
    ) -> RunResult[Any]:
        """See `Conversation.run`."""
        self._begin()
        try:
            said = self._said(input)
            merged = {"tools": (), **self._merged(options, output=output, tools=tools)}
            result = await self._client.run([*self._messages, *said], **merged)
            self._keep_run(result)
        finally:
            self._end()
        return result

    async def interrupt(self) -> ChatResponse[Any] | None:
        """Stop the stream that another task reads, and keep what was said so far; see `Conversation.interrupt`."""
        stream = self._stream
        return None if stream is None else await stream.interrupt()


class AsyncConversationStream(AsyncStream):
    """An `AsyncStream` that becomes a turn of its conversation."""

    def __init__(self, conversation: AsyncConversation, input: Input, options: dict[str, Any]) -> None:
        output = options.pop("output", None)
        super().__init__(conversation._client, (), output, ChatOptions(**options))  # type: ignore[typeddict-item]
        self._conversation = conversation
        self._input = input
        self._said: tuple[Message, ...] = ()
        self._open = False
        self._left = False
        self._ending: anyio.Event | None = None

    async def __aenter__(self) -> Self:
        conversation = self._conversation
        conversation._begin()
        try:
            self._said = conversation._said(self._input)
            _, output, options = self._arguments
            self._arguments = ([*conversation.messages, *self._said], output, options)
            await super().__aenter__()
        except BaseException:
            conversation._end()
            raise
        self._open = True
        conversation._stream = self
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = kind is not None
        await super().__aexit__(kind, error, trace)

    async def _finish(self) -> None:
        await self._once(super()._finish())

    async def _close(self, error: BaseException | None = None) -> None:
        await self._once(super()._close(error))

    async def _once(self, ending: Coroutine[Any, Any, None]) -> None:
        """The reader and whoever interrupts may both be about to end the stream: one does, the other waits for it."""
        if self._ending is not None:
            ending.close()
            await self._ending.wait()
            return
        import anyio

        self._ending = anyio.Event()
        try:
            await ending
        finally:
            self._over()
            self._ending.set()

    def _over(self) -> None:
        """See `ConversationStream`."""
        if not self._open:
            return
        self._open = False
        state = self._started()
        if state.response is not None and state.failure is None and not self._left:
            self._conversation._keep(self._said, state.response)
        self._conversation._end()


def _messages(messages: Input) -> tuple[Message, ...]:
    if isinstance(messages, Sequence) and not isinstance(messages, str) and not messages:
        return ()
    return messages_from(messages)
