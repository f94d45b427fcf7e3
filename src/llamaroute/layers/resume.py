"""What becomes of a stream that breaks after it has begun, where the route lets it go on (`on_break`).

The stream's driver asks for a call that goes on from here, runs it as a plan like any other, and hands its events on
behind a `Restarted` or `Continued`. A broken stream is gone on with only if nothing of it can have been acted on: a
tool call that is complete may have been carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..errors import ProviderError
from ..pipeline.core import Call, Candidate
from ..spi import DecoderEvent, Prefiller
from ..types.events import Finished, TextDelta, ToolCallStarted
from ..types.messages import Message, user
from ..types.parts import Part, Text
from ..types.request import ChatRequest
from .order import ordered

__all__ = ["MOST", "Join", "anchor", "can_continue", "continued", "prefills", "resume"]

MOST = 3
"""How often one stream is gone on with."""
ANCHOR = 60
"""Characters of the last words that a model is asked to begin with."""
TAIL = 400
"""Characters at the end of an answer that what follows may repeat."""
SHORTEST = 8
"""Characters; fewer that are the same are chance."""
LEAST = 16
"""Tokens that a continuation may have, however many are used up."""


def can_continue(call: Call, text: str) -> bool:
    """Whether an answer can be gone on with, rather than begun anew: JSON that a host is held to starts at its first
    brace."""
    return call.on_break == "continue" and bool(text.strip()) and call.request.output is None


def resume(call: Call, error: ProviderError, broken: str, text: str, tokens: int) -> Call | None:
    """The call that goes on where `call` broke, or None when it is not to go on.

    Args:
        call: the call as it began.
        error: what broke it.
        broken: name of the target whose stream it was.
        text: what was said and holds; empty for an answer that begins anew.
        tokens: about how many tokens that was.
    """
    ledger = call.ledger
    if call.on_break == "fail" or not (error.retryable or error.failover):
        return None
    if call.deadline is not None and ledger.now >= call.deadline:
        return None
    # Those that have failed in this call come last, the one that broke off among them. One whose queue had no place for
    # it has not failed.
    failed = {attempt.target for attempt in ledger.attempts if attempt.error is not None and attempt.phase != "queue"}
    candidates = sorted(ordered(call), key=lambda candidate: candidate.target.name in failed)
    first = candidates[0].target
    if first.name in failed:
        if not error.retryable and first.name == broken:
            return None
        if call.traffic is not None and not call.traffic.budget.take(first.name, ledger.now):
            return None
    request = call.request
    if text and request.max_tokens is not None:
        request = request.evolve(max_tokens=max(LEAST, request.max_tokens - tokens))
    return call.evolve(
        request=request,
        candidates=tuple(candidates),
        candidate=candidates[0],
        strategy="failover",
        said=text,
        hedge=None,  # one answer that is late already is not raced for
    )


def prefills(candidate: Candidate) -> bool:
    """Whether its host goes on from a last turn of the assistant."""
    return isinstance(candidate.adapter, Prefiller) and candidate.adapter.prefills(candidate.target)


def continued(request: ChatRequest, said: str, candidate: Candidate) -> ChatRequest:
    """The request that asks the candidate to go on from `said`."""
    messages = request.messages
    parts: tuple[Part, ...] = (Text(said),)
    if messages and messages[-1].role == "assistant" and not messages[-1].tool_calls:  # a prefill of the caller's own
        messages, parts = messages[:-1], (*messages[-1].parts, *parts)
    if prefills(candidate):
        return request.evolve(messages=(*messages, Message("assistant", _joined(parts))))
    ask = (
        "Your answer broke off. Go on with it from where it broke off, without any remark: begin with its last words, "
        f"which follow, exactly as they are.\n\n{anchor(said)}"
    )
    return request.evolve(messages=(*messages, Message("assistant", _joined(parts)), user(ask)))


def _joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    if all(isinstance(part, Text) for part in parts):
        return (Text("".join(part.text for part in parts if isinstance(part, Text))),)
    return tuple(parts)


def anchor(said: str) -> str:
    """The last words of an answer."""
    said = said.rstrip()
    if len(said) <= ANCHOR:
        return said.lstrip()
    last = said[-ANCHOR:]
    _, space, whole = last.partition(" ")
    return whole if space and not said[-ANCHOR - 1].isspace() else last.lstrip()


class Join:
    """Takes out of a continuation what repeats the end of the answer. Holds text back while it may be that."""

    __slots__ = ("_done", "_held", "_said", "_strip", "_tail")

    def __init__(self, said: str) -> None:
        self._said = said
        self._tail = said.rstrip()[-TAIL:]
        self._held = ""
        self._done = False
        self._strip = False
        """The answer ended in white space, which what follows the repetition may begin with."""

    def convert(self, events: Iterable[DecoderEvent]) -> Iterator[DecoderEvent]:
        """See `pipeline.core.Transform`."""
        for event in events:
            if self._strip and isinstance(event, TextDelta):
                if text := event.text.lstrip():
                    self._strip = False
                    yield TextDelta(text)
            elif self._done:
                yield event
            elif isinstance(event, TextDelta):
                self._held += event.text
                held = self._held.lstrip()
                # Anything that stands in the tail before its end may go on as the tail does.
                if held and (len(held) >= len(self._tail) or held not in self._tail[:-1]):
                    yield from self._let_go()
            else:
                if isinstance(event, ToolCallStarted | Finished):
                    yield from self._let_go()
                yield event

    def _let_go(self) -> Iterator[DecoderEvent]:
        self._done = True
        held, tail = self._held.lstrip(), self._tail
        words = anchor(tail)
        # As it was asked, first of all: text that repeats itself may have more in common.
        same = len(words) if held.startswith(words) else _overlap(tail, held)
        if same:
            rest = held[same:]
            if self._said[-1:].isspace():
                rest = rest.lstrip()
                self._strip = not rest
        else:
            rest = self._held
            if rest[:1].isalnum() and self._said[-1:].isalnum():
                rest = f" {rest}"  # asked for the last words first, a model that leaves them out begins a new one
        if rest:
            yield TextDelta(rest)


def _overlap(tail: str, held: str) -> int:
    """How many characters of the end of `tail` are the beginning of `held`."""
    lengths = range(min(len(held), len(tail)), min(SHORTEST, len(tail)) - 1, -1)
    return next((n for n in lengths if held[:n] == tail[-n:]), 0)
