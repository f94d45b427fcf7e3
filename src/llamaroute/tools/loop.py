"""The tool loop: what `run` and `run_stream` of both clients share, and how tools are called, blocking or async.

A loop is asked what comes next and told what came; it does no I/O but to call the tools. The clients' methods and the
streams in `streams.py` drive it through `chat` and `stream` alone, so it works wherever these do.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from ..arguments import ChatOptions, OnTool, RunOptions, check_names, given_retries, given_seconds, given_steps
from ..errors import InputError, LlamarouteError, ToolError
from ..parity.tool_arguments import check_call, complaint, sendable
from ..types.dataclass import dataclass
from ..types.events import ToolResult
from ..types.messages import Input, Message, messages_from
from ..types.parts import Document, Image, Part, PilImage, Text, ToolCall, Video
from ..types.response import ChatResponse
from ..types.run import RunFinish, RunResult, Step
from ..types.tools import Tool
from . import as_tools

if TYPE_CHECKING:
    from anyio import CancelScope

    from ..client import AsyncClient, Client

__all__ = ["Loop", "async_run", "carry_out", "carry_out_async", "run"]

_OWN = ("max_steps", "on_tool", "tool_timeout", "on_error")
_REFUSED = "The user refused this call."


@dataclass(slots=True)
class Ready:
    """A checked call. With `call.error` set, it is not carried out."""

    call: ToolCall
    tool: Tool | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    """What the function is called with."""


class Loop:
    """One run so far.

    Attributes:
        pending: calls to be carried out before the model is asked again.
        finish: why the run ended; None while it goes on.
    """

    def __init__(self, input: Input, tools: Sequence[Any], options: RunOptions) -> None:
        check_names(options, RunOptions)
        chat: dict[str, Any] = {key: value for key, value in options.items() if key not in _OWN}
        self._choice: str = chat.pop("tool_choice", None) or "auto"
        self._tools = as_tools(tools, self._choice) if tools else as_tools((), self._choice)
        for tool in self._tools:
            if not callable(tool.call):
                raise InputError(
                    f"run() calls tools itself, and {tool.name!r} has no call=; use chat() to get its calls"
                )
            given_seconds(f"timeout of tool {tool.name!r}", tool.timeout)
        self._most = given_steps(options.get("max_steps", 8))
        self._timeout = given_seconds("tool_timeout=", options.get("tool_timeout"))
        self._repairs_left = self._repairs = given_retries(options.get("output_retries", 1))
        self.on_tool: OnTool | None = options.get("on_tool")
        if self.on_tool is not None and not callable(self.on_tool):
            raise InputError(f"on_tool= takes a function, not {type(self.on_tool).__name__}")
        self._raises = options.get("on_error", "return") == "raise"
        if options.get("on_error", "return") not in ("return", "raise"):
            raise InputError(f"on_error= takes 'return' or 'raise', not {options['on_error']!r}")
        system = chat.pop("system", None)
        if system is not None and not isinstance(system, str):
            raise InputError(f"system= takes text, not {type(system).__name__}")
        self._chat = chat
        self._messages = list(messages_from(input, system_text=system))
        self._steps: list[Step] = []
        self._turns = 0
        self.finish: RunFinish | None = None
        self.pending: list[Ready] = []
        if unanswered := _unanswered(self._messages):
            self._await(unanswered)

    # -- the model's turn ---------------------------------------------------------------------------------------------

    def turn(self) -> tuple[list[Message], ChatOptions]:
        """The input and the options of the next turn. A forced call is forced once, or the loop would never end."""
        options: ChatOptions = {**self._chat}  # type: ignore[typeddict-item]
        if self._tools:
            options["tools"] = self._tools
            options["tool_choice"] = self._choice if not self._turns or self._choice == "none" else "auto"
        return list(self._messages), options

    def answered(self, response: ChatResponse[Any], *, left: bool = False) -> None:
        """The model's turn is over. `left`: nobody waits for what comes next.

        Raises:
            ToolError: its calls do not fit the tools, once too often.
        """
        self._steps.append(response)
        self._turns += 1
        if response.finish_reason == "interrupted":
            # What was said stays; calls that broke off do not, for a conversation cannot go on from half a call.
            if said := tuple(part for part in response.parts if isinstance(part, Text)):
                self._messages.append(Message("assistant", said))
            self.finish = "interrupted"
            return
        calls = iter(_with_ids(response.tool_calls, self._turns))
        parts = tuple(next(calls) if isinstance(part, ToolCall) else part for part in response.parts)
        message = Message("assistant", tuple(sendable(part) if isinstance(part, ToolCall) else part for part in parts))
        self._messages.append(message)
        wanted = [part for part in parts if isinstance(part, ToolCall)]
        if not wanted:
            self.finish = response.finish_reason
        elif self._turns >= self._most:
            self.finish = "max_steps"
        elif left:
            self.finish = "interrupted"
        else:
            self._await(wanted)

    def _await(self, calls: Sequence[ToolCall]) -> None:
        """Calls have to be carried out."""
        self.pending = [self._ready(call) for call in calls]
        wrong = [ready.call for ready in self.pending if ready.call.error is not None]
        if not wrong:
            self._repairs_left = self._repairs
        elif not self._repairs_left:
            call = wrong[0]
            after = f", also after {self._repairs} repair{'' if self._repairs == 1 else 's'}" if self._repairs else ""
            raise ToolError(f"the model's call of {call.name!r} cannot be carried out{after}: {call.error}", call=call)
        else:
            self._repairs_left -= 1

    def _ready(self, call: ToolCall) -> Ready:
        """Check a call, and turn its arguments into what the function takes."""
        call = check_call(call, self._tools)
        if call.error is not None:
            return Ready(call)
        tool = next(tool for tool in self._tools if tool.name == call.name)
        if tool.bind is None:
            return Ready(call, tool, dict(call.arguments))
        try:
            return Ready(call, tool, tool.bind(call.arguments))
        except ValueError as error:
            return Ready(replace(call, error="; ".join(str(error).splitlines())))
        except Exception as error:  # a validator of the user's own
            return Ready(replace(call, error=f"{type(error).__name__}: {error}"))

    # -- the tools' turn ----------------------------------------------------------------------------------------------

    def decided(self, ready: Ready, verdict: object) -> Ready | ToolResult:
        """What `on_tool` said about a call: the call to carry out, or the result it gets instead."""
        match verdict:
            case None | True:
                return ready
            case False | str():
                text = verdict if isinstance(verdict, str) else _REFUSED
                return ToolResult(ready.call, (Text(text),), text)
            case ToolCall():
                changed = self._ready(replace(verdict, id=ready.call.id, error=None))
                if changed.call.error is not None:
                    raise InputError(
                        f"on_tool changed the call of {ready.call.name!r} into one that does not fit: "
                        f"{changed.call.error}"
                    )
                return replace(changed, call=replace(changed.call, raw_arguments=""))
        raise InputError(f"on_tool returns None, True, False, a text or a ToolCall, not {type(verdict).__name__}")

    def seconds(self, ready: Ready) -> float | None:
        """How long the call may take."""
        own = None if ready.tool is None else ready.tool.timeout
        return self._timeout if own is None else own

    def failed(self, ready: Ready, error: Exception, seconds: float) -> ToolResult:
        """A tool raised.

        Raises:
            ToolError: `on_error="raise"`.
        """
        what = str(error) if isinstance(error, _TooLongError) else f"{type(error).__name__}: {error}"
        if self._raises:
            raise ToolError(f"tool {ready.call.name!r} failed: {what}", call=ready.call) from error
        return ToolResult(ready.call, (Text(f"Error: {what}"),), what, seconds)

    def ran(self, result: ToolResult) -> None:
        """A call has its result."""
        self._steps.append(result)
        self._messages.append(result.message)
        self.pending = [ready for ready in self.pending if ready.call.id != result.call.id]
        self._changed(result.call)

    def _changed(self, call: ToolCall) -> None:
        """Where `on_tool` changed a call, the conversation shows the call that was carried out: a result of other
        arguments than the model reads above it would mislead it."""
        if call.raw_arguments or call.error is not None:
            return
        for index in range(len(self._messages) - 1, -1, -1):
            message = self._messages[index]
            if any(known.id == call.id for known in message.tool_calls):
                parts = tuple(call if isinstance(p, ToolCall) and p.id == call.id else p for p in message.parts)
                self._messages[index] = replace(message, parts=parts)
                return

    # -- the end ------------------------------------------------------------------------------------------------------

    def result(self) -> RunResult[Any]:
        """What there is so far."""
        return RunResult(tuple(self._steps), tuple(self._messages), self.finish or "interrupted")

    def blame(self, error: LlamarouteError) -> None:
        """Leave what was done with the error that ended it."""
        if self._steps:
            error.run = self.result()

    @contextlib.contextmanager
    def blamed(self) -> Iterator[None]:
        """The same, for a block."""
        try:
            yield
        except LlamarouteError as error:
            self.blame(error)
            raise


def _unanswered(messages: Sequence[Message]) -> list[ToolCall]:
    """The calls at the end of a conversation that have no result yet."""
    answered: set[str | None] = set()
    for message in reversed(messages):
        if message.role != "tool":
            return [call for call in message.tool_calls if call.id not in answered]
        answered.add(message.tool_call_id)
    return []


def _with_ids(calls: Sequence[ToolCall], turn: int) -> list[ToolCall]:
    """The calls, each with an id of its own: results name the call they belong to, and not every host names calls."""
    seen: set[str] = set()
    out: list[ToolCall] = []
    for index, call in enumerate(calls):
        if not call.id or call.id in seen:
            call = replace(call, id=f"call_{turn}_{index}")
        seen.add(call.id)
        out.append(call)
    return out


# -- running it -------------------------------------------------------------------------------------------------------


def run(client: Client, input: Input, tools: Sequence[Any], output: Any, options: RunOptions) -> RunResult[Any]:
    """`Client.run`."""
    loop = Loop(input, tools, options)
    with loop.blamed():
        while loop.finish is None:
            if loop.pending:
                for _ in carry_out(loop):
                    pass
            else:
                messages, more = loop.turn()
                loop.answered(client._chat(messages, output, more, repair_calls=False))
    return loop.result()


async def async_run(
    client: AsyncClient, input: Input, tools: Sequence[Any], output: Any, options: RunOptions
) -> RunResult[Any]:
    """`AsyncClient.run`."""
    loop = Loop(input, tools, options)
    with loop.blamed():
        while loop.finish is None:
            if loop.pending:
                await carry_out_async(loop)
            else:
                messages, more = loop.turn()
                loop.answered(await client._chat(messages, output, more, repair_calls=False))
    return loop.result()


# -- calling tools ----------------------------------------------------------------------------------------------------


class _TooLongError(TimeoutError):
    """A tool did not come back in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it took longer than {seconds:g} seconds")


