"""The chaos run with four processes that share limits through a Redis server which is killed and started again.

    python benchmarks/chaos_shared.py                    2,000 calls, 16 at once in each of four processes
    python benchmarks/chaos_shared.py --calls 200 --seed 7

Hosts, weather, routes, calls and rules are those of chaos.py. Two processes use the blocking client, two asyncio's.
All limit each host's account to RATE requests a minute and CONCURRENCY calls under way. The seed says when the Redis
server is killed (SIGKILL; it keeps nothing) and when it is back: the first time after some seconds, the second at once,
and so on for as long as there are calls.

One rule more: in no time of t seconds does a host see more requests than the limit's t seconds' worth and one burst.
What is counted is what the host has received; requests that it refused with 401 are left out (a token had ended, and
the same attempt was sent again). A request may take longer on its way than the next one: a host may see as many more as
the rate gives in the difference between its slowest and its fastest request (`transit`), and in TOLD, as an answer of
Redis may be as long under way.

Needs redis-server and the extras `bedrock` and `redis`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

if __name__ != "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
import chaos

from llamaroute.pipeline.core import Call
from llamaroute.types.response import Attempt, AttemptError

PROCESSES = ("asyncio", "threads", "asyncio", "threads")
RATE = 900
"""Requests a minute, for each host's account."""
CONCURRENCY = 24
TOLD = 0.1
"""Seconds that an answer of Redis may take; the library waits no longer."""
NUMBER = re.compile(r"call-(\d{6})")


# ── Redis ──


class Redis:
    """A server that keeps nothing, on a port of its own."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it listens."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([*command, "--loglevel", "warning"], stdout=subprocess.DEVNULL, cwd="/tmp")
        until = time.monotonic() + 10.0
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return
            time.sleep(0.01)
        raise RuntimeError("redis-server does not listen")

    def kill(self) -> None:
        """It is gone, and all it knew."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def outages(seed: int) -> Iterator[tuple[float, float]]:
    """Seconds until the server is killed, and until it is back: a long outage and a short one by turns."""
    dice = random.Random(f"{seed}/redis")
    yield dice.uniform(2.0, 4.0), dice.uniform(2.0, 4.0)
    while True:
        yield dice.uniform(3.0, 6.0), 0.0
        yield dice.uniform(3.0, 6.0), dice.uniform(1.0, 4.0)


class Outages(threading.Thread):
    """Kills the server and starts it again until it is told to stop."""

    def __init__(self, redis: Redis, seed: int) -> None:
        super().__init__()
        self.count = 0
        self._redis, self._plan, self._over = redis, outages(seed), threading.Event()

    def run(self) -> None:
        """See `Thread`."""
        for calm, away in self._plan:
            if self._over.wait(calm):
                return
            self._redis.kill()
            self.count += 1
            self._over.wait(away)
            self._redis.start()

    def stop(self) -> None:
        """The server is there afterwards."""
        self._over.set()
        self.join()


# ── one of the processes ──


class Sent:
    """An observer: when each attempt was let out by its account's gate."""

    def __init__(self) -> None:
        self.attempts: list[tuple[int, str, float]] = []

    def attempt_started(self, call: Call) -> None:
        """See `Observer`."""
        if (found := NUMBER.search(repr(call.request))) is not None:
            self.attempts.append((int(found[1]), call.target.provider, time.monotonic()))


