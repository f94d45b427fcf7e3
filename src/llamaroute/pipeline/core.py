"""Calls, layers and replies: the frame that every request moves through.

    hedge -> failover -> window -> restream -> repair -> adapt -> media -> retry -> limits -> (user's layers) ->
    watch -> observe -> exchange

A layer is a function `(call, handler) -> Plan[Reply]`; `yield from` carries values, exceptions and cancellation
through it. A plan returns when a plain call has its answer, or when a stream has committed: at its first text, tool
call or finish. What a stream says before that is buffered, so that an error in the first event of a 200 can still be
retried or failed over.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from ..errors import InputError, ProviderError
from ..spi import Adapter, Auth, DecoderEvent, StreamDecoder, Target
from ..types.dataclass import dataclass
from ..types.events import FailedOver, Retrying
from ..types.request import ChatRequest
from ..types.response import Attempt, AttemptError, ChatResponse, Notice, OutputMode, Usage
from .ops import Plan

if TYPE_CHECKING:
    from ..layers.spending import Spending
    from ..output import OutputSpec
    from ..routing.hedging import Hedge
    from ..routing.policy import Rules
    from ..routing.traffic import Traffic
    from ..types.routing import Strategy
    from .locate import Location

__all__ = [
    "Call",
    "Candidate",
    "Finisher",
    "Handler",
    "Layer",
    "Ledger",
    "Observer",
    "Outcome",
    "Reply",
    "Timeout",
    "Transform",
    "compose",
    "failed_attempt",
]


FIRST_TOKEN = 60.0
"""Seconds in which a stream's answer begins, where nothing else is configured."""
PLAIN_ANSWER = 3600.0
"""The same for plain calls that have no total either: a bound against hosts that never answer."""


@dataclass(frozen=True, slots=True)
class Timeout:
    """Seconds a call may take.

    Args:
        connect: DNS, TCP and TLS together; 0 is spent on a connection used again.
        first_token: from the request's sending to the first piece of the answer (plain calls: to its headers). None
            means 60 for streams, and `total` for plain calls: their headers come when the whole answer is ready.
        idle: between two pieces of the answer.
        total: everything, over retries and failover together; None for no end.
    """

    connect: float = 5.0
    first_token: float | None = None
    idle: float = 60.0
    total: float | None = 600.0

    def __post_init__(self) -> None:
        for name in ("connect", "first_token", "idle", "total"):
            value = getattr(self, name)
            if value is None and name in ("first_token", "total"):
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise InputError(f"Timeout({name}=) takes seconds above 0, not {value!r}")

    def answer(self, *, stream: bool) -> float:
        """Seconds in which the answer must begin."""
        if self.first_token is not None:
            return self.first_token
        return FIRST_TOKEN if stream else self.total or PLAIN_ANSWER


