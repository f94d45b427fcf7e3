"""Many calls over routes whose hosts fail in every way at once: what the library promises must hold for each of them.

    python benchmarks/chaos.py                        2,000 calls, 64 at once, by each client
    python benchmarks/chaos.py --calls 150 --seed 7 --concurrent 24

Seven emulated hosts, one of each kind, in a process of their own. From the seed come each host's weather (when it is
ill, of what, and how many of its requests are struck), eighteen routes (three for each strategy) of three targets, and
what each call asks: a third are streams, a tenth of these are left after their first text. One route of each strategy
hedges, which a third of its calls may do. Two hosts are never ill. One is dead at first: nobody listens at its port.
Azure's tokens live three seconds, so that requests are refused with 401 again and again, and logins renewed.

The prompt of each call holds a word of its own, and the hosts answer with an echo of the prompt. The rules:

* Each call ends, before its deadline (plus GRACE, as two processes share the cores), with its right answer, or with an
  error that is a `ProviderError` or a group of them. A stream that breaks on a route with `on_break = "fail"` has the
  beginning of the right answer in `.partial`.
* No call is answered twice: the text is the echo, once, a stream has one `Finished`, and no host gave a second whole
  answer, unless the client had given the first up for being late, or asked it beside a slow one.
* Of the calls whose route had a target that was healthy throughout, at least 99.5 % are answered. Healthy throughout is
  what the weather says, and no measurement: no spell of that target's host began before the call ended. Tokens that end
  are no spell. Streams that broke as `on_break = "fail"` has it are left out, and counted on their own.
* `recovered` are the other calls with a target whose host had no spell between the call's begin and end, but before.
  No client can know that it is over: such a target cools down, and is asked before its time only when all others have
  failed and its retry budget pays for it. What came of these calls is shown, and held against no rule.
* The ledger agrees with the hosts' logs, call by call and host by host. Counted are requests for a model's answer (not
  those for tokens), without those that a 401 made the same attempt send again; and attempts, without those of which
  nothing was sent: no connection was had (phase `connect`), or a layer turned them away (phase `queue`, or no time
  left: they took 0 seconds). Of attempts whose call was over, or that were outrun, after less than HURRY, either will
  do. `client.usage()` has all attempts.
* At the end no task, thread, file descriptor or connection is left.

Prints a table; 1 when a rule is broken. Moments are compared between two processes by `time.monotonic()`, which Linux,
macOS and Windows count for the whole machine. Needs the extra `bedrock`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import llamaroute as lr
from llamaroute.emulator import Emulator, Fault, RecordedRequest
from llamaroute.emulator.answer import Answer
from llamaroute.emulator.hosts.entra import CLIENT_ID, CLIENT_SECRET, TENANT
from llamaroute.providers.azure import AzureSettings
from llamaroute.types.response import Attempt

MODELS = {
    "cloudflare": "llama-4-scout",
    "huggingface": "llama-4-maverick",
    "openai": "llama-4-scout",
    "azure": "llama-4-maverick",
    "databricks": "llama-4-maverick",
    "vertex": "llama-4-maverick",
    "bedrock": "llama-4-scout",
}
HOSTS = tuple(MODELS)
TOKENED = "azure"
"""The host whose tokens end."""
STRATEGIES = ("failover", "weighted", "round-robin", "lowest-latency", "cheapest", "least-busy")
SPELLS = ("storm", "silent storm", "stall", "reset", "cut", "5xx", "wrong body", "all")
TOTAL = 12.0
TIMEOUT = {"connect": 1.0, "first_token": 1.5, "idle": 1.5, "total": TOTAL}
GRACE = 0.5
"""Seconds after its deadline at which a call may end here; how late calls are is what deadlines.py measures."""
HURRY = 0.05
"""Seconds, from an attempt's begin to its call's end, in which a request may or may not have been sent."""
AIM = 0.995
LATENCY = (0.05, 0.5)
"""Seconds that a healthy host takes."""
TOKEN_LIFE = 3.0
LONGEST = 600.0
"""Seconds for which there is weather."""
NEVER = 120.0
WORDS = "the quick brown fox jumps over the lazy dog while seven hosts fail in turn".split()  # noqa: SIM905
CALL = re.compile(rb"call-(\d{6})")


class Spell(NamedTuple):
    """A host is ill for some time; moments are seconds since the beginning."""

    begins: float
    ends: float
    what: str
    share: float
    """Of its requests that are struck."""


def weather(seed: int) -> dict[str, list[Spell]]:
    """Each host's spells: both processes draw the same."""
    dice = random.Random(f"{seed}/weather")
    steady = set(dice.sample(HOSTS, 2))
    dead = dice.choice([host for host in HOSTS if host not in steady and host != TOKENED])
    forecast: dict[str, list[Spell]] = {}
    for host in HOSTS:
        spells = forecast[host] = []
        if host in steady:
            continue
        now = dice.uniform(0.0, 1.0)
        kinds: list[str] = []
        if host == dead:
            spells.append(Spell(0.0, dice.uniform(1.0, 3.0), "dead", 1.0))
            now = spells[0].ends + dice.uniform(0.5, 2.0)
        while now < LONGEST:
            kinds = kinds or dice.sample(SPELLS, len(SPELLS))
            ends = now + dice.uniform(0.5, 2.0)
            spells.append(Spell(now, ends, kinds.pop(), dice.choice((0.4, 0.8, 1.0, 1.0))))
            now = ends + dice.uniform(0.5, 2.0)
    return forecast