class Heard(logging.Handler):
    """What the library logs of the server."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """See `Handler`."""
        text = record.getMessage()
        self.counts.update(what for what in ("does not answer", "answers again") if what in text)


def take_part(index: int) -> None:
    """A client's process: hears what to do, and says what came of it."""
    plan = json.loads(sys.stdin.readline())
    seed, work = plan["seed"], chaos.WORK[PROCESSES[index]]
    heard, sent = Heard(), Sent()
    logging.getLogger("llamaroute").addHandler(heard)
    providers = chaos.with_login(plan["tables"], plan["login"])
    chaos.warm_up(work, providers)
    threads, files = chaos.settled()
    chaos.tell({"ready": True})
    sys.stdin.readline()
    table = {
        "providers": providers,
        "routes": chaos.routes(seed),
        "limits": {host: {"requests_per_minute": plan["rate"], "concurrency": CONCURRENCY} for host in chaos.HOSTS},
        "state": {"url": plan["state"]},
    }
    calls = chaos.draw(seed, plan["calls"])[index :: len(PROCESSES)]
    ended, counted, tasks = work(table, calls, plan["concurrent"], (sent,))
    after_threads, after_files = chaos.settled(threads, files)
    chaos.tell(
        {
            "ended": [packed(found) for found in ended],
            "counted": counted,
            "sent": sent.attempts,
            "heard": heard.counts,
            "left": {"tasks": tasks, "threads": max(0, after_threads - threads), "files": max(0, after_files - files)},
        }
    )


def packed(found: chaos.Ended) -> dict[str, Any]:
    """What another process needs to know of a call."""
    names = ("target", "status", "phase", "seconds")
    kept = [
        {**{name: getattr(a, name) for name in names}, "error": None if a.error is None else asdict(a.error)}
        for a in found.attempts
    ]
    return {**vars(found), "asked": asdict(found.asked), "attempts": kept}


def unpacked(row: Mapping[str, Any]) -> chaos.Ended:
    """The same again."""
    attempts = tuple(
        Attempt(**{**attempt, "error": attempt["error"] and AttemptError(**attempt["error"])})
        for attempt in row["attempts"]
    )
    return chaos.Ended(**{**row, "asked": chaos.Asked(**row["asked"]), "attempts": attempts})


# ── the run ──


@dataclass
class Run:
    """What all processes came to."""

    made: chaos.Run
    rate: int
    """Requests a minute, for each host's account."""
    sent: list[tuple[int, str, float]]
    """Call, host, and when its gate had let it out."""
    outages: int
    heard: list[dict[str, int]] = field(default_factory=list)
    """Of each process: how often it found the server gone, and back."""


def run(calls: int, seed: int, concurrent: int, rate: int = RATE) -> Run:
    """Let the processes make their calls, and look what is left."""
    redis, hosts = Redis(), chaos.Hosts(seed)
    children: list[subprocess.Popen[str]] = []
    try:
        redis.start()
        plan = {
            "seed": seed, "calls": calls, "concurrent": concurrent, "tables": hosts.tables, "login": hosts.login,
            "rate": rate, "state": f"redis://127.0.0.1:{redis.port}/0",
        }  # fmt: skip
        for index in range(len(PROCESSES)):
            command = [sys.executable, str(Path(__file__).resolve()), "--process", str(index)]
            children.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, "NO_PROXY": "*"},
                )
            )
            say(children[-1], json.dumps(plan))
        for child in children:
            hear(child)
        began = hosts.begin()
        for child in children:
            say(child, "go")
        trouble = Outages(redis, seed)
        trouble.start()
        try:
            told = [hear(child) for child in children]
        finally:
            trouble.stop()
        log, connections = hosts.report()
    finally:
        hosts.close()
        for child in children:
            child.kill()
            child.communicate()
        redis.kill()
    left: Counter[str] = Counter(tasks=0, threads=0, files=0, connections=connections)
    for each in told:
        left.update(each["left"])
    ended = [unpacked(row) for each in told for row in each["ended"]]
    counted = sum(each["counted"] for each in told)
    made = chaos.Run("four processes", seed, began, ended, counted, log, dict(left))
    sent = [(number, host, moment - began) for each in told for number, host, moment in each["sent"]]
    return Run(made, rate, sent, trouble.count, [each["heard"] for each in told])


def say(child: subprocess.Popen[str], line: str) -> None:
    """A line for a process."""
    assert child.stdin is not None
    print(line, file=child.stdin, flush=True)


