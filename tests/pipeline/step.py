"""Steps a plan by hand: a script says which operations must come and what each gives back. No clock, no network.

    script = Script(send(200), pull(b'{"text": "Hello"}'), pull(b""))
    reply = script.run(exchange(call), call.ledger)

A script is part of the test: an operation of another kind, one too many or one too few is a failure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from llamaroute.errors import OverloadedError, ProtocolError, ProviderError, RateLimitError, ServerError
from llamaroute.layers.retry import RetryPolicy
from llamaroute.pipeline.core import Call, Candidate, Ledger, Outcome, Reply, Timeout
from llamaroute.pipeline.ops import Blocking, Head, Op, Plan, Pull, Send, Sleep, Wait
from llamaroute.spi import DecoderEvent, ProviderSettings, Target, WireRequest, WireResponse
from llamaroute.types.capability import ModelRow
from llamaroute.types.events import (
    Finished,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStarted,
    UsageReported,
)
from llamaroute.types.messages import messages_from
from llamaroute.types.parts import Text, ToolCall
from llamaroute.types.request import ChatRequest
from llamaroute.types.response import ChatResponse, Usage

START = 5000.0
"""The monotonic clock when a call begins; far from 0, as a real one is."""
WALL = 1_700_000_000.0

T = TypeVar("T")


# -- the script -------------------------------------------------------------------------------------------------------


@dataclass
class Step:
    """One operation that must come: its kind, what it gives back (an exception is thrown in), how long it takes."""

    kind: type[Any]
    result: Any = None
    seconds: float = 0.0


def send(status: int = 200, headers: Mapping[str, str] | None = None, *, seconds: float = 0.0) -> Step:
    return Step(Send, (status, dict(headers or {})), seconds)


def send_fails(error: Exception, *, seconds: float = 0.0) -> Step:
    return Step(Send, error, seconds)


def pull(data: bytes | Exception, *, seconds: float = 0.0) -> Step:
    return Step(Pull, data, seconds)


def answer(status: int, body: Any, headers: Mapping[str, str] | None = None, *, seconds: float = 0.0) -> list[Step]:
    """Headers, the body in one piece, the end."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [send(status, headers, seconds=seconds), *([pull(data)] if data else []), pull(b"")]


def sleep() -> Step:
    """Takes as long as the plan asks for."""
    return Step(Sleep)


def wait(seconds: float | None = None, *, meanwhile: Callable[[], object] = lambda: None) -> Step:
    """Takes as long as the plan asks for, or `seconds` when it is woken; `meanwhile` happens before it goes on."""
    return Step(Wait, meanwhile, -1.0 if seconds is None else seconds)


def blocking(*, seconds: float = 0.0) -> Step:
    """The function is called."""
    return Step(Blocking, None, seconds)


class Script:
    """A driver that does what a list says."""

    def __init__(self, *steps: Step | Sequence[Step]) -> None:
        self.steps: list[Step] = []
        for step in steps:
            self.steps.extend([step] if isinstance(step, Step) else step)
        self.ops: list[Op] = []

    def run(self, plan: Plan[T], ledger: Ledger) -> T:
        value: Any = None
        error: Exception | None = None
        left = list(self.steps)
        while True:
            try:
                op = plan.send(value) if error is None else plan.throw(error)
            except StopIteration as stop:
                assert not left, f"the plan ended with {len(left)} steps left: {left[0]}"
                result: T = stop.value
                return result
            except Exception:
                assert not left, f"the plan raised with {len(left)} steps left: {left[0]}"
                raise
            assert left, f"nothing is scripted for {op}"
            step = left.pop(0)
            assert type(op) is step.kind, f"expected {step.kind.__name__}, got {op}"
            self.ops.append(op)
            value = error = None
            if isinstance(op, Wait):
                ledger.now += op.seconds if step.seconds < 0 else step.seconds
                step.result()
                continue
            ledger.now += op.seconds if isinstance(op, Sleep) else step.seconds
            result_or_error = step.result
            if isinstance(op, Blocking):
                try:
                    value = op.fn()
                except Exception as raised:
                    error = raised
            elif isinstance(result_or_error, Exception):
                error = result_or_error
            elif isinstance(op, Send):
                status, headers = result_or_error
                value = Head(status, headers, connect=0.25, sent=ledger.now)
            else:
                value = result_or_error

    @property
    def sent(self) -> list[Send]:
        return [op for op in self.ops if isinstance(op, Send)]

    @property
    def pulled(self) -> list[Pull]:
        return [op for op in self.ops if isinstance(op, Pull)]

    @property
    def slept(self) -> list[float]:
        return [op.seconds for op in self.ops if isinstance(op, Sleep)]

    @property
    def hosts(self) -> list[str]:
        """Providers in the order they were sent to."""
        return [op.target.provider for op in self.sent if op.target is not None]


