"""What `Client` and `AsyncClient` share: a loaded configuration at work, arguments -> calls, replies -> responses.

No I/O happens here but the reading of the configuration and what credentials need to be set up; requests are sent by
the drivers in `drivers.py`.
"""

from __future__ import annotations

import contextlib
import datetime
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from . import catalog
from .arguments import (
    ChatOptions,
    given_fit,
    given_model,
    given_policy,
    given_priority,
    given_retries,
    given_timeout,
    request_from,
)
from .catalog.prices import cost_of
from .config.load import LoadedConfig, load_config
from .config.models import Config
from .config.rules import rules_of, spending_of
from .errors import CapabilityError, InputError, LlamarouteError, ModelRetiredError, PolicyError
from .layers.adapt import adapt
from .layers.failover import failover
from .layers.hedge import hedge
from .layers.limits import limits as limits_layer
from .layers.observe import observe
from .layers.order import ordered
from .layers.policy import permit
from .layers.repair import repair
from .layers.restream import restream
from .layers.retry import RetryPolicy, retry
from .layers.spending import Spending, spending
from .layers.watch import watch
from .layers.window import refusal as too_long_for
from .layers.window import window
from .media_io import FileAndNet
from .output import output_spec
from .parity.plan import plan
from .pipeline.core import Call, Candidate, Handler, Layer, Ledger, Reply, Timeout, compose
from .pipeline.exchange import exchange, read_body, send_signed
from .pipeline.ops import Blocking, Plan
from .registry import make_auth, provider_spec
from .routing.hedging import Hedge
from .routing.policy import Rules, attribution
from .routing.resolve import Account, make_account, resolve
from .routing.traffic import Traffic
from .spi import Adapter, Auth, AuthSettings, EndpointLocator, Target, TokenCounter, WireResponse
from .state.gates import Gates
from .state.memory import MemoryCounter
from .state.usage import Tally, Totals
from .tokens import Counted, TextTokens, TokenCount, count, estimate, estimate_usage
from .types.messages import Input
from .types.plan import Plan as Explanation
from .types.plan import PlannedTarget
from .types.response import Attempt, ChatResponse, Cost, Notice, Timing, Usage
from .types.routing import Strategy, TargetHealth
from .types.run import sum_usage
from .types.settings import RetrySettings, TimeoutSettings
from .wire.headers import request_id

if TYPE_CHECKING:
    from .pipeline.locate import Location
    from .state.base import Counter
    from .types.discovery import Discovery, DiscoveryProblem

__all__ = ["Runtime"]

MAX_COUNT_BODY = 64 << 10
DISCOVERY = 60.0
"""Seconds in which an account's control plane is asked, where nothing else is configured."""


def media(call: Call, handler: Handler) -> Plan[Reply]:
    """The media layer; most calls have no picture, and then nothing of it is imported."""
    if not call.request.has_pictures:
        return handler(call)
    from .layers.media import media as layer

    return layer(call, handler)


class _Found(NamedTuple):
    """What a `model=` means, ready to be called."""

    candidates: tuple[Candidate, ...]
    notices: tuple[Notice, ...]
    strategy: Strategy = "failover"
    route: str | None = None
    rules: Rules | None = None
    spending: Spending | None = None
    on_break: Literal["fail", "restart", "continue"] = "fail"
    hedge: Hedge | None = None
    total: float | None = None
    """Seconds that a call may take."""