def spell_at(spells: Sequence[Spell], moment: float) -> Spell | None:
    """The spell of a moment."""
    return next((spell for spell in spells if spell.begins <= moment < spell.ends), None)


def strike(what: str, dice: random.Random) -> tuple[str, Fault]:
    """What happens to one request in a spell; the name says what it comes to."""
    match what:
        case "all":
            return strike(dice.choice(SPELLS[:-1]), dice)
        case "storm":
            return "429, Retry-After", Fault(status=429, retry_after=dice.choice((1, 1, 2)))
        case "silent storm":
            return "429", Fault(status=429)
        case "stall":
            after = dice.choice((None, None, 1, 2, 4))
            return ("silent" if after is None else "falls silent"), Fault(stall=NEVER, stall_after=after)
        case "reset":
            return dice.choice((("reset", Fault(reset=True)), ("hangs up", Fault(hangup=True))))
        case "cut":
            after = dice.choice((0, 1, 2, 3, 6))
            # With "close", HTTP cannot tell a cut from the end.
            return "cut", Fault(cut="mid-frame", cut_after=after, framing="close" if dice.random() < 1 / 3 else None)
        case "5xx":
            status = dice.choice((500, 502, 503, 504))
            return str(status), Fault(status=status, retry_after=1 if dice.random() < 0.2 else None)
    bodies: tuple[Fault, ...] = (
        Fault(body="upstream says hello"),
        Fault(body="<html><body>Bad gateway</body></html>", content_type="text/html"),
        Fault(body={}),
        Fault(body=[]),
        Fault(body={"unexpected": {"answer": 42}}),
        Fault(body=b"\x00\xff\xfe\x80", content_type="application/json"),
        Fault(body='{"choices": [{"message": {"con', content_type="application/json"),
        Fault(error_first=True),
        Fault(error_after=2),
        Fault(garbage=True),
    )
    return "wrong body", dice.choice(bodies)


# ── the hosts' process ──