# -- a host that exists only here -------------------------------------------------------------------------------------

ERRORS: Mapping[int, tuple[type[ProviderError], dict[str, Any]]] = {
    400: (ProviderError, {}),
    401: (ProviderError, {"failover": True}),
    404: (ProviderError, {"failover": True}),
    429: (RateLimitError, {}),
    500: (ServerError, {}),
    503: (OverloadedError, {}),
}


class Adapter:
    """Plain answers are `{"text", "usage"?, "calls"?, "error"?}`; streams are lines of `letter:rest`.

    T text, C index:name, A index:arguments, D index, U in,out, F reason, E status, everything else is ignored.
    """

    def __init__(self) -> None:
        self.built: list[ChatRequest] = []
        self.streamed: list[bool] = []

    def build_request(self, request: ChatRequest, target: Target, *, stream: bool) -> WireRequest:
        self.built.append(request)
        self.streamed.append(stream)
        return WireRequest("POST", f"https://{target.provider}.example/chat", {"x-own": "adapter"}, b"{}")

    def parse_response(self, response: WireResponse, request: ChatRequest, target: Target) -> ChatResponse[Any]:
        try:
            data = json.loads(response.body)
        except ValueError:
            raise ProtocolError("not JSON") from None
        if "error" in data:
            raise self.map_error(WireResponse(data["error"], response.headers, response.body), target)
        calls = tuple(
            ToolCall(f"c{i}", name, args, json.dumps(args)) for i, (name, args) in enumerate(data.get("calls", ()))
        )
        text = data.get("text", "")
        parts = ((Text(text),) if text else ()) + calls
        usage = Usage(*data["usage"], sum(data["usage"])) if "usage" in data else Usage(estimated=True)
        return ChatResponse[Any](
            text=text,
            parts=parts,
            tool_calls=calls,
            finish_reason="tool_calls" if calls else "stop",
            usage=usage,
            raw=data,
        )

    def stream_decoder(self, request: ChatRequest, target: Target) -> Decoder:
        return Decoder(self, target)

    def map_error(self, response: WireResponse, target: Target) -> ProviderError:
        cls, more = ERRORS.get(response.status, (ServerError, {}))
        wait = response.headers.get("retry-after")
        return cls(
            response.body.decode() or f"status {response.status}",
            status=response.status,
            request_id=response.headers.get("x-request-id"),
            retry_after=float(wait) if wait else None,
            raw=response.body,
            **more,
        )