def carry_out(loop: Loop) -> Iterator[ToolResult]:
    """Carry out what is pending, one call after another. All are approved before the first is carried out."""
    items: list[Ready | ToolResult] = []
    for ready in loop.pending:
        asked = loop.on_tool is not None and ready.call.error is None
        verdict = _settled(loop.on_tool(ready.call)) if asked and loop.on_tool is not None else None
        items.append(loop.decided(ready, verdict))
    for item in items:
        result = item if isinstance(item, ToolResult) else _result(loop, item)
        loop.ran(result)
        yield result


def _result(loop: Loop, ready: Ready) -> ToolResult:
    if ready.tool is None or ready.tool.call is None:
        return ToolResult(ready.call, (Text(complaint(ready.call)),), ready.call.error)
    started = time.monotonic()
    try:
        content = content_of(_called(ready.tool.call, ready.arguments, loop.seconds(ready)))
    except Exception as error:
        return loop.failed(ready, error, time.monotonic() - started)
    return ToolResult(ready.call, content, None, time.monotonic() - started)


def _called(function: Callable[..., Any], arguments: Mapping[str, Any], seconds: float | None) -> Any:
    """What a function gives, sync or async, in this thread unless it has to be left behind when its time is over."""
    work = functools.partial(function, **arguments)
    if seconds is not None and not _is_async(function):
        return _settled(_in_thread(work, seconds))
    return _settled(work(), seconds)