class Weather(Emulator):
    """An emulator whose requests are struck as the forecast says."""

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self.forecast = weather(seed)
        self.began = float("inf")
        self.struck: dict[RecordedRequest, str] = {}
        self._seed = seed
        self._visits: Counter[tuple[str, bytes]] = Counter()

    async def answer(self, request: RecordedRequest) -> Answer:
        """See `App`."""
        asked = CALL.search(request.body)
        if asked is None:
            return await super().answer(request)
        host, number = request.host, asked[1]
        self._visits[host, number] += 1
        # Which request comes when is no two times the same; what a call's first, second, ... visit meets is.
        dice = random.Random(f"{self._seed}/{host}/{number!r}/{self._visits[host, number]}")
        spell = spell_at(self.forecast[host], request.started - self.began)
        if spell is not None and dice.random() < spell.share:
            self.struck[request], fault = strike(spell.what, dice)
            # Armed and taken in one step of the only thread that answers: it strikes this request and no other.
            self.fault(fault, host=host, path=request.path)
        answer = await super().answer(request)
        answer.delay += dice.uniform(*LATENCY)
        return answer

    def log(self) -> list[dict[str, Any]]:
        """The requests of calls, in order of arrival."""
        found = []
        for request in self.requests:
            if (asked := CALL.search(request.body)) is not None:
                whole = request.status == 200 and request.finished is not None and not request.disconnected
                struck = self.struck.get(request)
                moment = request.started - self.began
                found.append(asdict(Seen(int(asked[1]), request.host, request.status, struck, whole, moment)))
        return found


@dataclass(frozen=True)
class Seen:
    """A request as the hosts saw it."""

    call: int
    host: str
    status: int | None
    struck: str | None
    whole: bool
    """It was answered to the end, as far as the host can tell."""
    moment: float = 0.0
    """When its head had come, in seconds since the beginning."""


def serve(seed: int) -> None:
    """The hosts' process: says where they are; begins, and reports, when it is told."""
    (dead,) = (host for host, spells in weather(seed).items() if spells and spells[0].what == "dead")
    with contextlib.ExitStack() as stack:
        hosts = stack.enter_context(Weather(seed, token_life=TOKEN_LIFE))
        # Bound, but not listening: while the host is dead, nobody else is given its port.
        keeper = stack.enter_context(socket.socket())
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        late = Weather(seed, port=keeper.getsockname()[1])
        late.start()
        stack.callback(late.stop)
        tables = hosts.providers(*HOSTS) | late.providers(dead)
        tell({"tables": tables, "login": f"{hosts.base_url('entra')}/{TENANT}/oauth2/v2.0/token"})
        heard = sys.stdin.readline()  # both are up for what a first call imports and sets up
        if heard.strip() == "begin":
            late.stop()  # the port is refused from here on, until the host is back
            hosts.began = late.began = time.monotonic()
            back = threading.Timer(late.forecast[dead][0].ends, late.start)
            back.start()
            tell({"began": hosts.began})
            sys.stdin.readline()
            back.cancel()
            back.join()
            until = time.monotonic() + 2.0  # closing takes a moment to be seen
            while hosts.connections_open + late.connections_open and time.monotonic() < until:
                time.sleep(0.02)
            tell({"log": hosts.log() + late.log(), "open": hosts.connections_open + late.connections_open})


def tell(what: Mapping[str, Any]) -> None:
    """A line for the other process."""
    print(json.dumps(what), flush=True)


