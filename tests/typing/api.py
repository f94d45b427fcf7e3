"""The public API as programs use it. Type-checked by `mypy --strict`, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict, assert_never, assert_type

import tenacity
from pydantic import BaseModel

import llamaroute as lr
from llamaroute.pipeline.core import Call, Handler, Reply
from llamaroute.pipeline.ops import Head, Plan, Send


class Invoice(BaseModel):
    total: Decimal


@dataclass
class Point:
    x: int
    y: int


class Row(TypedDict):
    name: str


def weather(city: str, days: int = 1) -> str:
    """Weather forecast.

    Args:
        city: name of the city
        days: how many days ahead
    """
    return f"{city} {days}"


# -- the examples of the manual ---------------------------------------------------------------------------------------


def plain() -> None:
    client = lr.Client()
    reply = client.chat("Why is the sky blue?")
    print(reply.text)
    reply = client.chat(
        ["What is on this picture?", lr.Image("cat.jpg")],
        model="work:llama-4-maverick",
        system="Answer in one sentence.",
        max_tokens=200,
        temperature=0.2,
    )
    assert_type(reply, lr.ChatResponse[Any])


def streamed(client: lr.Client) -> None:
    with client.stream("Tell me a story", model="story") as stream:
        for event in stream:
            match event:
                case lr.TextDelta(text=t):
                    print(t, end="")
                case _:
                    pass
    reply = stream.response
    assert_type(reply.usage, lr.Usage)


async def asynchronous() -> None:
    async with lr.AsyncClient() as client:
        reply = await client.chat("Hi")
        assert_type(reply, lr.ChatResponse[Any])
        async with client.stream("Hi") as stream:
            async for text in stream.text():
                assert_type(text, str)


def structured(client: lr.Client) -> None:
    invoice = client.chat(["Read this", lr.Image("invoice.png")], output=Invoice).output
    assert_type(invoice, Invoice | None)
    if invoice is not None:
        assert_type(invoice.total, Decimal)


async def clock(zone: str) -> str:
    """The time."""
    return zone


def approve(call: lr.ToolCall) -> bool | str | lr.ToolCall | None:
    assert_type(call.arguments, dict[str, Any])
    return None


async def ask_first(call: lr.ToolCall) -> bool:
    return call.name != "delete"


def ran(client: lr.Client) -> None:
    reply = client.run("What will the weather be in Cusco?", tools=[weather])
    assert_type(reply, lr.RunResult[Any])
    assert_type(reply.text, str)
    assert_type(reply.response, lr.ChatResponse[Any])
    assert_type(reply.usage, lr.Usage)
    assert_type(reply.cost, lr.Cost | None)
    assert_type(reply.messages, tuple[lr.Message, ...])
    for step in reply.steps:
        match step:
            case lr.ChatResponse(text=text):
                print(text)
            case lr.ToolResult(call=call, content=content, error=error):
                print(call.name, content, error)
            case _:
                assert_never(step)
    if reply.finish_reason == "max_steps":
        client.run([*reply.messages], tools=[weather], max_steps=4, on_error="raise", tool_timeout=5.0)
    tool = lr.Tool("f", "does f", {"type": "object", "properties": {}}, weather, timeout=3)
    invoice = client.run("Read this", tools=[weather, clock, tool], output=Invoice, on_tool=approve, temperature=0)
    assert_type(invoice.output, Invoice | None)
    with client.run_stream(["Hi"], tools=[weather], system="s", tool_choice="required") as stream:
        assert_type(stream, lr.RunStream)
        for event in stream:
            assert_type(event, lr.RunEvent)
            match event:
                case lr.ToolResult(text=done):
                    print(done)
                case _:
                    every_event(event)
        assert_type(stream.result, lr.RunResult[Any])
        assert_type(stream.interrupt(), lr.RunResult[Any])


async def async_ran(client: lr.AsyncClient) -> None:
    assert_type(await client.run("Hi", tools=[clock], on_tool=ask_first), lr.RunResult[Any])
    assert_type((await client.run("Hi", tools=[clock], output=Invoice)).output, Invoice | None)
    async with client.run_stream("Hi", tools=[weather], on_tool=lambda call: None) as stream:
        assert_type(stream, lr.AsyncRunStream)
        async for text in stream.text():
            assert_type(text, str)
        assert_type(await stream.interrupt(), lr.RunResult[Any])


async def discovered(client: lr.Client, other: lr.AsyncClient) -> list[str]:
    result = client.discover("work")
    assert_type(result, lr.Discovery)
    assert_type(await other.discover("work", timeout=5), lr.Discovery)
    for problem in result.problems:
        assert_type(problem, lr.DiscoveryProblem)
        assert_type(problem.remedy, str)
    for found in result.found:
        assert_type(found, lr.Discovered)
        assert_type(found.model, str | None)
        assert_type(found.callable, bool | None)
    return [found.id for found in result.found if found.callable]


# -- making a client --------------------------------------------------------------------------------------------------


def sources(config: lr.Config) -> list[lr.Client]:
    return [
        lr.Client(),
        lr.Client("llamaroute.toml"),
        lr.Client(Path("llamaroute.toml")),
        lr.Client({"providers": {"box": {"kind": "openai-compatible", "base_url": "http://h/v1"}}}),
        lr.Client(config, profile="prod", watch=True, env={"KEY": "x"}),
    ]


class MyResponse:
    def __init__(self) -> None:
        self.head = Head(200, {})

    def read(self, until: float, phase: str) -> bytes:
        return b""

    def close(self) -> None: ...


class MyTransport:
    def open(self, send: Send) -> MyResponse:
        return MyResponse()

    def close(self) -> None: ...


class Half:
    """An observer of ends alone: both methods are optional."""

    def attempt_ended(self, call: Call, attempt: lr.Attempt) -> None:
        print(attempt.seconds)


def logged(call: Call, handler: Handler) -> Plan[Reply]:
    print(call.target.name)
    return (yield from handler(call))


def own_parts() -> lr.Client:
    return lr.Client(transport=MyTransport(), observers=[Half()], layers=[logged])


# -- arguments --------------------------------------------------------------------------------------------------------


def inputs(
    client: lr.Client, call: lr.ToolCall, pages: list[str], images: list[lr.Image], turns: list[lr.Message]
) -> None:
    client.chat("text")
    client.chat(lr.Text("text"))
    client.chat(lr.Image(b"bytes"))
    client.chat(lr.user("Hi", lr.Image(Path("a.png"), detail="low")))
    client.chat([lr.system("s"), lr.user("u"), lr.assistant("a"), lr.tool_result(call, "18")])
    client.chat([{"role": "user", "content": "Hi"}])
    client.chat({"role": "user", "content": [{"type": "text", "text": "Hi"}]})
    client.chat(("What is this?", lr.Image("https://h.example/a.png")))
    client.chat(pages)
    client.chat(images)
    client.chat(turns)
    client.chat([*turns, "and then?"])


def knobs(client: lr.Client, schema: Mapping[str, Any]) -> None:
    client.chat("Hi", tools=[weather], tool_choice="required", parallel_tool_calls=False)
    client.chat("Hi", tools=[lr.Tool("f", "does f", {"type": "object"}, weather)], tool_choice="f")
    client.chat("Hi", tools=[{"type": "function", "function": {"name": "f"}}])
    client.chat("Hi", stop="END", seed=1, top_p=1, top_k=5, logprobs=True, frequency_penalty=0.5)
    client.chat("Hi", stop=["a", "b"], logprobs=3, presence_penalty=1, repetition_penalty=1.1)
    client.chat("Hi", headers={"x": "y"}, metadata={"user": "u"}, extra={"bedrock": {"a": [1]}})
    client.chat("Hi", timeout=5, retry=3)
    client.chat("Hi", timeout=lr.Timeout(connect=1, total=None), retry=lr.RetryPolicy(attempts=2))
    client.chat("Hi", retry=tenacity.Retrying(stop=tenacity.stop_after_attempt(3)))
    client.chat("Hi", model=None, system=None, max_tokens=None, temperature=None, timeout=None, retry=None, stop=None)
    assert_type(client.chat("Hi", output=None), lr.ChatResponse[Any])
    assert_type(client.chat("Hi", output=schema), lr.ChatResponse[Any])


def outputs(client: lr.Client) -> None:
    assert_type(client.chat("Hi", output=Invoice), lr.ChatResponse[Invoice])
    assert_type(client.chat("Hi", output=Invoice, output_retries=2, temperature=0).output, Invoice | None)
    assert_type(client.chat("Hi", output=Point).output, Point | None)
    assert_type(client.chat("Hi", output=Row).output, Row | None)
    assert_type(client.chat("Hi", output=int).output, int | None)
    assert_type(client.chat("Hi", output=list[str]).output, list[str] | None)


async def async_outputs(client: lr.AsyncClient) -> None:
    assert_type((await client.chat("Hi", output=Invoice)).output, Invoice | None)
    assert_type(await client.chat("Hi"), lr.ChatResponse[Any])


def misuse(client: lr.Client) -> None:
    """Each of these must be an error for a type checker too: an unused `ignore` fails the check."""
    client.chat()  # type: ignore[call-overload]
    client.chat(5)  # type: ignore[call-overload]
    client.chat("Hi", temprature=1)  # type: ignore[call-overload]
    client.chat("Hi", "there")  # type: ignore[call-overload]
    client.chat("Hi", max_tokens="5")  # type: ignore[call-overload]
    client.stream("Hi", stop=5)  # type: ignore[arg-type]
    client.run("Hi")  # type: ignore[call-overload]
    client.run("Hi", tools=weather)  # type: ignore[call-overload]
    client.run("Hi", tools=[weather], on_tool=5)  # type: ignore[call-overload]
    client.run("Hi", tools=[weather], on_error="ignore")  # type: ignore[call-overload]
    client.run("Hi", tools=[{"function": {"name": "f"}}])  # type: ignore[list-item]
    lr.Client(profil="prod")  # type: ignore[call-arg]
    lr.Image(5)  # type: ignore[arg-type]
    lr.Image("a.png", detail="lowest")  # type: ignore[arg-type]


# -- events -----------------------------------------------------------------------------------------------------------


def every_event(event: lr.StreamEvent) -> str:
    """A match without a default: a new kind of event is noticed by a type checker."""
    match event:
        case lr.Started(target=target, model_id=model_id):
            return target + model_id
        case lr.TextDelta(text=text) | lr.ReasoningDelta(text=text):
            return text
        case lr.ToolCallStarted(index=index, id=call_id, name=name):
            return f"{index} {call_id} {name}"
        case lr.ToolCallDelta(index=index, arguments=arguments):
            return f"{index} {arguments}"
        case lr.ToolCallDone(index=index, call=call):
            assert_type(call, lr.ToolCall)
            return f"{index} {call.name}"
        case lr.Retrying(attempt=attempt):
            assert_type(attempt, lr.Attempt)
            return attempt.target
        case lr.FailedOver(attempt=attempt, target=target) | lr.Restarted(attempt=attempt, target=target):
            return attempt.target + target
        case lr.Continued(attempt=attempt, target=target, calls=calls):
            assert_type(calls, tuple[int, ...])
            return attempt.target + target
        case lr.UsageReported(usage=usage):
            return str(usage.total_tokens)
        case lr.Finished(reason=reason):
            return reason
        case _:
            assert_never(event)


def stream_types(client: lr.Client) -> Iterator[str]:
    with client.stream("Hi", output=Invoice) as stream:
        assert_type(stream, lr.Stream)
        assert_type(next(stream), lr.StreamEvent)
        yield from stream.text()
        assert_type(stream.interrupt(), lr.ChatResponse[Any])
        assert_type(stream.partial, Any)


async def async_stream_types(client: lr.AsyncClient) -> AsyncIterator[str]:
    async with client.stream("Hi") as stream:
        assert_type(stream, lr.AsyncStream)
        assert_type(await anext(stream), lr.StreamEvent)
        async for piece in stream.text():
            yield piece
        assert_type(await stream.interrupt(), lr.ChatResponse[Any])


# -- conversations ----------------------------------------------------------------------------------------------------


def conversation_types(client: lr.Client) -> None:
    conversation = client.conversation(system="Be brief.", fit="trim", temperature=0.5)
    assert_type(conversation, lr.Conversation)
    assert_type(conversation.send("Hi"), lr.ChatResponse[Any])
    assert_type(conversation.send("Hi", output=Invoice, max_tokens=5).output, Invoice | None)
    with conversation.stream(["Hi", lr.Image(b"")], fit=1000) as stream:
        assert_type(stream, lr.ConversationStream)
        assert_type(next(stream), lr.StreamEvent)
    assert_type(conversation.run("Hi", tools=[weather], max_steps=3), lr.RunResult[Any])
    assert_type(conversation.interrupt(), lr.ChatResponse[Any] | None)
    assert_type(conversation.messages, tuple[lr.Message, ...])
    assert_type(conversation.usage, lr.Usage)
    assert_type(conversation.branch(), lr.Conversation)
    assert_type(lr.Conversation.load("a.json", client, tools=[weather]), lr.Conversation)
    conversation.send("Hi", fit="cut")  # type: ignore[call-overload]


async def async_conversation_types(client: lr.AsyncClient) -> None:
    conversation = client.conversation()
    assert_type(conversation, lr.AsyncConversation)
    assert_type((await conversation.send("Hi", output=Invoice)).output, Invoice | None)
    async with conversation.stream("Hi") as stream:
        assert_type(stream, lr.AsyncConversationStream)
    assert_type(await conversation.interrupt(), lr.ChatResponse[Any] | None)


# -- answers and errors -----------------------------------------------------------------------------------------------


def answer_types(reply: lr.ChatResponse[Any]) -> None:
    assert_type(reply.text, str)
    assert_type(reply.tool_calls, tuple[lr.ToolCall, ...])
    assert_type(reply.attempts, tuple[lr.Attempt, ...])
    assert_type(reply.warnings, tuple[lr.Notice, ...])
    assert_type(reply.timing, lr.Timing)
    assert_type(reply.message, lr.Message)
    if reply.cost is not None:
        assert_type(reply.cost.usd, Decimal)
    for part in reply.parts:
        match part:
            case lr.Text(text=text):
                print(text)
            case lr.ToolCall(name=name, arguments=arguments):
                print(name, arguments)
            case _:
                assert_never(part)
    again = lr.ChatResponse[Invoice].model_validate_json(reply.model_dump_json())
    assert_type(again.output, Invoice | None)


def error_types(client: lr.Client) -> None:
    try:
        client.chat("Hi")
    except lr.StreamInterruptedError as interrupted:
        if interrupted.partial is not None:
            print(interrupted.partial.text)
    except lr.RateLimitError as limited:
        assert_type(limited.retry_after, float | None)
    except lr.ProviderError as error:
        assert_type(error.status, int | None)
        assert_type(error.attempts, tuple[lr.Attempt, ...])
        print(error.phase, error.retryable, error.request_id, error.raw)
    except lr.AllTargetsFailedError as group:
        assert_type(group.last, lr.ProviderError)
    except lr.ToolError as stopped:
        assert_type(stopped.call, lr.ToolCall | None)
        assert_type(stopped.run, lr.RunResult[Any] | None)
    except lr.OutputValidationError as misfit:
        assert_type(misfit.errors, tuple[str, ...])
    except (
        lr.ConfigError,
        lr.InputError,
        lr.CapabilityError,
        lr.PolicyError,
        lr.LlamarouteError,
    ) as other:
        print(other)


def builtin_errors(client: lr.Client) -> None:
    try:
        client.chat("Hi")
    except TimeoutError:
        pass
    except ConnectionError:
        pass


def groups(client: lr.Client) -> None:
    try:
        client.chat("Hi")
    except* lr.RateLimitError as limited:
        for error in limited.exceptions:
            print(error)


def totals(client: lr.Client) -> None:
    used = client.usage()
    assert_type(used.cost, Decimal)
    assert_type(client.count_tokens("Hi", model="x"), lr.TokenCount)
