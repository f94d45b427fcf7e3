"""A real model behind the emulated hosts: an OpenAI-compatible server, or a GGUF file run in this process.

Both run in a thread for each request and hand over OpenAI stream chunks as they come; from there on an answer is made
of the same pieces as a scripted one, so every host's wire format is written around a real model's words.
"""

from __future__ import annotations

import asyncio
import atexit
import http.client
import importlib
import json
import os
import secrets
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from .prompt import Prompt
from .script import CallArgs, CallStart, End, Piece, Text

__all__ = ["GgufModel", "Model", "ModelError", "UpstreamModel", "open_model"]

Emit = Callable[[dict[str, Any]], bool]
"""Takes one chunk; True means that nobody is listening any more."""


class ModelError(Exception):
    """The model behind the emulator refused or failed: HTTP status (500 if there is none) and text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Model(Protocol):
    """What the emulator needs from a model."""

    def run(self, body: dict[str, Any], emit: Emit) -> None:
        """Answer an OpenAI streaming request; blocks, and calls `emit` for each chunk."""

    def close(self) -> None:
        """Free what the model holds."""


class UpstreamModel:
    """An OpenAI-compatible server. `url` ends before `/chat/completions`; `model` defaults to its first model."""

    def __init__(self, url: str, key: str | None = None, model: str | None = None, timeout: float = 300.0) -> None:
        self._url, self._key, self._model, self._timeout = urlsplit(url.rstrip("/")), key, model, timeout

    def close(self) -> None:
        """Nothing is held between requests."""

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        return kind(self._url.hostname or "", self._url.port, timeout=self._timeout)

    def _headers(self) -> dict[str, str]:
        key = {"authorization": f"Bearer {self._key}"} if self._key else {}
        return {"content-type": "application/json", **key}

    def _name(self) -> str:
        if self._model is None:
            connection = self._connect()
            try:
                connection.request("GET", f"{self._url.path}/models", headers=self._headers())
                found = json.loads(connection.getresponse().read())
                self._model = str(found["data"][0]["id"])
            except (ValueError, LookupError, TypeError):
                self._model = "default"
            finally:
                connection.close()
        return self._model

    def run(self, body: dict[str, Any], emit: Emit) -> None:
        try:
            self._run(body, emit)
        except OSError as error:
            raise ModelError(502, f"the model behind the emulator can't be reached: {error}") from error

    def _run(self, body: dict[str, Any], emit: Emit) -> None:
        sent = json.dumps({"model": self._name(), **body}).encode()
        connection = self._connect()
        try:
            connection.request("POST", f"{self._url.path}/chat/completions", sent, self._headers())
            response = connection.getresponse()
            if response.status != 200:
                raise ModelError(response.status, response.read().decode("utf-8", "replace"))
            for data in _event_data(response):
                if data == "[DONE]" or emit(json.loads(data)):
                    break
        finally:
            connection.close()


def _event_data(response: http.client.HTTPResponse) -> Iterator[str]:
    """The data of each event of a stream."""
    data: list[str] = []
    while line := response.readline():
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text.startswith("data:"):
            data.append(text[5:].removeprefix(" "))
        elif not text and data:
            yield "\n".join(data)
            data = []
    if data:
        yield "\n".join(data)


_alive: weakref.WeakSet[GgufModel] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """An engine that is still there when the interpreter ends may keep the process from ending."""
    for model in list(_alive):
        model.close()


class GgufModel:
    """A GGUF file run by llama.cpp in this process (`pip install xllamacpp`); `mmproj` adds the vision tower.

    ctx: context window in tokens.   threads: None = usable cores less one, at least one.   parallel: requests at a
    time; more wait in llama.cpp's queue.
    """

    def __init__(
        self,
        path: str | Path,
        mmproj: str | Path | None = None,
        *,
        ctx: int = 4096,
        threads: int | None = None,
        parallel: int = 1,
    ) -> None:
        # OpenMP reads these when the library is loaded. Without them its threads spin at barriers, and on a busy
        # machine two threads are slower than one.
        os.environ.setdefault("GOMP_SPINCOUNT", "0")
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            engine: Any = importlib.import_module("xllamacpp")
        except ImportError as error:
            raise ModuleNotFoundError("a GGUF model needs the engine: pip install xllamacpp") from error
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        params = engine.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel = ctx * parallel, parallel  # the window is divided between the slots
        params.warmup, params.use_jinja, params.verbosity = False, True, -1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or max(1, cores - 1)
        params.api_keys = [secrets.token_urlsafe(24)]  # the engine opens a loopback port of its own: close it to others
        if mmproj is not None:
            params.mmproj.path = str(mmproj)
        self._server: Any = engine.Server(params)
        _alive.add(self)

    def close(self) -> None:
        """Drop the engine."""
        self._server = None

    def run(self, body: dict[str, Any], emit: Emit) -> None:
        body, forced = _force_call(body)
        collected: list[str] = []

        def on_chunk(chunk: Any) -> bool:
            if not forced or "error" in chunk or not chunk.get("choices"):
                return emit(chunk)
            for choice in chunk["choices"]:
                collected.append(choice.get("delta", {}).get("content") or "")
            return False

        try:
            self._server.handle_chat_completions(body, on_chunk)
        except RuntimeError as error:
            raise ModelError(500, str(error)) from error
        if forced:
            _emit_call("".join(collected), emit)


def _force_call(body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """`required` and named tools as a JSON schema: llama.cpp itself lets any prose come before a forced call."""
    choice = body.get("tool_choice")
    if not body.get("tools") or choice in (None, "auto", "none"):
        return body, False
    wanted = choice.get("function", choice).get("name") if isinstance(choice, Mapping) else None
    functions = [tool["function"] for tool in body["tools"] if wanted is None or tool["function"]["name"] == wanted]
    variants = [
        {
            "type": "object",
            "properties": {"name": {"const": one["name"]}, "arguments": one.get("parameters") or {"type": "object"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for one in functions
    ]
    rest = {key: value for key, value in body.items() if key not in ("tools", "tool_choice", "parallel_tool_calls")}
    told = {"role": "system", "content": "Call one of these functions: " + json.dumps(functions)}
    schema = {"name": "call", "schema": {"anyOf": variants}}
    return {
        **rest,
        "messages": [told, *body["messages"]],
        "response_format": {"type": "json_schema", "json_schema": schema},
    }, True


def _emit_call(text: str, emit: Emit) -> None:
    try:
        call = json.loads(text)
        function = {"name": call["name"], "arguments": json.dumps(call["arguments"], ensure_ascii=False)}
    except (ValueError, LookupError, TypeError):
        delta: dict[str, Any] = {"content": text}  # cut short by max_tokens: what there is, as text
        emit({"choices": [{"index": 0, "delta": delta, "finish_reason": "length"}]})
        return
    delta = {"tool_calls": [{"index": 0, "function": function}]}
    emit({"choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]})


def open_model(model: Any) -> Model:
    """The model that an `Emulator(model=...)` argument means.

    A URL or `{"url", "key", "model"}` is a server; a path or `{"path", "mmproj", ...}` a GGUF file; anything with a
    `run` method is taken as it is.
    """
    if isinstance(model, Mapping):
        settings = dict(model)
        return UpstreamModel(**settings) if "url" in settings else GgufModel(**settings)
    if isinstance(model, str) and model.startswith(("http://", "https://")):
        return UpstreamModel(model)
    if isinstance(model, str | Path):
        return GgufModel(model)
    if hasattr(model, "run"):
        opened: Model = model
        return opened
    raise TypeError(f"no model: {model!r} (a URL, a GGUF path, a mapping or an object with run())")


async def pieces(model: Model, prompt: Prompt) -> AsyncIterator[Piece]:
    """The model's answer, piece by piece. Closing the iterator stops the model."""
    body = {"temperature": 0.15, **prompt.openai_body(), "stream": True, "stream_options": {"include_usage": True}}
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[dict[str, Any] | BaseException | None] = asyncio.Queue()
    gone = threading.Event()

    def put(item: dict[str, Any] | BaseException | None) -> None:
        if not gone.is_set() and not loop.is_closed():
            loop.call_soon_threadsafe(queue.put_nowait, item)

    def emit(chunk: dict[str, Any]) -> bool:
        put(chunk)
        return gone.is_set()

    def work() -> None:
        try:
            model.run(body, emit)
        except BaseException as error:  # handed to the loop: nobody reads a thread's traceback
            put(error)
        put(None)

    threading.Thread(target=work, name="llamaroute-emulator-model", daemon=True).start()
    reader = _Reader()
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item if isinstance(item, ModelError) else ModelError(500, f"{type(item).__name__}: {item}")
            for piece in reader.read(item):
                yield piece
        yield reader.end(prompt)
    finally:
        gone.set()


