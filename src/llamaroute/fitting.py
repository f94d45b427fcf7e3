"""Makes a request fit a number of tokens by leaving out what was said longest ago. Pure.

    system | exchange | exchange | ... | the last user turn | tool step | tool step
    kept     <- left out, oldest first    kept                <- then these   the last one is kept

An exchange is a user's turn with all that follows it up to the next one. Whatever goes, goes whole: a tool call is
never parted from its results. Of an exchange, pictures go before the text does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeAlias

from .types.dataclass import dataclass
from .types.messages import Message
from .types.parts import Document, Image, Part, Text, Video
from .types.request import ChatRequest

__all__ = ["LEFT_OUT", "Fitted", "fit"]

Weigh: TypeAlias = Callable[[Message], int]

LEFT_OUT = Text("[an image that stood here was left out]")
"""Stands for a picture of an older turn, so that what is said about it does not hang in the air."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The request as it fits, or as near as it comes: `tokens` it has, how many messages and pictures it lost."""

    request: ChatRequest
    tokens: int
    messages: int = 0
    pictures: int = 0


def fit(request: ChatRequest, budget: int, weigh: Weigh, frame: int = 0) -> Fitted:
    """The request with as much of its history as `budget` tokens hold.

    Args:
        request: what is asked.
        budget: tokens it may have.
        weigh: a message's tokens.
        frame: tokens of all that is no message.
    """
    kept: list[Message | None] = list(request.messages)
    weights = [weigh(message) for message in request.messages]
    total = frame + sum(weights)
    left_out = pictures = 0
    for group in _droppable(request.messages):
        if total <= budget:
            break
        for index in group:
            message = kept[index]
            assert message is not None
            bare, seen = _without_pictures(message)
            if seen and total > budget:
                weight = min(weigh(bare), weights[index])
                total += weight - weights[index]
                kept[index], weights[index], pictures = bare, weight, pictures + seen
        if total <= budget:
            break
        for index in group:
            message = kept[index]
            assert message is not None
            pictures -= sum(part is LEFT_OUT for part in message.parts)  # they go with their message
            kept[index] = None
            total -= weights[index]
            left_out += 1
    messages = tuple(message for message in kept if message is not None)
    changed = left_out or pictures
    return Fitted(request.evolve(messages=messages) if changed else request, total, left_out, pictures)


def _droppable(messages: Sequence[Message]) -> list[list[int]]:
    """Indices of what may be left out, in the order in which it goes; what must go together is one group."""
    whole = _seams(messages)
    first, behind = _last_user_turn(messages)
    end = max(i for i in range(first + 1) if whole[i])
    head = [0, *(i for i in range(1, end) if whole[i] and _begins_exchange(messages, i)), end]
    tail = [i for i in range(behind, len(messages)) if whole[i] and messages[i].role == "assistant"]
    spans = [*pairwise(head), *pairwise(tail)]  # what begins last in the tail is kept: the model goes on from there
    groups = [[i for i in range(*span) if messages[i].role != "system"] for span in spans]
    return [group for group in groups if group]


def _last_user_turn(messages: Sequence[Message]) -> tuple[int, int]:
    """Where it begins, and what stands behind it; both 0 when there is none."""
    behind = next((i + 1 for i in reversed(range(len(messages))) if messages[i].role == "user"), 0)
    first = behind
    while first and messages[first - 1].role == "user":
        first -= 1
    return first, behind


def _begins_exchange(messages: Sequence[Message], index: int) -> bool:
    return messages[index].role == "user" and messages[index - 1].role != "user"


def _seams(messages: Sequence[Message]) -> list[bool]:
    """Whether the messages may be parted before each index: not between a call and what answers it."""
    whole = [True] * (len(messages) + 1)
    for index, message in enumerate(messages):
        if message.role != "tool":
            continue
        for start in range(_asked(messages, index) + 1, index + 1):
            whole[start] = False
    return whole


def _asked(messages: Sequence[Message], index: int) -> int:
    """Where the call is that the tool's message at `index` answers; failing that, the message before it."""
    wanted = messages[index].tool_call_id
    for before in range(index - 1, -1, -1):
        if any(call.id == wanted for call in messages[before].tool_calls):
            return before
    return max(index - 1, 0)


def _without_pictures(message: Message) -> tuple[Message, int]:
    parts: tuple[Part, ...] = tuple(
        LEFT_OUT if isinstance(part, Image | Document | Video) else part for part in message.parts
    )
    seen = sum(new is not old for new, old in zip(parts, message.parts, strict=True))
    return (replace(message, parts=parts) if seen else message), seen
