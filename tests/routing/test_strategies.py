"""The order in which a route's targets are asked, with chance and clock handed in."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaroute.routing.strategies import EXPLORE, order
from llamaroute.routing.traffic import FRESH, Traffic
from llamaroute.spi import ProviderSettings, Target
from llamaroute.types.capability import ModelRow
from llamaroute.types.messages import messages_from
from llamaroute.types.parts import Image
from llamaroute.types.request import ChatRequest
from llamaroute.types.routing import Strategy

from ..media.made import png_head
from .test_health import Fixed

NOW = 1000.0
ALWAYS = Fixed(0.999)
"""Dice that never explore."""


class Choice(NamedTuple):
    target: Target
    weight: float = 1.0


def choice(name: str, weight: float = 1.0, price: tuple[str, str] | None = None) -> Choice:
    row = ModelRow("m", "m")
    if price is not None:
        row = row.evolve(input_price=Decimal(price[0]), output_price=Decimal(price[1]))
    return Choice(Target(name, "test", "m", "m", ProviderSettings(kind="test"), row), weight)


def names(strategy: Strategy, choices: list[Choice], traffic: Traffic | None = None, **fields: Any) -> str:
    request = fields.pop("request", None) or ChatRequest(messages_from("Hi"))
    traffic = traffic or Traffic(ALWAYS)
    options = {"stream": True, "route": "r", "now": NOW, **fields}
    return "".join(c.target.provider for c in order(strategy, choices, request, traffic=traffic, **options))


ABC = [choice("a"), choice("b"), choice("c")]


@given(
    st.sampled_from(["failover", "weighted", "round-robin", "lowest-latency", "cheapest", "least-busy"]),
    st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    st.integers(0, 1000),
    st.booleans(),
)
@settings(max_examples=200, derandomize=True, deadline=None)
def test_every_target_is_there_once(strategy: Strategy, weights: list[float], seed: int, likely: bool) -> None:
    choices = [choice("abcdef"[index], weight) for index, weight in enumerate(weights)]
    traffic = Traffic(random.Random(seed))
    for _ in range(5):
        assert sorted(names(strategy, choices, traffic, likely=likely)) == [c.target.provider for c in choices]


def test_failover_is_the_order_of_the_file():
    assert names("failover", ABC) == "abc"


# -- weighted ---------------------------------------------------------------------------------------------------------


def test_weighted_draws_by_weight_and_so_does_who_comes_next():
    choices = [choice("a", 6), choice("b", 3), choice("c", 1)]
    traffic = Traffic(random.Random(5))
    drawn = Counter(names("weighted", choices, traffic) for _ in range(20_000))
    first = Counter({name: sum(n for text, n in drawn.items() if text[0] == name) for name in "abc"})
    assert [first[name] / 20_000 for name in "abc"] == pytest.approx([0.6, 0.3, 0.1], abs=0.015)
    after_a = drawn["abc"] / (drawn["abc"] + drawn["acb"])
    assert after_a == pytest.approx(0.75, abs=0.015)


def test_the_likely_order_of_weighted_is_by_weight():
    assert names("weighted", [choice("a", 1), choice("b", 3), choice("c", 3)], likely=True) == "bca"


# -- round-robin ------------------------------------------------------------------------------------------------------


def test_round_robin_takes_turns_and_goes_on_from_there():
    traffic = Traffic(ALWAYS)
    assert [names("round-robin", ABC, traffic) for _ in range(4)] == ["abc", "bca", "cab", "abc"]


def test_round_robin_by_weight_is_spread_out():
    traffic = Traffic(ALWAYS)
    choices = [choice("a", 2), choice("b"), choice("c")]
    assert "".join(names("round-robin", choices, traffic)[0] for _ in range(8)) == "abcaabca"


def test_routes_have_turns_of_their_own():
    traffic = Traffic(ALWAYS)
    assert names("round-robin", ABC, traffic, route="one") == names("round-robin", ABC, traffic, route="two") == "abc"


def test_looking_takes_no_turn():
    traffic = Traffic(ALWAYS)
    names("round-robin", ABC, traffic)
    assert [names("round-robin", ABC, traffic, likely=True) for _ in range(2)] == ["bca", "bca"]
    assert names("round-robin", ABC, traffic) == "bca"


def test_one_that_was_left_out_has_no_turns_to_catch_up_with():
    traffic = Traffic(ALWAYS)
    for _ in range(10):
        names("round-robin", ABC[:2], traffic)
    assert Counter(names("round-robin", ABC, traffic)[0] for _ in range(9)) == {"a": 3, "b": 3, "c": 3}


# -- least-busy -------------------------------------------------------------------------------------------------------


def fly(traffic: Traffic, name: str, calls: int) -> None:
    traffic.load(f"{name}:m").flying.update(object() for _ in range(calls))


def test_least_busy_counts_calls_under_way():
    traffic = Traffic(ALWAYS)
    for name, calls in (("a", 3), ("b", 1), ("c", 2)):
        fly(traffic, name, calls)
    assert names("least-busy", ABC, traffic) == "bca"


def test_least_busy_goes_by_weight_and_keeps_ties_in_order():
    traffic = Traffic(ALWAYS)
    choices = [choice("a", 4), choice("b", 1), choice("c", 1)]
    assert names("least-busy", choices, traffic) == "abc"
    fly(traffic, "a", 2)
    fly(traffic, "b", 1)
    assert names("least-busy", choices, traffic) == "cab"


# -- cheapest ---------------------------------------------------------------------------------------------------------


def test_cheapest_goes_by_the_requests_own_tokens():
    choices = [choice("a", price=("1", "0.1")), choice("b", price=("0.1", "1")), choice("c")]
    short = ChatRequest(messages_from("Hi"))
    long = ChatRequest(messages_from("word " * 20_000), max_tokens=10)
    assert names("cheapest", choices, request=short) == "abc"
    assert names("cheapest", choices, request=long) == "bac"


def test_cheapest_counts_pictures():
    choices = [choice("a", price=("1", "0.1")), choice("b", price=("0.1", "1"))]
    picture = ChatRequest(messages_from(["What is this?", Image(png_head(1400, 1400))]))
    assert names("cheapest", choices, request=picture) == "ba"


def test_what_has_no_price_comes_last_in_the_files_order():
    assert names("cheapest", [choice("a"), choice("b", price=("9", "9")), choice("c")]) == "bac"


def test_what_is_free_comes_first():
    assert names("cheapest", [choice("a", price=("0.1", "0.1")), choice("b", price=("0", "0"))]) == "ba"


# -- lowest-latency ---------------------------------------------------------------------------------------------------


def told(traffic: Traffic, name: str, seconds: float, at: float = NOW, *, stream: bool = True) -> None:
    traffic.began(choice(name).target, seconds, at, stream=stream)


def test_the_fastest_comes_first():
    traffic = Traffic(ALWAYS)
    for name, seconds in (("a", 0.9), ("b", 0.2), ("c", 0.5)):
        told(traffic, name, seconds)
    assert names("lowest-latency", ABC, traffic) == "bca"


def test_streams_and_plain_calls_are_told_apart():
    traffic = Traffic(ALWAYS)
    for name, stream, plain in (("a", 0.1, 9.0), ("b", 0.2, 2.0), ("c", 0.3, 3.0)):
        told(traffic, name, stream)
        told(traffic, name, plain, stream=False)
    assert names("lowest-latency", ABC, traffic) == "abc"
    assert names("lowest-latency", ABC, traffic, stream=False) == "bca"


def test_what_is_not_known_is_tried_by_one_call():
    traffic = Traffic(ALWAYS)
    told(traffic, "a", 0.1)
    told(traffic, "b", 0.2)
    assert names("lowest-latency", ABC, traffic)[0] == "c"
    fly(traffic, "c", 1)
    assert names("lowest-latency", ABC, traffic) == "abc"


def test_one_slow_answer_does_not_count_for_ever():
    traffic = Traffic(ALWAYS)
    told(traffic, "a", 0.2)
    told(traffic, "b", 2.0)
    two = ABC[:2]
    later = NOW + 3 * FRESH
    told(traffic, "a", 0.2, later)
    assert names("lowest-latency", two, traffic, now=NOW + 1)[0] == "a"
    assert names("lowest-latency", two, traffic, now=later)[0] == "b"
    told(traffic, "b", 0.1, later)
    assert traffic.load("b:m").speed[True].seconds < 0.3, "what is old weighs little"


def test_the_mean_follows_and_is_not_thrown_by_one():
    traffic = Traffic(ALWAYS)
    told(traffic, "a", 0.2)
    told(traffic, "a", 1.2)
    assert traffic.load("a:m").speed[True].seconds == pytest.approx(0.5)
    for _ in range(20):
        told(traffic, "a", 1.2)
    assert traffic.load("a:m").speed[True].seconds == pytest.approx(1.2, abs=0.01)


def test_a_few_calls_try_another():
    traffic = Traffic(random.Random(1))
    for name, seconds in (("a", 0.1), ("b", 0.2), ("c", 0.5)):
        told(traffic, name, seconds)
    first = Counter(names("lowest-latency", ABC, traffic)[0] for _ in range(20_000))
    assert (first["b"] + first["c"]) / 20_000 == pytest.approx(EXPLORE, abs=0.004)
    assert min(first["b"], first["c"]) > 100
    assert {names("lowest-latency", ABC, traffic, likely=True) for _ in range(500)} == {"abc"}
