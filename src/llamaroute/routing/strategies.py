"""In which order a route's targets are asked. Pure; chance and the clock are handed in.

Only the first place is the strategy's point; the others are asked when it fails. What cannot serve the request, and
what cools down, is kept out of first places by the failover layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, log
from typing import Protocol, TypeVar

from ..spi import Target
from ..tokens import estimate_tokens
from ..types.request import ChatRequest
from ..types.routing import Strategy
from .traffic import FRESH, Traffic

__all__ = ["order", "price"]

EXPLORE = 0.02
"""Share of calls in which `lowest-latency` asks another target than the fastest first."""
ANSWER = 400
"""Tokens that an answer is taken to have, for comparing prices, where the request sets no lower limit."""


class Choice(Protocol):
    """What is put in order."""

    @property
    def target(self) -> Target:
        """The target."""
        ...

    @property
    def weight(self) -> float:
        """Its share."""
        ...


T = TypeVar("T", bound=Choice)


def order(
    strategy: Strategy,
    choices: Sequence[T],
    request: ChatRequest,
    *,
    stream: bool,
    route: str,
    traffic: Traffic,
    now: float,
    likely: bool = False,
) -> tuple[T, ...]:
    """The order for one call. Ties stay as configured.

    Args:
        strategy: the route's.
        choices: targets that can serve the request, as configured.
        request: for its price.
        stream: whether it is for a stream.
        route: whose turns are counted.
        traffic: what is known of the targets.
        now: the moment.
        likely: give the most likely order; nothing is drawn and no turn is taken.
    """
    if len(choices) < 2:
        return tuple(choices)
    match strategy:
        case "failover":
            return tuple(choices)
        case "weighted":
            if likely:
                return _by(choices, lambda choice: -choice.weight)
            # Drawn without putting back, each by its share of what is left (Efraimidis and Spirakis, 2006).
            return _by(choices, lambda choice: -log(1.0 - traffic.dice.random()) / choice.weight)
        case "round-robin":
            behind = traffic.turns.setdefault(route, {})
            return _round_robin(choices, dict(behind) if likely else behind)
        case "least-busy":
            return _by(choices, lambda choice: len(traffic.load(choice.target.name).flying) / choice.weight)
        case "cheapest":
            tokens = estimate_tokens(request)
            return _by(choices, lambda choice: price(choice.target, request, tokens))
        case "lowest-latency":
            ranked = _by_latency(choices, stream, traffic, now)
            if likely or traffic.dice.random() >= EXPLORE:
                return ranked
            place = 1 + int(traffic.dice.random() * (len(ranked) - 1))
            return (ranked[place], *ranked[:place], *ranked[place + 1 :])


def price(target: Target, request: ChatRequest, tokens: int) -> float:
    """US dollars that a request of so many input tokens costs, or infinity where no price is known."""
    row = target.row
    if row.input_price is None or row.output_price is None:
        return float("inf")
    answer = min(request.max_tokens or ANSWER, ANSWER)
    return (tokens * float(row.input_price) + answer * float(row.output_price)) / 1e6


def _by(choices: Sequence[T], key: Callable[[T], float]) -> tuple[T, ...]:
    return tuple(sorted(choices, key=key))


def _round_robin(choices: Sequence[T], behind: dict[str, float]) -> tuple[T, ...]:
    """The one that is most behind its share, then those that stand after it. Weights 2, 1, 1 give a b c a, not a a b c
    (nginx's smooth weighted round-robin)."""
    for choice in choices:
        behind[choice.target.name] = behind.get(choice.target.name, 0.0) + choice.weight
    place = max(range(len(choices)), key=lambda index: (behind[choices[index].target.name], -index))
    behind[choices[place].target.name] -= sum(choice.weight for choice in choices)
    return (*choices[place:], *choices[:place])


def _by_latency(choices: Sequence[T], stream: bool, traffic: Traffic, now: float) -> tuple[T, ...]:
    """The fastest first. One that is not known is tried first, unless a call is on its way there already; what was
    seen long ago counts as faster and faster, so that a target that was slow once gets another chance."""

    def seconds(choice: T) -> float:
        load = traffic.load(choice.target.name)
        speed = load.speed.get(stream)
        if speed is None:
            return float("inf") if load.flying else 0.0
        age = max(0.0, now - speed.at)
        return speed.seconds if load.flying else speed.seconds * exp(-age / FRESH)

    return _by(choices, seconds)
