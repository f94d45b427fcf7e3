"""What an outage does to a host's load when very many clients go on asking: a simulation of discrete events.

    python benchmarks/simulate_outage.py                  10,000 clients, each with a call a second
    python benchmarks/simulate_outage.py --clients 500 --rate 3 --seed 2

The clients run the library's own plans (failover, retry, watch) with its own policy, health and budgets, each client
with its own; only time, the network and the host are made up. Nothing is drawn from anything but the seed.

Amplification is requests sent, to all targets, per call made while the host is down. `worst second` is the busiest
second of the outage, which is its first: no client knows yet. `after` is the busiest second after the host is back, as
a share of the load that the same calls make without an outage. `plain` (with --plain) is the same without health and
budgets.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llamaroute.errors import LlamarouteError, OverloadedError, TimeoutError
from llamaroute.layers.failover import failover
from llamaroute.layers.retry import RetryPolicy, retry
from llamaroute.layers.watch import watch
from llamaroute.pipeline.core import Call, Candidate, Ledger, Reply, Timeout, compose
from llamaroute.pipeline.ops import Plan, Send, Sleep
from llamaroute.routing.traffic import Traffic
from llamaroute.spi import ProviderSettings, Target, WireRequest
from llamaroute.types.capability import ModelRow
from llamaroute.types.messages import messages_from
from llamaroute.types.request import ChatRequest
from llamaroute.types.response import ChatResponse, Usage

ANSWER = 0.4
"""Seconds an answer takes."""
REQUEST = ChatRequest(messages_from("Hi"))
WIRE = WireRequest("POST", "https://host.example/chat", {}, b"{}")
RESPONSE: ChatResponse[Any] = ChatResponse(text="Hello", usage=Usage(1, 1, 2))


@dataclass(frozen=True)
class Scenario:
    """What happens, in seconds."""

    name: str
    targets: int = 1
    """The first of them has the outage."""
    share: float = 1.0
    """Of its requests that fail meanwhile."""
    silent: float = 0.0
    """Seconds until a failure is known; 0 is an error at once."""
    before: float = 10.0
    outage: float = 60.0
    after: float = 40.0

    @property
    def end(self) -> float:
        return self.before + self.outage + self.after

    def down(self, now: float) -> bool:
        return self.before <= now < self.before + self.outage


SCENARIOS = (
    Scenario("all requests fail at once"),
    Scenario("all requests get no answer for 5 s", silent=5.0),
    Scenario("every second request fails", share=0.5),
    Scenario("one of two targets fails", targets=2),
    Scenario("one of two targets fails, 120 s", targets=2, outage=120.0),
    Scenario("one of three fails half the time", targets=3, share=0.5),
)


@dataclass
class Result:
    """What came of it."""

    calls: int = 0
    failed: int = 0
    outage_calls: int = 0
    outage_requests: int = 0
    seconds: list[Counter[int]] = field(default_factory=list)
    """Per target: second -> requests."""


def ask(call: Call) -> Plan[Reply]:
    """The innermost step: one request."""
    yield Send(WIRE, call.target, 5.0, 60.0, call.deadline)
    return Reply(call.target, response=RESPONSE)


HANDLER = compose((failover, retry, watch), ask)


def simulate(scenario: Scenario, clients: int, *, seed: int = 1, plain: bool = False, rate: float = 1.0) -> Result:
    """Run a scenario; each client makes `rate` calls a second, at times of its own."""
    random.seed(seed)  # tenacity draws its waits from the module's own
    dice = random.Random(seed)
    result = Result(seconds=[Counter() for _ in range(scenario.targets)])
    targets = [
        Target(f"t{i}", "test", "m", "m", ProviderSettings(kind="test"), ModelRow("m", "m"))
        for i in range(scenario.targets)
    ]
    # Adapter and auth are of the innermost step, which is made up here.
    candidates = tuple(Candidate(t, None, None, Timeout(), RetryPolicy()) for t in targets)  # type: ignore[arg-type]
    knowledge = [None if plain else Traffic(random.Random(dice.random())) for _ in range(clients)]
    # (moment, tie, what is resumed, with what): a client's next call, or a plan
    events: list[tuple[float, int, Callable[[float], None]]] = []
    ties = iter(range(1 << 60))

    def at(moment: float, act: Callable[[float], None]) -> None:
        heapq.heappush(events, (moment, next(ties), act))

    def begin(client: int, now: float) -> None:
        if now >= scenario.end:
            return
        at(now + dice.expovariate(rate), lambda moment: begin(client, moment))
        ledger = Ledger(now=now, started=now)
        call = Call(
            REQUEST, False, candidates, candidates[0], now + 600.0, ledger, Timeout(), traffic=knowledge[client]
        )
        result.calls += 1
        result.outage_calls += scenario.down(now)
        resume(HANDLER(call), ledger, None, now)

    def resume(plan: Plan[Reply], ledger: Ledger, error: Exception | None, now: float) -> None:
        ledger.now = now
        try:
            op = plan.send(None) if error is None else plan.throw(error)
        except StopIteration:
            return
        except LlamarouteError:
            result.failed += 1
            return
        if isinstance(op, Sleep):
            at(now + op.seconds, lambda moment: resume(plan, ledger, None, moment))
            return
        assert isinstance(op, Send)
        assert op.target is not None
        index = targets.index(op.target)
        result.seconds[index][int(now)] += 1
        result.outage_requests += scenario.down(now)
        if index == 0 and scenario.down(now) and dice.random() < scenario.share:
            if scenario.silent:
                failure: Exception = TimeoutError("no answer", phase="first_token")
                at(now + scenario.silent, lambda moment: resume(plan, ledger, failure, moment))
            else:
                failure = OverloadedError("down", status=503)
                at(now + 0.02, lambda moment: resume(plan, ledger, failure, moment))
            return
        at(now + ANSWER, lambda moment: resume(plan, ledger, None, moment))

    for client in range(clients):
        at(dice.expovariate(rate), lambda moment, client=client: begin(client, moment))
    while events:
        now, _, act = heapq.heappop(events)
        act(now)
    return result


def summary(scenario: Scenario, result: Result, clients: int, rate: float = 1.0) -> dict[str, float]:
    """The figures."""
    load = clients * rate
    down = range(int(scenario.before), int(scenario.before + scenario.outage))
    back = range(int(scenario.before + scenario.outage), int(scenario.end))
    sent = [sum(counts[second] for counts in result.seconds) for second in range(int(scenario.end))]
    return {
        "calls": result.calls,
        "amplification": result.outage_requests / result.outage_calls,
        "worst_second": max(sent[second] for second in down) / load,
        "after": max(sent[second] for second in back) / load,
        "after_at_the_failed": max(result.seconds[0][second] for second in back) / load,
        "lost": result.failed / result.calls,
    }


def main() -> None:
    """Print a line for each scenario, with and without health and budgets."""
    gc.set_threshold(200_000)  # a million calls: looking for cycles is a third of the time otherwise
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1.0, help="calls a second of each client")
    parser.add_argument("--plain", action="store_true", help="also without health and budgets")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.json:
        print(
            f"{options.clients:,} clients, {options.rate:g} calls a second each; an outage of 60 s; seed {options.seed}"
        )
        print(f"{'':44}amplification  worst second  after  at the failed  calls lost")
    for scenario in SCENARIOS:
        for plain in (False, True) if options.plain else (False,):
            result = simulate(scenario, options.clients, seed=options.seed, plain=plain, rate=options.rate)
            figures = summary(scenario, result, options.clients, options.rate)
            if options.json:
                print(json.dumps({"scenario": scenario.name, "plain": plain, **figures}))
                continue
            name = f"{scenario.name}{', plain' if plain else ''}"
            print(
                f"{name:44}{figures['amplification']:12.3f}x{figures['worst_second']:13.2f}x{figures['after']:6.2f}x"
                f"{figures['after_at_the_failed']:14.2f}x{figures['lost']:12.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