def _in_thread(work: Callable[[], Any], seconds: float | None) -> Any:
    """Call `work` in a thread of its own, which is left behind when the time is over: threads cannot be stopped."""
    context = contextvars.copy_context()
    box: list[Any] = []
    done = threading.Event()

    def body() -> None:
        try:
            box.extend((True, context.run(work)))
        except BaseException as error:
            box.extend((False, error))
        done.set()

    threading.Thread(target=body, daemon=True, name="llamaroute-tool").start()
    if not done.wait(seconds):
        assert seconds is not None
        raise _TooLongError(seconds)
    if box[0]:
        return box[1]
    raise box[1]


def _settled(value: Any, seconds: float | None = None) -> Any:
    """What an awaitable comes to, in an event loop of its own; anything else is returned as it is."""
    if not inspect.isawaitable(value):
        return value
    import asyncio

    async def main() -> Any:
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await value
        except TimeoutError:
            if seconds is not None and limit.expired():
                raise _TooLongError(seconds) from None
            raise

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    return _in_thread(lambda: asyncio.run(main()), None)  # a notebook's loop runs in this thread already


async def carry_out_async(loop: Loop, started: Callable[[CancelScope], None] | None = None) -> list[ToolResult]:
    """Carry out what is pending, all calls at once; sync functions in threads. All are approved, one after another,
    before the first is carried out. `started` gets what cancels them.

    Results are recorded in the order of the calls, also when this is cancelled: those that came until then.
    """
    import anyio

    items: list[Ready | ToolResult] = []
    for ready in loop.pending:
        verdict: Any = None
        if loop.on_tool is not None and ready.call.error is None:
            verdict = loop.on_tool(ready.call)
            if inspect.isawaitable(verdict):
                verdict = await verdict
        items.append(loop.decided(ready, verdict))
    results: dict[int, ToolResult] = {}
    failures: list[ToolError] = []

    async def one(index: int, item: Ready | ToolResult) -> None:
        try:
            results[index] = item if isinstance(item, ToolResult) else await _async_result(loop, item)
        except ToolError as error:
            failures.append(error)
            group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            if started is not None:
                started(group.cancel_scope)
            for index, item in enumerate(items):
                group.start_soon(one, index, item)
    finally:
        done = [results[index] for index in sorted(results)]
        for result in done:
            loop.ran(result)
    if failures:
        raise failures[0]
    return done