class Runtime:
    """A configuration at work. Immutable but for credentials and totals: `reload` makes a new one."""

    def __init__(
        self,
        source: Any,
        *,
        profile: str | None,
        env: Mapping[str, str] | None,
        observers: Sequence[Any],
        layers: Sequence[Layer],
    ) -> None:
        self.loaded: LoadedConfig = load_config(source, profile=profile, env=env)
        self.config: Config = self.loaded.config
        self.observers = tuple(observers)
        self.io = FileAndNet(self.config.images)
        self.accounts: dict[str, Account] = {}
        for name, options in self.config.providers.items():
            spec = provider_spec(options.kind, account=name)
            rows = catalog.rows(spec.name) if spec.catalog is None else catalog.parse(spec.catalog)
            self.accounts[name] = make_account(name, spec, options, rows, self.config.models)
        self.gates = Gates()
        self.gates.configure(self.config.providers, self.config.limits, self.config.state)
        ordered = (
            hedge,
            failover,
            window,
            restream,
            repair,
            adapt,
            media,
            retry,
            limits_layer,
            spending,
            *layers,
            watch,
            observe,
        )
        self.handler: Handler = compose(ordered, exchange)
        self.tally = Tally()
        self.counter = _counter(self.gates)
        self.traffic = Traffic(random.Random())
        self._env = env
        self._auths: dict[str, Auth] = {}
        self._auth_lock = threading.Lock()
        self._flights: dict[str, dict[Any, Any]] = {}
        self._locations: dict[str, Location] = {}
        self._resolved: dict[str | None, _Found] = {}

    # -- a call begins ------------------------------------------------------------------------------------------------

    def prepare(
        self, input: Input, options: ChatOptions, *, output: Any, stream: bool, repair_calls: bool = True
    ) -> Call:
        """Check the arguments and make the call.

        Raises:
            InputError, ConfigError, CapabilityError: see `resolve`; nothing is sent.
        """
        spec = None if output is None else output_spec(output)
        if spec is not None and spec.adapter is None:
            from .parity.tool_arguments import coerce

            spec.check = coerce
        request = request_from(input, options, spec)
        found = self._found(given_model(options.get("model")))
        candidates, total = found.candidates, found.total
        if (own := options.get("timeout")) is not None:
            limits = given_timeout(own)
            candidates = tuple(replace(c, timeout=replace(c.timeout, **limits)) for c in candidates)
            total = _total(candidates)
        now = time.monotonic()
        return Call(
            request=request,
            stream=stream,
            candidates=candidates,
            candidate=candidates[0],
            deadline=None if total is None else now + total,
            ledger=Ledger(now=now, started=now, wall=time.time(), notices=list(found.notices)),
            timeout=candidates[0].timeout,
            retry=given_policy(options.get("retry")),
            insists=options.get("retry") is not None,
            observers=self.observers,
            io=self.io,
            output=spec,
            output_retries=given_retries(options.get("output_retries", 1)),
            repair_calls=repair_calls,
            fit=given_fit(options.get("fit")),
            priority=given_priority(options.get("priority", 0)),
            tokenizer=self.tokenizer,
            strategy=found.strategy,
            route=found.route,
            on_break=found.on_break,
            hedge=found.hedge,
            rules=found.rules,
            spending=found.spending,
            traffic=self.traffic,
            complete=self.complete,
        )

    def _found(self, model: str | None) -> _Found:
        found = self._resolved.get(model)
        if found is None:
            resolution = resolve(model, self.config, self.accounts, catalog.released)
            candidates = [self._candidate(target) for target in resolution.targets]
            if (route := resolution.route) is not None:
                limits = _limits(route.timeout)
                for candidate in candidates:
                    candidate.timeout = replace(candidate.timeout, **limits)
                    candidate.weight = resolution.weights.get(candidate.target.name, 1.0)
                    if route.retry is not None:
                        candidate.retry = _policy(route.retry)
            strategy: Strategy = "failover" if route is None else route.strategy
            name = None if route is None else self.config.default if model is None else model
            rules, budgets = rules_of(self.config, name), spending_of(self.config, name, self.counter)
            on_break = "fail" if route is None else route.on_break
            late = None if route is None or route.hedge is None else Hedge.of(route.hedge.after, route.hedge.max_extra)
            total = _total(candidates)
            found = _Found(tuple(candidates), resolution.notices, strategy, name, rules, budgets, on_break, late, total)
            if len(self._resolved) < 1024:  # names come from callers: a bound keeps a typo loop from filling memory
                self._resolved[model] = found
        return found

    def _candidate(self, target: Target) -> Candidate:
        account = self.accounts[target.provider]
        adapter = account.spec.adapter
        limits = {**account.options.default_timeout(), **_limits(account.options.timeout)}
        policy = RetryPolicy() if account.options.retry is None else _policy(account.options.retry)
        timeout = Timeout(**limits) if limits else Timeout()
        flights = self._flights.setdefault(account.name, {})
        location = self._location(adapter, target)
        gate = self.gates.gate(account.name, account.options)
        return Candidate(target, adapter, self._auth(account), timeout, policy, flights, location, gate=gate)

    def _location(self, adapter: Adapter, target: Target) -> Location | None:
        """Where the target's endpoint is, for hosts that have to be asked; shared by all that ask this client."""
        if not isinstance(adapter, EndpointLocator) or adapter.locate(target) is None:
            return None
        from .pipeline.locate import Location

        return self._locations.setdefault(target.name, Location())

    def _auth(self, account: Account) -> Auth:
        with self._auth_lock:
            auth = self._auths.get(account.name)
            if auth is None:
                auth = make_auth(account.spec, AuthSettings(account.name, account.options, self._environment))
                self._auths[account.name] = auth
            return auth

    # -- a call ends --------------------------------------------------------------------------------------------------

    def complete(self, call: Call, reply: Reply) -> ChatResponse[Any]:
        """The answer of a plain call, complete."""
        assert reply.response is not None
        return self.finish(call, reply.target, reply.response, reply.headers)

    def finish(
        self, call: Call, target: Target, response: ChatResponse[Any], headers: Mapping[str, str]
    ) -> ChatResponse[Any]:
        """Complete an answer with what the adapter cannot know."""
        ledger = call.ledger
        usage = response.usage
        warnings = [*ledger.notices]
        if response.warnings:
            warnings += [notice for notice in response.warnings if notice not in ledger.notices]
        if usage.estimated:
            warnings.append(
                Notice("usage_estimated", f"{target.name} reported no usage; the numbers are estimates", "usage")
            )
            if not usage.total_tokens:  # a stream: what is in the ledger was estimated from the request as it was sent
                rows = (a.usage for a in reversed(ledger.attempts) if a.target == target.name and a.usage is not None)
                usage = next(rows, None) or estimate_usage(ledger.trimmed or call.request, response)
        cost = cost_of(usage, target.row)
        if ledger.broken:
            usage, cost = _with_broken(ledger.broken, usage, cost)
        return response.model_copy(
            update={
                "usage": usage,
                "cost": cost,
                "provider": target.provider,
                "provider_kind": target.kind,
                "model": target.model,
                "model_id": target.model_id,
                "target": target.name,
                "request_id": request_id(headers),
                "created": response.created or datetime.datetime.fromtimestamp(ledger.wall, datetime.UTC),
                "timing": Timing(ledger.connect, ledger.first_token, ledger.now - ledger.started),
                "attempts": tuple(ledger.attempts),
                "warnings": tuple(warnings),
            }
        )

    def explain(self, call: Call, route: str | None) -> Explanation:
        """What a call would do: the same decisions that its layers would make."""
        could = self._could_serve(call)
        planned: list[PlannedTarget] = []
        for candidate in ordered(call, likely=True):
            target = candidate.target
            if (why := too_long_for(call, target)) is not None:
                planned.append(PlannedTarget(target.name, target.model_id, refused=why))
                continue
            try:
                permit(call, target)
                steps = plan(call.request, target, stream=call.stream)
                planned.append(PlannedTarget(target.name, target.model_id, steps))
            except (CapabilityError, PolicyError, ModelRetiredError) as error:
                others = tuple(name for name in could if name != target.name)
                planned.append(PlannedTarget(target.name, target.model_id, refused=str(error), could_serve=others))
        name = self.config.default if route is None else route
        return Explanation(tuple(planned), name if name in self.config.routes else None, call.strategy)

    def suggest(self, call: Call, error: CapabilityError) -> None:
        """Complete a refusal with the configured targets that could serve the request."""
        if could := self._could_serve(call):
            error.could_serve = tuple(could)
            error.args = (f"{error.args[0]}; could serve it: {', '.join(could)}",)

    def _could_serve(self, call: Call) -> list[str]:
        """Configured targets, beside those that are asked, that could serve the request."""
        asked = {candidate.target.name for candidate in call.candidates}
        could: list[str] = []
        for account in self.accounts.values():
            for target in map(account.target, account.rows):
                if target.name in asked or target.name in could:
                    continue
                with contextlib.suppress(CapabilityError, PolicyError, ModelRetiredError):
                    permit(call, target)
                    plan(call.request, target, stream=call.stream)
                    could.append(target.name)
        return could

    def tokenizer(self) -> TextTokens | None:
        """Llama 4's tokenizer, loaded when first asked for; None where the extra is not installed.

        Raises:
            ConfigError: `LLAMAROUTE_TOKENIZER` names something else.
        """
        from .tokenizer import load

        return load(self._environment)

    def count_plan(self, call: Call) -> Plan[TokenCount]:
        """Count a request's input tokens: by the target where its adapter can, by Llama 4's tokenizer where the model
        is one and the tokenizer is there, else by estimate."""
        adapter, target = call.candidate.adapter, call.target
        counted: list[Counted] = []

        def ask(loaded: Call) -> Plan[Reply]:
            if isinstance(adapter, TokenCounter):
                head = yield from send_signed(loaded, adapter.count_request(loaded.request, loaded.target))
                body = yield from read_body(loaded, MAX_COUNT_BODY)
                answer = WireResponse(head.status, head.headers, body)
                counted.append(Counted(adapter.parse_count(answer, loaded.target), True))
                return Reply(loaded.target)
            known = catalog.is_llama_4(target.model) or catalog.is_llama_4(target.model_id)
            text_tokens = (yield Blocking(self.tokenizer, until=call.deadline)) if known else None
            work = partial(count, loaded.request, text_tokens or estimate)
            tokens, exact = yield Blocking(work, until=call.deadline)
            counted.append(Counted(tokens, exact and text_tokens is not None))
            return Reply(loaded.target)

        yield from media(call, ask)
        tokens, exact = counted[0]
        return TokenCount(tokens, not exact, target.name, target.row.context_window)

    def survey(self, provider: str, timeout: float | Timeout | None) -> tuple[Plan[Discovery], Ledger]:
        """Ask an account's host what it can call.

        Raises:
            InputError: no account is called so.
        """
        from .control import discover

        account, limits, ledger = self._question(provider, timeout)
        return discover(account, lambda: self._auth(account), limits, ledger, self._environment), ledger

    def credentials(
        self, provider: str, timeout: float | Timeout | None
    ) -> tuple[Plan[DiscoveryProblem | None], Ledger]:
        """Get an account's credentials ready, as a call would.

        Raises:
            InputError: no account is called so.
        """
        from .control import credentials

        account, limits, ledger = self._question(provider, timeout)
        return credentials(account, lambda: self._auth(account), limits, ledger), ledger

    @property
    def _environment(self) -> Mapping[str, str]:
        import os

        return os.environ if self._env is None else self._env

    def _question(self, provider: str, timeout: float | Timeout | None) -> tuple[Account, Timeout, Ledger]:
        """The frame of a question about an account."""
        account = self.accounts.get(provider) if isinstance(provider, str) else None
        if account is None:
            import difflib

            near = difflib.get_close_matches(str(provider), self.accounts, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(self.accounts) or "none"
            raise InputError(f"no provider is called {provider!r}{hint} (providers: {known})")
        limits = {"total": DISCOVERY, **_limits(account.options.timeout)}
        if timeout is not None:
            limits |= given_timeout(timeout)
        now = time.monotonic()
        return account, Timeout(**limits), Ledger(now=now, started=now, wall=time.time())

    def used(self) -> Totals:
        """A copy of the totals."""
        return self.tally.totals()

    def inherit(self, old: Runtime) -> None:
        """Go on where the configuration before this one leaves off: totals, and what is known of targets."""
        self.tally = old.tally
        shared = old.gates.state
        self.gates = old.gates  # what waits there goes on to wait
        self.gates.configure(self.config.providers, self.config.limits, self.config.state)
        self.counter = old.counter if self.gates.state is shared else _counter(self.gates)
        self.traffic = old.traffic
        for name, account in old.accounts.items():
            if name not in self.accounts or self.accounts[name].options != account.options:
                self.traffic.forget(name)

    def health(self) -> tuple[TargetHealth, ...]:
        """How the targets do that routes name or calls have asked."""
        now = time.monotonic()
        targets: dict[str, Target] = {}
        for route in self.config.routes:
            with contextlib.suppress(LlamarouteError):  # a call that names the route is told
                self._found(route)
        for found in list(self._resolved.values()):
            targets |= {candidate.target.name: candidate.target for candidate in found.candidates}
        return tuple(self.traffic.snapshot(target, now) for target in targets.values())

    def count(self, call: Call, response: ChatResponse[Any] | None) -> None:
        """Add a call that has ended to the totals; None is one that failed."""
        self.tally.count(call, response)

    @property
    def attribution(self) -> str:
        """What the licences of the configured models want to be shown."""
        return attribution(account.target(row) for account in self.accounts.values() for row in account.rows)


def _total(candidates: Sequence[Candidate]) -> float | None:
    """One limit for the whole call: the most patient target's, so that a patient one is not cut off by a hasty one
    before it."""
    totals = [candidate.timeout.total for candidate in candidates]
    return None if None in totals else max(value for value in totals if value is not None)


def _with_broken(broken: Sequence[Attempt], usage: Usage, cost: Cost | None) -> tuple[Usage, Cost | None]:
    """What an answer came to with the attempts in which it broke off; a cost only where all have one."""
    usages = [attempt.usage for attempt in broken if attempt.usage is not None]
    costs = [cost, *(attempt.cost for attempt in broken)]
    known = [one for one in costs if one is not None]
    whole = sum((one.usd for one in known), Decimal(0))
    estimated = any(one.estimated for one in known)
    return sum_usage([*usages, usage]), Cost(whole, estimated) if len(known) == len(costs) else None


def _counter(gates: Gates) -> Counter:
    """Where sums are kept: where limits are."""
    if gates.state is None:
        return MemoryCounter()
    from .state.redis import RedisCounter

    return RedisCounter(gates.state)


def _limits(settings: TimeoutSettings | None) -> dict[str, float]:
    return {} if settings is None else settings.model_dump(exclude_none=True)


def _policy(settings: RetrySettings) -> RetryPolicy:
    return RetryPolicy(**settings.model_dump(exclude_none=True))