class Decoder:
    def __init__(self, adapter: Adapter, target: Target) -> None:
        self._adapter, self._target = adapter, target
        self._text = b""
        self._finished = False

    def feed(self, data: bytes) -> Iterator[DecoderEvent]:
        *lines, self._text = (self._text + data).split(b"\n")
        return self._events(lines)

    def _events(self, lines: list[bytes]) -> Iterator[DecoderEvent]:
        for line in lines:
            kind, _, rest = line.decode().partition(":")
            index, _, more = rest.partition(":")
            match kind:
                case "T":
                    yield TextDelta(rest)
                case "C":
                    yield ToolCallStarted(int(index), f"c{index}", more)
                case "A":
                    yield ToolCallDelta(int(index), more)
                case "D":
                    yield ToolCallDone(int(index), ToolCall(f"c{index}", "f", {}, "{}"))
                case "U":
                    tokens_in, tokens_out = map(int, rest.split(","))
                    yield UsageReported(Usage(tokens_in, tokens_out, tokens_in + tokens_out))
                case "F":
                    self._finished = True
                    yield Finished("stop", rest)
                case "E":
                    raise self._adapter.map_error(WireResponse(int(rest), {}, b"in the stream"), self._target)

    def close(self) -> Iterator[DecoderEvent]:
        if not self._finished:
            raise ProtocolError("cut off", retryable=True)
        return iter(())


class Auth:
    """Counts what is asked of it; `renewable` is what `reject` answers."""

    def __init__(self, *, renewable: bool = False, stale: bool = False, failure: Exception | None = None) -> None:
        self.token = 0
        self.is_stale = stale
        self.renewable = renewable
        self.failure = failure
        self.rejected = 0
        self.asked: list[float] = []

    def stale(self, now: float) -> bool:
        self.asked.append(now)
        return self.is_stale

    def refresh(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.token += 1
        self.is_stale = False

    def reject(self, request: WireRequest, response: WireResponse, now: float) -> bool:
        self.rejected += 1
        self.is_stale = self.is_stale or self.renewable
        return self.renewable

    def sign(self, request: WireRequest, now: float) -> WireRequest:
        return replace(request, headers={**request.headers, "authorization": f"token {self.token}"})


def candidate(
    provider: str = "acme",
    *,
    model: str = "llama-4-scout",
    row: ModelRow | None = None,
    auth: Auth | None = None,
    adapter: Adapter | None = None,
    timeout: Timeout = Timeout(),  # noqa: B008
    retry: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Candidate:
    options = ProviderSettings(kind="test", headers=dict(headers or {}))
    target = Target(
        provider, "test", model, f"{provider}-{model}", options, row or ModelRow(model, f"{provider}-{model}")
    )
    return Candidate(target, adapter or Adapter(), auth or Auth(), timeout, retry or RetryPolicy(attempts=1))


def call_of(
    *candidates: Candidate, text: str = "Hi", stream: bool = False, total: float | None = 600.0, **fields: Any
) -> Call:
    """A call as `Runtime.prepare` makes it. `request` fields go under `request=dict(...)`."""
    chosen = candidates or (candidate(),)
    request = ChatRequest(messages_from(text), **fields.pop("request", {}))
    return Call(
        request=request,
        stream=stream,
        candidates=chosen,
        candidate=chosen[0],
        deadline=None if total is None else START + total,
        ledger=Ledger(now=START, started=START, wall=WALL),
        timeout=chosen[0].timeout,
        retry=fields.pop("retry", chosen[0].retry),
        **fields,
    )


@dataclass
class Handler:
    """What a layer calls: takes the next scripted outcome, and remembers the calls."""

    outcomes: list[Any] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def __call__(self, call: Call) -> Plan[Reply]:
        self.calls.append(call)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return (
            outcome if isinstance(outcome, Reply) else Reply(call.target, response=ChatResponse[Any](text=str(outcome)))
        )
        yield  # a generator, as every handler is


def drain(reply: Reply) -> list[DecoderEvent]:
    """The events of a committed stream that has been read so far."""
    return [*reply.events, *(reply.rest or ())]


def finish(reply: Reply, outcome: Outcome) -> int:
    """Run the finishers as a driver does, last in first out; how many there were."""
    count = 0
    while reply.finishers:
        plan = reply.finishers.pop()(outcome)
        count += 1
        assert plan is None
    return count


Predicate = Callable[[Any], bool]
