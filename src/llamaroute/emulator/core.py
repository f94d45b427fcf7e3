"""The emulator itself: the queue of replies, the faults, the log of requests, and the server that serves the hosts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from .answer import Answer, RecordedRequest, dumps, json_answer
from .hosts import HOSTS, Call, Host, Options
from .model import Model, ModelError, open_model, pieces
from .prompt import Prompt, default_reply
from .script import Fault, Piece, Reply, play
from .server import App, Server
from .tokens import Tokens

__all__ = ["Emulator"]

_log = logging.getLogger(__name__)
_NO_EVENTS: tuple[str, ...] = ()
_EXAMPLES = ("cloudflare", "huggingface", "openai", "azure", "databricks", "vertex", "bedrock")


@dataclass
class _Armed:
    """A fault that waits for its requests."""

    fault: Fault
    left: int
    host: str | None
    path: str | None


class Emulator(App):
    """One local HTTP server that speaks the wire formats of many model hosts.

    ```python
    with Emulator(["Hello!"]) as emu:
        client = openai.OpenAI(base_url=emu.base_url("openai"), api_key=emu.key("openai"))
        client.chat.completions.create(model="llama-4-scout", messages=[{"role": "user", "content": "Hi"}])
    assert emu.requests[0].json["model"] == "llama-4-scout"
    ```

    replies: scripted answers (str or `Reply`), used first in, first out by all hosts. When none is left, the default
      answer is given: a call of a forced tool, JSON for a schema, "I see 1 image (image/png, 64x64)." or an echo.
    model: a real model that answers instead of the default: URL of an OpenAI-compatible server, path of a GGUF file,
      or the keyword arguments of `UpstreamModel` (`url`, `key`, `model`) or `GgufModel` (`path`, `mmproj`, `ctx`, ...)
      as a mapping.
    host, port: where to listen; 0 takes a free port.
    quirks: names of switches (see `quirk_names`); `no-<name>` turns one off that is on by default.
    keys: host name -> accepted key; None = no authentication. Defaults: `key(name)`.
    models, context: host name -> accepted model ids, tokens of the context window.
    account_id: the Cloudflare account that exists.   max_body: bytes of a request body above which hosts answer 413.
    cold_start: seconds that the dedicated endpoint (`hf-endpoint`) takes to wake up, from its first request on.
    loading: the same for llama.cpp's 503 "Loading model".   engine: server behind `hf-endpoint`, "tgi" or "vllm".
    token_life: seconds that tokens of the emulated token services live.
    settings: host name -> what else can be set there; each host's `known_settings` has the names and defaults.

    All methods may be called from any thread, before and while the server runs.
    """

    def __init__(
        self,
        replies: Iterable[str | Reply] | None = None,
        *,
        model: Any = None,
        host: str = "127.0.0.1",
        port: int = 0,
        quirks: Iterable[str] = (),
        keys: Mapping[str, str | None] | None = None,
        models: Mapping[str, Sequence[str]] | None = None,
        context: Mapping[str, int] | None = None,
        account_id: str = "0123456789abcdef0123456789abcdef",
        max_body: int = 10_000_000,
        cold_start: float = 0.0,
        loading: float = 0.0,
        engine: str = "tgi",
        token_life: float = 3600.0,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        chosen = frozenset(quirks)
        known = self.quirk_names()
        unknown = sorted(name for name in chosen if name not in known and name.removeprefix("no-") not in known)
        if unknown:
            raise ValueError(f"unknown quirks: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        for named in (keys, models, context, settings):
            _check_hosts(named or ())
        for name, given in (settings or {}).items():
            if HOSTS[name].settings_host not in ("", name):
                raise ValueError(f"the settings of {name!r} stand under {HOSTS[name].settings_host!r}")
            if surplus := sorted(set(given) - set(HOSTS[name].known_settings)):
                there = ", ".join(sorted(HOSTS[name].known_settings)) or "none"
                raise ValueError(f"unknown settings of {name!r}: {', '.join(surplus)}; known: {there}")
        self.tokens = Tokens(token_life)
        options = Options(
            keys=keys or {}, models=models or {}, context=context or {}, quirks=chosen, account_id=account_id,
            max_body=max_body, cold_start=cold_start, loading=loading, engine=engine, tokens=self.tokens,
            settings=settings or {},
        )  # fmt: skip
        self._hosts: dict[str, Host] = {name: kind(options) for name, kind in HOSTS.items()}
        self._lock = threading.Condition()
        self._replies: deque[Reply] = deque()
        self._faults: list[_Armed] = []
        self._requests: list[RecordedRequest] = []
        self._model_source = model
        self._model: Model | None = None
        self._host = host
        self._server = Server(self, host, port)
        self.replies(*(replies or ()))

    @staticmethod
    def quirk_names() -> dict[str, bool]:
        """Every known quirk with its default."""
        return {name: on for kind in HOSTS.values() for name, on in kind.known_quirks.items()}

    # ── running ──

    def start(self) -> Self:
        """Load the model, if any, and listen. Starting a running emulator does nothing."""
        if not self._server.running:
            if self._model_source is not None and self._model is None:
                self._model = open_model(self._model_source)
            self._server.start()
        return self

    def stop(self) -> None:
        """Close all connections and stop listening; the log of requests stays. Stopping twice does nothing."""
        self._server.stop()
        if self._model is not None:
            if self._model is not self._model_source:  # a model that was handed in ready stays its owner's
                self._model.close()
            self._model = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`; the port is known once the emulator has started."""
        if not self._server.port:
            raise RuntimeError("the emulator is not running: call start() or use it in a with statement")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.port}"

    @property
    def connections_open(self) -> int:
        """Client connections that are open now."""
        return self._server.connections_open

    def base_url(self, name: str) -> str:
        """The base URL of a host, as a client of the real one would write it."""
        _check_hosts([name])
        return f"{self.url}/{name}{self._hosts[name].base_path}"

    def key(self, name: str) -> str | None:
        """The key that a host accepts; None if it takes any."""
        _check_hosts([name])
        return self._hosts[name].key

    def providers(self, *names: str) -> dict[str, dict[str, Any]]:
        """What to put under `providers` in a llamaroute config; by default one host of each kind."""
        chosen = names or _EXAMPLES
        _check_hosts(chosen)
        return {name: self._hosts[name].provider(self.base_url(name)) for name in chosen}

    # ── scripting ──

    def reply(self, text: str | Reply = "", **fields: Any) -> None:
        """Queue one answer: `reply("Hi")`, `reply(tool_calls=[("f", {"a": 1})])`, or a ready `Reply`."""
        ready = text if isinstance(text, Reply) else Reply(text, **fields)
        with self._lock:
            self._replies.append(ready)

    def replies(self, *replies: str | Reply) -> None:
        """Queue several answers."""
        for reply in replies:
            self.reply(reply)

    def fault(self, fault: Fault | None = None, times: int = 1, host: str | None = None, path: str | None = None,
              **fields: Any) -> None:  # fmt: skip
        """Let the next `times` matching requests go wrong: `fault(Fault(status=429))` or `fault(status=429)`.

        Requests for a model's answer match; with `path` (part of the path) others do. Faults are used in the order
        given.
        """
        if host is not None:
            _check_hosts([host])
        with self._lock:
            self._faults.append(_Armed(fault or Fault(**fields), times, host, path))

    def clear(self) -> None:
        """Forget queued replies, faults and the log of requests."""
        with self._lock:
            self._replies.clear()
            self._faults.clear()
            self._requests.clear()

    def revoke_tokens(self) -> None:
        """Let no token that the token services have issued so far be accepted any more."""
        self.tokens.revoke_all()

    # ── the log ──

    @property
    def requests(self) -> list[RecordedRequest]:
        """Everything that arrived, in order of arrival."""
        with self._lock:
            return list(self._requests)

    def wait_for(self, count: int, *, finished: bool = False, timeout: float = 5.0) -> list[RecordedRequest]:
        """Block until `count` requests have arrived (with `finished`: and are over); TimeoutError after `timeout`
        seconds."""

        def enough() -> bool:
            return sum(not finished or request.finished is not None for request in self._requests) >= count

        with self._lock:
            if not self._lock.wait_for(enough, timeout):
                raise TimeoutError(f"{len(self._requests)} of {count} requests after {timeout} s")
            return list(self._requests)

    # ── called by the server ──

    def arrived(self, request: RecordedRequest) -> None:
        with self._lock:
            self._requests.append(request)
            self._lock.notify_all()

    def done(self, request: RecordedRequest) -> None:
        with self._lock:
            self._lock.notify_all()

    async def answer(self, request: RecordedRequest) -> Answer:
        host = self._hosts.get(request.host) or self._at_root(request)
        if host is None:
            return json_answer(
                404, {"error": f"no emulated host {request.host!r}; there are: {', '.join(self._hosts)}"}
            )
        fault = self._take_fault(host, request)
        call = Call(request, lambda prompt: self._generate(call, prompt), fault)
        if fault is not None and fault.replaces_answer:
            answer = await self._replacement(host, call, fault)
        else:
            try:
                answer = await host.handle(call)
            except ModelError as error:
                answer = host.error(request, error.status, error.message, None)
            except Exception as error:
                # A body so odd that a check trips over it: say so, rather than drop the connection without a word.
                _log.exception("the emulated host %s failed", host.name)
                answer = host.error(request, 500, f"emulator: {type(error).__name__}: {error}", None)
        answer.headers.update(call.reply_headers)
        return _apply(answer, fault)

    def _at_root(self, request: RecordedRequest) -> Host | None:
        """The host that a path without a host's name belongs to; the path becomes whole again."""
        for name, host in self._hosts.items():
            if request.host in host.root_paths:
                request.path = f"/{request.host}{'' if request.path == '/' else request.path}"
                request.host = name
                return host
        return None

    async def _replacement(self, host: Host, call: Call, fault: Fault) -> Answer:
        if fault.reset or fault.hangup:
            return Answer(reset=fault.reset, hangup=fault.hangup)
        if fault.error_first:
            return host.stream(call, _nothing(), {"content-type": "text/event-stream"})
        if fault.body is None:
            assert fault.status is not None
            return host.error(call.request, fault.status, fault.message, fault.code)
        body = fault.body
        if isinstance(body, bytes | str):
            raw = body if isinstance(body, bytes) else body.encode()
            return Answer(fault.status or 200, {"content-type": fault.content_type or "text/plain"}, raw)
        return Answer(fault.status or 200, {"content-type": "application/json"}, dumps(body))

    def _take_fault(self, host: Host, request: RecordedRequest) -> Fault | None:
        inference = host.is_inference(request)
        with self._lock:
            for armed in self._faults:
                wanted = armed.host in (None, host.name)
                if wanted and (inference if armed.path is None else armed.path in request.path):
                    armed.left -= 1
                    if armed.left <= 0:
                        self._faults.remove(armed)
                    return armed.fault
        return None

    async def _generate(self, call: Call, prompt: Prompt) -> AsyncIterator[Piece]:
        with self._lock:
            reply = self._replies.popleft() if self._replies else None
        if reply is None and self._model is not None:
            return await _primed(pieces(self._model, prompt))
        if reply is None:
            reply = default_reply(prompt)
        if reply.delay:
            await asyncio.sleep(reply.delay)
        call.reply_headers.update(reply.headers)
        return play(reply, prompt_tokens=prompt.tokens, max_tokens=prompt.max_tokens, stop=prompt.stop)


async def _primed(source: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    """Wait for the first piece, so that a model's refusal still becomes an HTTP status."""
    first = await anext(source)

    async def rest() -> AsyncIterator[Piece]:
        async with contextlib.aclosing(source) as open_source:  # type: ignore[type-var]
            yield first
            async for piece in open_source:
                yield piece

    return rest()


async def _nothing() -> AsyncIterator[str]:
    for event in _NO_EVENTS:
        yield event


def _apply(answer: Answer, fault: Fault | None) -> Answer:
    """The fault's headers and delays on an answer."""
    if fault is None:
        return answer
    answer.fault = fault
    if fault.retry_after is not None:
        wait = fault.retry_after
        answer.headers["retry-after"] = f"{wait:g}" if isinstance(wait, int | float) else wait
    if fault.content_type is not None:
        answer.headers["content-type"] = fault.content_type
    answer.headers.update(fault.headers)
    if fault.stall_after is None:
        answer.delay += fault.stall
    return answer


def _check_hosts(names: Iterable[str]) -> None:
    for name in names:
        if name not in HOSTS:
            raise ValueError(f"no emulated host {name!r}; there are: {', '.join(HOSTS)}")