async def _async_result(loop: Loop, ready: Ready) -> ToolResult:
    import anyio

    if ready.tool is None or ready.tool.call is None:
        return ToolResult(ready.call, (Text(complaint(ready.call)),), ready.call.error)
    started = time.monotonic()
    seconds = loop.seconds(ready)
    try:
        with anyio.move_on_after(seconds) as limit:
            content = content_of(await _async_called(ready.tool.call, ready.arguments))
        if limit.cancelled_caught and seconds is not None:
            raise _TooLongError(seconds)
    except anyio.get_cancelled_exc_class():
        if anyio.current_effective_deadline() == -math.inf:
            raise
        # Nobody cancelled this run: the tool waited for a task that was cancelled elsewhere.
        return loop.failed(ready, RuntimeError("the tool was cancelled"), time.monotonic() - started)
    except Exception as error:
        return loop.failed(ready, error, time.monotonic() - started)
    return ToolResult(ready.call, content, None, time.monotonic() - started)


async def _async_called(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    import anyio.to_thread

    work = functools.partial(function, **arguments)
    value: Any = work() if _is_async(function) else await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    return await _awaited(value) if inspect.isawaitable(value) else value


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def _is_async(function: Callable[..., Any]) -> bool:
    if inspect.iscoroutinefunction(function):
        return True
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or (
        not inspect.isroutine(function)
        and not isinstance(function, type)
        and inspect.iscoroutinefunction(type(function).__call__)
    )


def content_of(value: Any) -> tuple[Part, ...]:
    """What a tool gave back as the parts of its result: text and parts as they are, all else as JSON.

    Raises:
        ValueError: it cannot be written as JSON.
    """
    if value is None:
        return (Text(""),)
    if isinstance(value, list | tuple) and value and any(_is_part(item) for item in value):
        return tuple(_part(item) for item in value)
    return (_part(value),)


def _is_part(value: Any) -> bool:
    if isinstance(value, Text | Image | Document | Video):
        return True
    return isinstance(value, PilImage) and type(value).__module__.partition(".")[0] == "PIL"


def _part(value: Any) -> Part:
    if isinstance(value, str):
        return Text(value)
    if isinstance(value, Text | Image | Document | Video):
        return value
    if _is_part(value):
        return Image(value)
    from pydantic_core import to_json

    return Text(to_json(value, inf_nan_mode="null", fallback=str).decode())