def hear(child: subprocess.Popen[str]) -> Any:
    """What a process says."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError("a client's process has ended")
    return json.loads(line)


# ── the rules ──


def above(moments: Sequence[float], rate: float) -> float:
    """By how much the events of any window exceed `rate` a second, at most."""
    most, least = 0.0, float("inf")
    for count, moment in enumerate(sorted(moments)):
        least = min(least, count - rate * moment)
        most = max(most, count + 1 - rate * moment - least)
    return most


def burst(rate: int) -> float:
    """What may go out at once."""
    return max(1.0, rate / 10)


@dataclass
class Flow:
    """What a host has received."""

    requests: int
    above: float
    """By so much a window exceeds the limit at most."""
    let_out: float
    """The same of the moments at which the gates let them out."""
    transit: float
    """Seconds by which its slowest request was slower than its fastest."""
    allowed: float
    """What `above` may come to."""


def flows(made: Run) -> dict[str, Flow]:
    """By host."""
    found, rate = {}, made.rate / 60
    for host in chaos.HOSTS:
        seen = [each for each in made.made.log if each.host == host]
        seen = [each for each in seen if not (host == chaos.TOKENED and each.status == 401)]
        out = [(number, moment) for number, where, moment in made.sent if where == host]
        by_call: dict[int, list[float]] = {}
        for number, moment in sorted(out, key=lambda pair: pair[1]):
            by_call.setdefault(number, []).append(moment)
        took = []
        for each in sorted(seen, key=lambda each: each.moment):
            # Of the attempts of a call at a host, the last that had been let out by then.
            before = [moment for moment in by_call.get(each.call, ()) if moment <= each.moment]
            took.append(each.moment - before[-1] if before else 0.0)
        spread = max(took, default=0.0) - min(took, default=0.0)
        moments, gates = [each.moment for each in seen], [moment for _, moment in out]
        allowed = burst(made.rate) + rate * (spread + TOLD)
        found[host] = Flow(len(seen), above(moments, rate), above(gates, rate), spread, allowed)
    return found


def judged(made: Run) -> tuple[chaos.Verdict, dict[str, Flow]]:
    """Hold a run against the rules."""
    verdict, flow = chaos.judged(made.made), flows(made)
    for host, each in flow.items():
        if each.above > each.allowed:
            verdict.broken.append(f"{host} received {each.above:.1f} requests above its limit, not {each.allowed:.1f}")
    if made.outages and not all(each.get("does not answer") for each in made.heard):
        verdict.broken.append(f"not all processes noticed an outage: {made.heard}")
    verdict.figures["outages of Redis"] = made.outages
    return verdict, flow


def main() -> int:
    """Print a table; 1 when a rule is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--concurrent", type=int, default=16, help="calls at once in each process")
    parser.add_argument("--rate", type=int, default=RATE, help="requests a minute of each host's account")
    parser.add_argument("--process", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process is not None:
        take_part(options.process)
        return 0
    verdict, flow = judged(run(options.calls, options.seed, options.concurrent, options.rate))
    print(f"seed {options.seed}, {options.concurrent} calls at once in each of {len(PROCESSES)} processes")
    for name, figure in verdict.figures.items():
        print(f"{name:24}{figure:>14}" if name != "left" else f"left: {figure}")
    for what, counter in (("requests struck by", verdict.struck), ("errors of", verdict.errors)):
        print(f"{what}: " + ", ".join(f"{name} {count}" for name, count in sorted(counter.items())))
    at_once = burst(options.rate)
    print(f"{options.rate} requests a minute, at once {at_once:g}; requests above the rate in any window, at most:")
    for host, each in flow.items():
        print(
            f"  {host:14}{each.requests:6} received, {each.above:6.1f} above (let out {each.let_out:6.1f}; transit "
            f"{each.transit:.2f} s)"
        )
    for rule in verdict.broken[:20]:
        print(f"BROKEN: {rule}")
    if len(verdict.broken) > 20:
        print(f"... and {len(verdict.broken) - 20} more")
    return int(bool(verdict.broken))


if __name__ == "__main__":
    sys.exit(main())
