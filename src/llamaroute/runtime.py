"""What `Client` and `AsyncClient` share: a loaded configuration at work, arguments -> calls, replies -> responses.

No I/O happens here but the reading of the configuration and what credentials need to be set up; requests are sent by
the drivers in `drivers.py`.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, NamedTuple, TypedDict

from . import catalog
from .catalog.prices import cost_of
from .config.load import LoadedConfig, load_config
from .config.models import Config
from .errors import CapabilityError, InputError
from .layers.adapt import adapt, check
from .layers.failover import failover
from .layers.observe import observe
from .layers.repair import repair
from .layers.retry import RetryPolicy, retry
from .media_io import FileAndNet
from .output import OutputSpec, output_spec
from .pipeline.core import Call, Candidate, Handler, Layer, Ledger, Reply, Timeout, compose
from .pipeline.exchange import exchange, read_body, send_signed
from .pipeline.ops import Plan
from .registry import make_auth, provider_spec
from .routing.resolve import Account, make_account, resolve
from .spi import Auth, AuthSettings, Target, TokenCounter, WireResponse
from .tokens import TokenCount, estimate_tokens, estimate_usage
from .tools import as_tools
from .types.messages import Input, messages_from
from .types.request import ChatRequest
from .types.response import ChatResponse, Notice, Timing
from .types.settings import RetrySettings, TimeoutSettings
from .types.tools import Tool
from .wire.headers import request_id

__all__ = ["ChatOptions", "Runtime", "Totals"]

_NOT_YET = {"fit": None, "priority": 0}
"""Arguments of the documented signature that a later version builds, with the value that asks for nothing."""

MAX_COUNT_BODY = 64 << 10

_NUMBERS: Mapping[str, type] = {
    "max_tokens": int,
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "seed": int,
    "frequency_penalty": float,
    "presence_penalty": float,
    "repetition_penalty": float,
}


@dataclass(slots=True)
class Totals:
    """What a client has used so far. `cost` sums what has a price; `unpriced` counts calls without one."""

    calls: int = 0
    failed: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = Decimal(0)
    unpriced: int = 0
    by_target: dict[str, Totals] = field(default_factory=dict)


class ChatOptions(TypedDict, total=False):
    """The keyword arguments of `chat` and `stream`. Left out or None means: the host's default.

    Knobs keep the host's ranges (see `llamaroute.catalog`); a value the chosen target cannot take is a
    `CapabilityError` before anything is sent.
    """

    model: str | None
    """Route, `provider:model`, provider or model name. Default: the configuration's `default`."""
    system: str | None
    """System prompt, put before the messages."""
    tools: Sequence[Tool | Callable[..., Any] | Mapping[str, Any]]
    """Functions, `Tool`s or OpenAI-style dicts the model may call; nothing is called by `chat` and `stream`."""
    tool_choice: str
    """`auto` (default), `none`, `required`, or a tool's name."""
    output_retries: int
    """How often an answer that does not fit `output` goes back to the model with what is wrong. Default: 1.
    Streams are not asked again."""
    max_tokens: int | None
    """Most tokens of the answer, at least 1."""
    temperature: float | None
    """Randomness; 0 for none."""
    top_p: float | None
    """Nucleus sampling, above 0 to 1."""
    top_k: int | None
    """Only the k likeliest tokens, at least 1."""
    seed: int | None
    """For answers that repeat, as far as the host can."""
    stop: str | Sequence[str] | None
    """Texts at which the answer ends; they are not part of it."""
    frequency_penalty: float | None
    """Penalty that grows with each use of a token."""
    presence_penalty: float | None
    """Penalty for tokens used at all."""
    repetition_penalty: float | None
    """Factor against repetition; 1 is none."""
    logprobs: bool | int | None
    """True, or how many alternatives per token to report."""
    parallel_tool_calls: bool | None
    """Whether one answer may hold several tool calls."""
    headers: Mapping[str, str] | None
    """Headers sent with this call."""
    timeout: float | Timeout | None
    """Total seconds, or a `Timeout`."""
    retry: Any
    """Attempts in all, a `RetryPolicy`, or a tenacity `Retrying`."""
    metadata: Mapping[str, str] | None
    """For observers; never sent."""
    fit: None
    """Not in this version: trims a history to the target's window."""
    priority: int
    """Not in this version: order among calls that wait for a free place. 0, the default, is accepted."""
    extra: Mapping[str, Mapping[str, Any]] | None
    """Account or kind -> keys merged last into the request's body."""


def media(call: Call, handler: Handler) -> Plan[Reply]:
    """The media layer; most calls have no image, and then nothing of it is imported."""
    if not call.request.images:
        return handler(call)
    from .layers.media import media as layer

    return layer(call, handler)