@dataclass(slots=True, eq=False)
class Ledger:
    """What has happened in one call so far; shared by all its layers and attempts."""

    now: float = 0.0
    """Monotonic seconds, set by the driver before it resumes the plan."""
    wall: float = 0.0
    """Seconds since the epoch when the call began."""
    started: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)
    errors: list[ProviderError] = field(default_factory=list)
    """One per failed attempt, in order."""
    notices: list[Notice] = field(default_factory=list)
    history: list[Retrying | FailedOver] = field(default_factory=list)
    broken: list[Attempt] = field(default_factory=list)
    """Of a stream that went on: the attempts that broke off after the answer had begun."""
    connect: float = 0.0
    sent: float = 0.0
    """When the last request went out."""
    first_token: float | None = None
    trimmed: ChatRequest | None = None
    """The request without what `fit=` left out, as it went to the last target asked."""
    spent: int = 0
    """Billionths of a US dollar that the call has cost, or that are set aside for it; see `layers/spending.py`."""
    signed: Mapping[str, str] | None = field(default=None, repr=False)
    """Headers of the last request as they were sent, credentials and all."""
    asked: float = 0.0
    """When the last attempt began."""
    outrun: bool = False
    """Another leg of the call has answered: this one is left."""
    payer: Ledger | None = None
    """Of a second leg: the call's own ledger, on which `spent` is counted."""

    @property
    def today(self) -> datetime.date:
        """The day (UTC) as the call sees it."""
        return datetime.datetime.fromtimestamp(self.wall + self.now - self.started, datetime.UTC).date()

    def blame(self, target: Target, error: ProviderError) -> None:
        """Make sure that `error` has a row: one raised before anything was sent has left none."""
        if not any(known is error for known in self.errors):
            self.errors.append(error)
            self.attempts.append(failed_attempt(target.name, error))

    def notice(self, notice: Notice) -> None:
        """Tell the caller once, however many attempts say it."""
        if notice not in self.notices:
            self.notices.append(notice)

    def fork(self) -> Ledger:
        """An empty ledger for a second leg of the same call."""
        return Ledger(now=self.now, wall=self.wall, started=self.started, payer=self)

    def join(self, leg: Ledger, *, won: bool) -> None:
        """Take over what a second leg has written. From then on both write to the same rows: a stream's row is written
        once more at its end."""
        self.attempts += leg.attempts
        leg.attempts = self.attempts
        self.errors += leg.errors
        for notice in leg.notices:
            self.notice(notice)
        if won:
            self.history += leg.history
            self.connect, self.sent, self.first_token = leg.connect, leg.sent, leg.first_token
            self.trimmed, self.signed = leg.trimmed, leg.signed


def failed_attempt(target: str, error: BaseException, seconds: float = 0.0) -> Attempt:
    """A row of the ledger for an attempt that came to nothing."""
    message = str(error.args[0]) if error.args else type(error).__name__
    if not isinstance(error, ProviderError):
        return Attempt(target, error=AttemptError(type(error).__name__, message), seconds=seconds)
    return Attempt(
        target,
        status=error.status,
        error=AttemptError(type(error).__name__, message, error.code),
        phase=error.phase,
        retry_after=error.retry_after,
        seconds=seconds,
    )


@dataclass(slots=True, eq=False)
class Candidate:
    """A target with what is needed to talk to it."""

    target: Target
    adapter: Adapter
    auth: Auth
    timeout: Timeout
    retry: Any = None
    flights: dict[Any, Any] = field(default_factory=dict)
    """Of the account: refreshes of its credentials that are under way; see `ops.Blocking`."""
    location: Location | None = None
    """Set where the host has to be asked for the endpoint's address first."""
    weight: float = 1.0
    """Its share, for strategies that share calls out."""
    gate: Any = None
    """Of the account: who may send; see `routing/gate.py`."""


class Observer(Protocol):
    """Told about every attempt; must not block. Both methods are optional."""

    def attempt_started(self, call: Call) -> None:
        """A request is about to be sent."""

    def attempt_ended(self, call: Call, attempt: Attempt) -> None:
        """It came to an end, good or bad."""


class Transform(Protocol):
    """Events in, events out, in the course of one stream. May hold events back until the `Finished` at the latest."""

    def convert(self, events: Iterable[DecoderEvent]) -> Iterator[DecoderEvent]:
        """The next events, lazily: those before one that raises are handed on."""
        ...