class Hosts:
    """The other process, seen from here."""

    def __init__(self, seed: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--serve", "--seed", str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        told = self._hear()
        self.tables: dict[str, Any] = told["tables"]
        """Without the login, which cannot be handed to another process."""
        self.login: str = told["login"]

    def begin(self) -> float:
        """Let the weather begin; the moment it does."""
        self._say("begin")
        return float(self._hear()["began"])

    def report(self) -> tuple[list[Seen], int]:
        """The requests of calls, and the connections that are still open."""
        self._say("report")
        told = self._hear()
        return [Seen(**row) for row in told["log"]], int(told["open"])

    def close(self) -> None:
        """End the process."""
        with self._process as process:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        print(word, file=self._process.stdin, flush=True)

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the hosts' process has ended")
        return json.loads(line)


class LoginToken(NamedTuple):
    """As azure-identity gives it."""

    token: str
    expires_on: int


class Login:
    """An application's credential, as azure-identity would be, which does not ask for tokens without TLS."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get_token(self, *scopes: str, **_: Any) -> LoginToken:
        """A token, from the emulated login page."""
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        body = urllib.parse.urlencode({**form, "scope": " ".join(scopes)}).encode()
        with urllib.request.urlopen(self._url, body, timeout=10) as answer:
            data = json.load(answer)
        return LoginToken(data["access_token"], int(time.time()) + data["expires_in"])


def with_login(tables: Mapping[str, Any], login: str) -> dict[str, Any]:
    """The hosts' tables, with a credential that logs in at a URL."""
    where = tables[TOKENED]["base_url"]
    azure = AzureSettings(kind="azure", base_url=where, endpoint=where).with_live_credential(Login(login))
    return {**tables, TOKENED: azure}


# ── the calls ──


@dataclass(frozen=True)
class Asked:
    """One call, as drawn."""

    number: int
    route: str
    how: str
    """plain, stream, or left: a stream that is left after its first text."""

    @property
    def prompt(self) -> str:
        dice = random.Random(self.number)
        return f"call-{self.number:06} " + " ".join(dice.choices(WORDS, k=dice.randint(4, 24)))

    @property
    def right(self) -> str:
        """What an echo says."""
        return f"You said: {self.prompt}"


@dataclass
class Ended:
    """What came of it."""

    asked: Asked
    began: float
    ended: float = 0.0
    end: str = "wrong"
    """right; broke: a stream that broke on a route that says so; error; wrong."""
    detail: str = ""
    attempts: tuple[Attempt, ...] = ()


def routes(seed: int) -> dict[str, dict[str, Any]]:
    """Three for each strategy."""
    dice = random.Random(f"{seed}/routes")
    made = {}
    for strategy in STRATEGIES:
        for count in range(3):
            targets = [{"target": f"{host}:{MODELS[host]}", "weight": dice.choice((1, 1, 2))} for host in
                       dice.sample(HOSTS, 3)]  # fmt: skip
            made[f"{strategy}-{count}"] = {
                "strategy": strategy,
                "targets": targets,
                "on_break": dice.choice(("fail", "restart", "restart", "restart")),
                "timeout": TIMEOUT,
                "retry": {"attempts": 3, "base": 0.2, "max": 2.0},
            }
            if count == 0:
                made[f"{strategy}-{count}"]["hedge"] = {"after": 0.4, "max_extra": 0.3}
    return made


def draw(seed: int, calls: int) -> list[Asked]:
    """The calls."""
    dice = random.Random(f"{seed}/calls")
    names = list(routes(seed))
    made = []
    for number in range(calls):
        how = "plain" if dice.random() >= 1 / 3 else "left" if dice.random() < 0.1 else "stream"
        made.append(Asked(number, dice.choice(names), how))
    return made


class Reader:
    """What a caller makes of a stream's events."""

    def __init__(self) -> None:
        self.text = ""
        self.finished = 0

    def hear(self, event: lr.StreamEvent) -> None:
        """One event."""
        match event:
            case lr.TextDelta(text=more):
                self.text += more
            case lr.Restarted():
                self.text = ""
            case lr.Finished():
                self.finished += 1


def blocking(client: lr.Client, asked: Asked) -> Ended:
    """One call of the blocking client."""
    found, reader = Ended(asked, time.monotonic()), Reader()
    try:
        if asked.how == "plain":
            judge(found, client.chat(asked.prompt, model=asked.route))
        else:
            with client.stream(asked.prompt, model=asked.route) as stream:
                for event in stream:
                    reader.hear(event)
                    if asked.how == "left" and reader.text:
                        stream.interrupt()
                        break
            judge(found, stream.response, reader)
    except Exception as error:
        excuse(found, error)
    found.ended = time.monotonic()
    return found


async def nonblocking(client: lr.AsyncClient, asked: Asked) -> Ended:
    """One call of the async one."""
    found, reader = Ended(asked, time.monotonic()), Reader()
    try:
        if asked.how == "plain":
            judge(found, await client.chat(asked.prompt, model=asked.route))
        else:
            async with client.stream(asked.prompt, model=asked.route) as stream:
                async for event in stream:
                    reader.hear(event)
                    if asked.how == "left" and reader.text:
                        await stream.interrupt()
                        break
            judge(found, stream.response, reader)
    except Exception as error:
        excuse(found, error)
    found.ended = time.monotonic()
    return found


def judge(found: Ended, reply: lr.ChatResponse[Any], reader: Reader | None = None) -> None:
    """An answer has come."""
    found.attempts = reply.attempts
    asked, text = found.asked, reply.text
    right = text == asked.right and reply.finish_reason == "stop"
    if reader is not None:
        left = asked.how == "left" and reply.finish_reason == "interrupted"
        right = asked.right.startswith(text) and bool(text) if left else right and reader.finished == 1
        right = right and reader.text == text
    found.end = "right" if right else "wrong"
    found.detail = "" if right else f"{reply.target} answered {reply.finish_reason} {text!r}"


def excuse(found: Ended, error: Exception) -> None:
    """An error has come."""
    found.attempts = getattr(error, "attempts", ())
    found.end, found.detail = "error", f"{type(error).__name__}: {error}"
    if isinstance(error, lr.StreamInterruptedError):
        partial = "" if error.partial is None else error.partial.text
        found.end = "broke" if partial and found.asked.right.startswith(partial) else "wrong"
    elif not isinstance(error, lr.ProviderError | lr.AllTargetsFailedError) or not found.attempts:
        found.end = "wrong"


# ── the run ──


class Work(Protocol):
    """Makes calls, so many at once: what came of them, the attempts counted, and the tasks left."""

    def __call__(
        self, table: dict[str, Any], calls: Sequence[Asked], concurrent: int, observers: Sequence[Any] = ()
    ) -> tuple[list[Ended], int, int]:
        """With a client of its own."""
        ...


@dataclass
class Run:
    """One client's run."""

    client: str
    seed: int
    began: float
    ended: list[Ended]
    counted: int
    """Attempts, as the client has counted them."""
    log: list[Seen] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    """What is left of tasks, threads, file descriptors and connections."""


def run(client: str, calls: int, seed: int, concurrent: int) -> Run:
    """Let a client make its calls, and look what is left."""
    work = WORK[client]
    hosts = Hosts(seed)
    try:
        providers = with_login(hosts.tables, hosts.login)
        table = {"providers": providers, "routes": routes(seed)}
        warm_up(work, providers)
        threads, files = settled()
        began = hosts.begin()
        ended, counted, tasks = work(table, draw(seed, calls), concurrent)
        after_threads, after_files = settled(threads, files)
        log, connections = hosts.report()
    finally:
        hosts.close()
    left = {
        "tasks": tasks,
        "threads": max(0, after_threads - threads),
        "files": max(0, after_files - files),
        "connections": connections,
    }
    return Run(client, seed, began, ended, counted, log, left)


def warm_up(work: Work, providers: dict[str, Any]) -> None:
    """Ask every host, plainly and for a stream: what the first call of a kind imports and keeps for good is no leak.
    These calls have no number, so that nobody counts them."""
    warm = [Asked(-1, f"{host}:{model}", how) for host, model in MODELS.items() for how in ("plain", "stream")]
    for found in work({"providers": providers}, warm, 4)[0]:
        if found.end != "right":
            raise RuntimeError(f"{found.asked.route} is not ready: {found.detail}")


def in_threads(
    table: dict[str, Any], calls: Sequence[Asked], concurrent: int, observers: Sequence[Any] = ()
) -> tuple[list[Ended], int, int]:
    """By threads that share a client."""
    with lr.Client(table, env={}, observers=observers) as client:
        with ThreadPoolExecutor(concurrent) as pool:
            ended = list(pool.map(lambda asked: blocking(client, asked), calls))
        return ended, client.usage().attempts, 0


def in_tasks(
    table: dict[str, Any], calls: Sequence[Asked], concurrent: int, observers: Sequence[Any] = ()
) -> tuple[list[Ended], int, int]:
    """By tasks that share a client."""

    async def main() -> tuple[list[Ended], int, int]:
        gate = asyncio.Semaphore(concurrent)

        async def one(client: lr.AsyncClient, asked: Asked) -> Ended:
            async with gate:
                return await nonblocking(client, asked)

        async with lr.AsyncClient(table, env={}, observers=observers) as client:
            ended = await asyncio.gather(*(one(client, asked) for asked in calls))
            counted = client.usage().attempts
        await asyncio.sleep(0)
        return ended, counted, len(asyncio.all_tasks()) - 1

    return asyncio.run(main())


WORK: dict[str, Work] = {"asyncio": in_tasks, "threads": in_threads}


def settled(threads: int = sys.maxsize, files: int = sys.maxsize) -> tuple[int, int]:
    """Threads and open file descriptors; what is more than before has two seconds to go."""
    gc.collect()
    until = time.monotonic() + 2.0
    while True:
        now = threading.active_count(), len(os.listdir("/dev/fd"))
        if (now[0] <= threads and now[1] <= files) or time.monotonic() > until:
            return now
        time.sleep(0.02)


# ── the rules ──


@dataclass
class Verdict:
    """What a run comes to."""

    figures: dict[str, Any]
    errors: Counter[str]
    struck: Counter[str]
    broken: list[str]


def judged(made: Run) -> Verdict:
    """Hold a run against the rules."""
    forecast, plan = weather(made.seed), routes(made.seed)
    seen: dict[int, dict[str, list[Seen]]] = {}
    for request in made.log:
        seen.setdefault(request.call, {}).setdefault(request.host, []).append(request)
    broken: list[str] = []
    healthy = served = recovered = served_again = ill = served_ill = broke = renewals = unsent = hedged = 0
    missed: list[str] = []
    for found in made.ended:
        asked, took = found.asked, found.ended - found.began
        about = f"call {asked.number} ({asked.how}, {asked.route})"
        if found.end == "wrong":
            broken.append(f"{about}: {found.detail}")
        if took > TOTAL + GRACE:
            broken.append(f"{about}: took {took:.2f} s")
        begins, ends = found.began - made.began, found.ended - made.began
        hosts = [target["target"].partition(":")[0] for target in plan[asked.route]["targets"]]
        as_told = found.end == "broke" and plan[asked.route]["on_break"] == "fail"
        right = found.end == "right"
        if as_told:
            broke += 1
        elif any(_healthy(forecast[host], 0.0, ends) for host in hosts):
            healthy += 1
            served += right
            if not right:
                missed.append(f"{about}, {begins:.2f} to {ends:.2f} s: {found.detail}")
        elif any(_healthy(forecast[host], begins, ends) for host in hosts):
            recovered += 1
            served_again += right
        else:
            ill += 1
            served_ill += right
        logged = seen.get(asked.number, {})
        sent = [attempt for attempt in found.attempts if not _unsent(attempt)]
        unsent += len(found.attempts) - len(sent)
        rows = Counter(attempt.target.partition(":")[0] for attempt in sent)
        requests = {host: _attempts(host, logged[host]) for host in logged}
        renewals += sum(len(logged[host]) - requests[host] for host in logged)
        hurried = Counter(attempt.target.partition(":")[0] for attempt in sent if _hurried(attempt))
        if any(not rows[host] - hurried[host] <= requests.get(host, 0) <= rows[host] for host in {*rows, *requests}):
            broken.append(f"{about}: the ledger has {dict(rows)}, the hosts {requests}: {found.attempts}")
        whole = sum(request.whole and request.struck is None for each in logged.values() for request in each)
        late = sum(attempt.phase in ("first_token", "idle", "total") or _abandoned(attempt) for attempt in sent)
        hedged += sum(map(_abandoned, found.attempts))
        if whole > 1 + late:
            broken.append(f"{about}: hosts gave {whole} whole answers")
    attempts = sum(len(found.attempts) for found in made.ended)
    if made.counted != attempts:
        broken.append(f"client.usage() has {made.counted} attempts, the calls have {attempts}")
    broken += [f"{count} {what} left" for what, count in made.left.items() if count]
    share = served / healthy if healthy else 0.0
    if share < AIM:
        broken += [f"{share:.2%} of the calls with a healthy target were answered", *missed]
    times = sorted(found.ended - found.began for found in made.ended)
    figures = {
        "calls": len(made.ended),
        "streams": sum(found.asked.how != "plain" for found in made.ended),
        "right": sum(found.end == "right" for found in made.ended),
        "broke as told": broke,
        "errors": sum(found.end in ("error", "broke") for found in made.ended) - broke,
        "with a healthy target": healthy,
        "  of these right": f"{share:.2%}",
        "with a recovered one": recovered,
        "  of these right ": f"{served_again / max(1, recovered):.2%}",
        "with none": ill,
        "  of these right  ": f"{served_ill / max(1, ill):.2%}",
        "attempts": attempts,
        "never sent": unsent,
        "abandoned": hedged,
        "requests": len(made.log),
        "renewed logins": renewals,
        "struck": sum(request.struck is not None for request in made.log),
        "median, s": f"{times[len(times) // 2]:.2f}",
        "p99, s": f"{times[int(len(times) * 0.99)]:.2f}",
        "longest, s": f"{times[-1]:.2f}",
        "all, s": f"{max(found.ended for found in made.ended) - made.began:.1f}",
        "left": ", ".join(f"{count} {what}" for what, count in made.left.items()),
    }
    errors = Counter(found.detail.partition(":")[0] for found in made.ended if found.end in ("error", "broke"))
    struck = Counter(request.struck for request in made.log if request.struck is not None)
    return Verdict(figures, errors, struck, broken)


def _healthy(spells: Sequence[Spell], begins: float, ends: float) -> bool:
    return not any(spell.begins < ends and begins < spell.ends for spell in spells)


def _unsent(attempt: Attempt) -> bool:
    """Nothing was sent."""
    return attempt.status is None and (attempt.phase in ("connect", "queue") or attempt.seconds == 0.0)


def _hurried(attempt: Attempt) -> bool:
    """The call's time was over, or another target had answered, just after the attempt began: nobody can tell whether
    it was sent."""
    return attempt.status is None and (attempt.phase == "total" or _abandoned(attempt)) and attempt.seconds < HURRY


def _abandoned(attempt: Attempt) -> bool:
    return attempt.error is not None and attempt.error.type == "Abandoned"


def _attempts(host: str, requests: Sequence[Seen]) -> int:
    """Attempts behind a call's requests to a host: after a 401, a token that has ended is renewed and the request sent
    once more."""
    count = at = 0
    while at < len(requests):
        at += 2 if host == TOKENED and requests[at].status == 401 else 1
        count += 1
    return count


def main() -> int:
    """Print a table; 1 when a rule is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--concurrent", type=int, default=64)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.seed)
        return 0
    clients = ("asyncio", "threads")
    verdicts = [judged(run(client, options.calls, options.seed, options.concurrent)) for client in clients]
    print(f"seed {options.seed}, {options.concurrent} calls at once")
    print(f"{'':24}" + "".join(f"{client:>14}" for client in clients))
    for name in verdicts[0].figures:
        if name != "left":
            print(f"{name:24}" + "".join(f"{verdict.figures[name]:>14}" for verdict in verdicts))
    for what, part in (("requests struck by", "struck"), ("errors of", "errors")):
        print(f"{what}:")
        counters: list[Counter[str]] = [getattr(verdict, part) for verdict in verdicts]
        for name in sorted({name for counter in counters for name in counter}):
            print(f"  {name:22}" + "".join(f"{counter[name]:>14}" for counter in counters))
    for client, verdict in zip(clients, verdicts, strict=True):
        print(f"left by {client}: {verdict.figures['left']}")
        for rule in verdict.broken[:20]:
            print(f"BROKEN by {client}: {rule}")
        if len(verdict.broken) > 20:
            print(f"... and {len(verdict.broken) - 20} more")
    return int(any(verdict.broken for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