class _Found(NamedTuple):
    """What a `model=` means, ready to be called."""

    candidates: tuple[Candidate, ...]
    notices: tuple[Notice, ...]


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
        self.handler: Handler = compose((failover, adapt, repair, media, retry, *layers, observe), exchange)
        self.totals = Totals()
        self._totals_lock = threading.Lock()
        self._env = env
        self._auths: dict[str, Auth] = {}
        self._auth_lock = threading.Lock()
        self._resolved: dict[str | None, _Found] = {}

    # -- a call begins ------------------------------------------------------------------------------------------------

    def prepare(self, input: Input, options: ChatOptions, *, output: Any, stream: bool) -> Call:
        """Check the arguments and make the call.

        Raises:
            InputError, ConfigError, CapabilityError: see `resolve`; nothing is sent.
        """
        spec = None if output is None else output_spec(output)
        request = _request(input, options, spec)
        model = options.get("model")
        if model is not None and not isinstance(model, str):
            raise InputError(f"model= takes the name of a route, a provider or a model, not {model!r}")
        found = self._found(model)
        candidates = found.candidates
        if (own := options.get("timeout")) is not None:
            limits = _given_timeout(own)
            candidates = tuple(replace(c, timeout=replace(c.timeout, **limits)) for c in candidates)
        now = time.monotonic()
        # One deadline for the whole call: the most patient target's, so that a patient one is not cut off by a
        # hasty one before it.
        totals = [candidate.timeout.total for candidate in candidates]
        total = None if None in totals else max(value for value in totals if value is not None)
        return Call(
            request=request,
            stream=stream,
            candidates=candidates,
            candidate=candidates[0],
            deadline=None if total is None else now + total,
            ledger=Ledger(now=now, started=now, wall=time.time(), notices=list(found.notices)),
            timeout=candidates[0].timeout,
            retry=_given_policy(options.get("retry")),
            observers=self.observers,
            io=self.io,
            output=spec,
            output_retries=_retries(options.get("output_retries", 1)),
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
                    if route.retry is not None:
                        candidate.retry = _policy(route.retry)
            found = _Found(tuple(candidates), resolution.notices)
            if len(self._resolved) < 1024:  # names come from callers: a bound keeps a typo loop from filling memory
                self._resolved[model] = found
        return found

    def _candidate(self, target: Target) -> Candidate:
        account = self.accounts[target.provider]
        limits = {**account.options.default_timeout(), **_limits(account.options.timeout)}
        policy = RetryPolicy() if account.options.retry is None else _policy(account.options.retry)
        timeout = Timeout(**limits) if limits else Timeout()
        return Candidate(target, account.spec.adapter, self._auth(account), timeout, policy)

    def _auth(self, account: Account) -> Auth:
        with self._auth_lock:
            auth = self._auths.get(account.name)
            if auth is None:
                import os

                env = os.environ if self._env is None else self._env
                auth = make_auth(account.spec, AuthSettings(account.name, account.options, env))
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
        warnings = [*ledger.notices, *(notice for notice in response.warnings if notice not in ledger.notices)]
        if usage.estimated:
            usage = estimate_usage(call.request, response)
            warnings.append(
                Notice("usage_estimated", f"{target.name} reported no usage; the numbers are estimates", "usage")
            )
            if ledger.attempts:
                ledger.attempts[-1] = replace(ledger.attempts[-1], usage=usage, cost=cost_of(usage, target.row))
        return response.model_copy(
            update={
                "usage": usage,
                "cost": cost_of(usage, target.row),
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

    def suggest(self, call: Call, error: CapabilityError) -> None:
        """Complete a refusal with the configured targets that could serve the request."""
        asked = {candidate.target.name for candidate in call.candidates}
        could: list[str] = []
        for account in self.accounts.values():
            for target in map(account.target, account.rows):
                if target.name in asked or target.name in could:
                    continue
                with contextlib.suppress(CapabilityError):
                    check(call.request, target, stream=call.stream)
                    could.append(target.name)
        if could:
            error.could_serve = tuple(could)
            error.args = (f"{error.args[0]}; could serve it: {', '.join(could)}",)

    def count_plan(self, call: Call) -> Plan[TokenCount]:
        """Count a request's input tokens: by the target where its adapter can, else by estimate."""
        adapter, request = call.candidate.adapter, call.request
        if not isinstance(adapter, TokenCounter):
            return TokenCount(estimate_tokens(request), estimated=True)

        def ask(loaded: Call) -> Plan[Reply]:
            head = yield from send_signed(loaded, adapter.count_request(loaded.request, loaded.target))
            body = yield from read_body(loaded, MAX_COUNT_BODY)
            counted.append(adapter.parse_count(WireResponse(head.status, head.headers, body), loaded.target))
            return Reply(loaded.target)

        counted: list[int] = []
        yield from media(call, ask)
        return TokenCount(counted[0], estimated=False)

    def used(self) -> Totals:
        """A copy of the totals."""
        with self._totals_lock:
            by_target = {name: replace(totals) for name, totals in self.totals.by_target.items()}
            return replace(self.totals, by_target=by_target)

    def count(self, call: Call, response: ChatResponse[Any] | None) -> None:
        """Add a call that has ended to the totals; None is one that failed."""
        target = response.target if response is not None else call.target.name
        with self._totals_lock:
            for totals in (self.totals, self.totals.by_target.setdefault(target, Totals())):
                totals.calls += 1
                totals.attempts += len(call.ledger.attempts)
                if response is None:
                    totals.failed += 1
                    for attempt in call.ledger.attempts:  # an answer that did not fit was paid for all the same
                        if attempt.usage is not None:
                            totals.input_tokens += attempt.usage.input_tokens
                            totals.output_tokens += attempt.usage.output_tokens
                        if attempt.cost is not None:
                            totals.cost += attempt.cost.usd
                    continue
                totals.input_tokens += response.usage.input_tokens
                totals.output_tokens += response.usage.output_tokens
                if response.cost is None:
                    totals.unpriced += 1
                else:
                    totals.cost += response.cost.usd


def _request(input: Input, options: ChatOptions, spec: OutputSpec | None) -> ChatRequest:
    unknown = options.keys() - ChatOptions.__annotations__.keys()
    if unknown:
        import difflib

        name = sorted(unknown)[0]
        near = difflib.get_close_matches(name, ChatOptions.__annotations__, 1)
        raise InputError(f"there is no argument {name}={f'; did you mean {near[0]}=?' if near else ''}")
    for name, usual in _NOT_YET.items():
        if options.get(name, usual) != usual:
            raise InputError(f"this version does not know {name}= yet")
    system = options.get("system")
    if system is not None and not isinstance(system, str):
        raise InputError(f"system= takes text, not {type(system).__name__}")
    messages = messages_from(input, system_text=system)
    if not options and spec is None:
        return ChatRequest(messages)
    choice = options.get("tool_choice") or "auto"
    tools = options.get("tools")
    return ChatRequest(
        messages=messages,
        tools=as_tools(tools, choice) if tools else as_tools((), choice),
        tool_choice=choice,
        output=None if spec is None else spec.schema,
        logprobs=_logprobs(options.get("logprobs")),
        stop=_stop(options.get("stop")),
        parallel_tool_calls=_truth("parallel_tool_calls", options.get("parallel_tool_calls")),
        headers=_headers(options.get("headers")),
        extra=_table("extra", options.get("extra"), Mapping),
        metadata=_table("metadata", options.get("metadata"), object),
        **{name: _number(name, options.get(name), kind) for name, kind in _NUMBERS.items()},
    )


def _number(name: str, value: Any, kind: type) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        whole = "a whole number" if kind is int else "a number"
        raise InputError(f"{name}= takes {whole}, not {value!r}")
    if value != value or value in (float("inf"), float("-inf")):
        raise InputError(f"{name}= takes a finite number, not {value!r}")
    if name in ("max_tokens", "top_k") and value < 1:
        raise InputError(f"{name}= must be at least 1, not {value!r}")
    return value


def _table(name: str, value: Any, kind: type) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, kind) for k, v in value.items()):
        inner = " of tables" if kind is Mapping else ""
        raise InputError(f"{name}= takes a table{inner} with names as keys, not {type(value).__name__}")
    return value


def _headers(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    # Values are not shown: they may be keys.
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise InputError("headers= takes a table of texts with names as keys")
    return {name.lower(): text for name, text in value.items()}


def _retries(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"output_retries= takes a whole number from 0, not {value!r}")
    return value


def _truth(name: str, value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise InputError(f"{name}= takes True or False, not {value!r}")
    return value


def _logprobs(value: Any) -> int | None:
    if isinstance(value, bool):
        return 0 if value else None
    count: int | None = _number("logprobs", value, int)
    if count is not None and count < 0:
        raise InputError(f"logprobs= takes True or a number of alternatives from 0, not {value!r}")
    return count


def _stop(stop: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if stop is None:
        return None
    if not isinstance(stop, str | Sequence | set | frozenset):
        raise InputError(f"stop= takes a text or a list of texts, not {type(stop).__name__}")
    texts = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(text, str) and text for text in texts):
        raise InputError("stop= takes a text or a list of texts, none of them empty")
    return texts or None


def _limits(settings: TimeoutSettings | None) -> dict[str, float]:
    return {} if settings is None else settings.model_dump(exclude_none=True)


def _given_timeout(timeout: float | Timeout) -> dict[str, Any]:
    if isinstance(timeout, Timeout):
        return {name: getattr(timeout, name) for name in ("connect", "first_token", "idle", "total")}
    return {"total": _positive("timeout", timeout)}


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"{name}= takes seconds above 0, not {value!r}")
    return float(value)


def _policy(settings: RetrySettings) -> RetryPolicy:
    return RetryPolicy(**settings.model_dump(exclude_none=True))


def _given_policy(retry: Any) -> Any:
    """A call's `retry=` as a policy: an int, a RetryPolicy, or anything with tenacity's retry, stop and wait."""
    if retry is None or isinstance(retry, RetryPolicy):
        return retry
    if isinstance(retry, int) and not isinstance(retry, bool):
        return RetryPolicy(attempts=retry)
    if all(callable(getattr(retry, name, None)) for name in ("retry", "stop", "wait")):
        return retry
    raise InputError(f"retry= takes a number of attempts, a RetryPolicy or a tenacity Retrying, not {retry!r}")