@dataclass(slots=True, eq=False)
class Call:
    """One call on its way inwards. Layers change it by passing a changed copy on."""

    request: ChatRequest
    stream: bool
    candidates: tuple[Candidate, ...]
    candidate: Candidate
    deadline: float | None
    """Moment at which the call's total time is over."""
    ledger: Ledger
    timeout: Timeout
    """This call's own limits, already merged from call, route and account."""
    retry: Any = None
    insists: bool = False
    """The caller gave this call a retry policy of its own: the client's retry budget does not shorten it."""
    observers: Sequence[Any] = ()
    io: Any = None
    """Functions that touch files and DNS, given by the client; see `layers/media.py`."""
    output: OutputSpec | None = None
    """What the answer must fit."""
    output_retries: int = 0
    """How often an answer that does not fit goes back to the model."""
    repair_calls: bool = True
    """Whether tool calls that do not fit go back, too. `run` gives them back itself, and carries the others out."""
    transforms: tuple[Callable[[], Transform], ...] = ()
    """What a stream's events go through before anybody sees them, innermost first; a fresh one for each attempt."""
    fit: Literal["trim"] | int | None = None
    """What the history is trimmed to; see `layers/window.py`."""
    tokenizer: Callable[[], Callable[[str], int] | None] | None = None
    """Loads the tokenizer, which may take a moment; it gives None where the extra is not installed."""
    more: bool = False
    """Whether another target would be asked if this one fails."""
    priority: int = 0
    """Who goes first of those that wait for a free place."""
    route: str | None = None
    """Name of the route that the call names, if it names one."""
    rules: Rules | None = None
    """What keeps targets from being asked; see `layers/policy.py`."""
    spending: Spending | None = None
    """What the call, and all calls of the day, may cost; see `layers/spending.py`."""
    strategy: Strategy = "failover"
    """The route's."""
    traffic: Traffic | None = None
    """What the client knows of its targets; None leaves out all that goes by it."""
    trial: bool = False
    """The target's circuit was open when it was chosen: it is asked once."""
    on_break: Literal["fail", "restart", "continue"] = "fail"
    """What becomes of a stream that breaks after it has begun; see `layers/resume.py`."""
    said: str = ""
    """What the answer said before it broke off, for targets to go on from."""
    hedge: Hedge | None = None
    """When a second target is asked beside one that is slow; see `layers/hedge.py`."""
    claims: set[str] | None = None
    """Of a call with two legs: targets that one of them has taken, and the other passes over."""
    complete: Callable[[Call, Reply], ChatResponse[Any]] | None = None
    """Completes an answer with what only the whole call knows; see `Runtime.finish`."""

    @property
    def target(self) -> Target:
        """The target being asked."""
        return self.candidate.target

    def evolve(self, **changes: Any) -> Call:
        """A copy with some fields changed."""
        # Each attempt makes two or three: this takes 2 us where `dataclasses.replace` takes 9.
        copy = Call(*_fields_of(self))
        for name, value in changes.items():
            setattr(copy, name, value)
        return copy


_fields_of: Callable[[Call], tuple[Any, ...]] = attrgetter(*(field.name for field in fields(Call)))


@dataclass(slots=True, eq=False)
class Outcome:
    """How a stream ended, for finishers."""

    usage: Usage | None
    error: BaseException | None = None
    interrupted: bool = False
    output_tokens: int | None = None
    """Where the host reported no usage: about how many tokens came."""


Finisher: TypeAlias = Callable[[Outcome], "Plan[None] | None"]


@dataclass(slots=True, eq=False)
class Reply:
    """What a plan returns: a plain call's answer, or a committed stream.

    `finishers` outlive the plan: the stream's driver runs them, last in first out and exactly once, on end, error,
    early close, cancellation or garbage collection.
    """

    target: Target
    response: ChatResponse[Any] | None = None
    events: list[DecoderEvent] = field(default_factory=list)
    decoder: StreamDecoder | None = None
    rest: Iterator[DecoderEvent] | None = None
    """The committing read's remaining events, not decoded yet."""
    idle: float = 60.0
    """Seconds that may pass between two pieces of the stream."""
    ended: bool = False
    """The body was read to its end before the stream committed."""
    output_mode: OutputMode = "native"
    """How the JSON that `output=` wants was asked for."""
    headers: Mapping[str, str] = field(default_factory=dict)
    finishers: list[Finisher] = field(default_factory=list)


Handler: TypeAlias = Callable[[Call], Plan[Reply]]
Layer: TypeAlias = Callable[[Call, Handler], Plan[Reply]]


def compose(layers: Sequence[Layer], innermost: Handler) -> Handler:
    """Nest `layers`, outermost first, around `innermost`."""
    handler = innermost
    for layer in reversed(layers):
        handler = _wrap(layer, handler)
    return handler


def _wrap(layer: Layer, handler: Handler) -> Handler:
    return lambda call: layer(call, handler)