class _Reader:
    """OpenAI chunks to pieces."""

    def __init__(self) -> None:
        self._reason = ""
        self._usage: Mapping[str, Any] = {}
        self._calls: dict[int, int] = {}

    def read(self, chunk: Mapping[str, Any]) -> Iterator[Piece]:
        error = chunk.get("error", chunk if "code" in chunk and "message" in chunk else None)
        if error is not None:
            known = error if isinstance(error, Mapping) else {"message": str(error)}
            status = known.get("code")
            raise ModelError(status if isinstance(status, int) else 500, str(known.get("message")))
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            self._reason = choice.get("finish_reason") or self._reason
            delta = choice.get("delta") or {}
            if delta.get("content"):
                yield Text(delta["content"])
            for part in delta.get("tool_calls") or ():
                function = part.get("function") or {}
                at = int(part.get("index") or 0)
                if at not in self._calls:
                    self._calls[at] = len(self._calls)
                    yield CallStart(self._calls[at], str(function.get("name")))
                if function.get("arguments"):
                    yield CallArgs(self._calls[at], function["arguments"])

    def end(self, prompt: Prompt) -> End:
        details = self._usage.get("prompt_tokens_details") or {}
        reason = self._reason or "stop"
        return End(
            "tool_calls" if self._calls and reason == "stop" else reason,
            self._usage.get("prompt_tokens") or prompt.tokens,
            self._usage.get("completion_tokens") or 0,
            details.get("cached_tokens") or 0,
        )
