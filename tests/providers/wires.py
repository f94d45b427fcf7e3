"""What the provider tests share: targets, bodies, and streams written out by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llamaroute import catalog
from llamaroute.parity.plan import plan
from llamaroute.routing.resolve import make_account
from llamaroute.spi import ProviderSpec, Target, WireRequest, WireResponse
from llamaroute.types.capability import ModelRow
from llamaroute.types.messages import messages_from
from llamaroute.types.request import ChatRequest
from llamaroute.types.tools import Tool

WEATHER = Tool(
    "weather",
    "Weather forecast.",
    {"type": "object", "properties": {"city": {"type": "string", "description": "City"}}, "required": ["city"]},
)
WEATHER_JSON = {
    "type": "function",
    "function": {"name": "weather", "description": "Weather forecast.", "parameters": dict(WEATHER.schema)},
}
PNG = b"\x89PNG\r\n\x1a\n"
PNG_URL = "data:image/png;base64,iVBORw0KGgo="


def target_of(spec: ProviderSpec, settings: Mapping[str, Any], model: str = "llama-4-scout") -> Target:
    """The target that `account:model` means with an account of these settings."""
    options = spec.settings.model_validate({"kind": spec.name, **settings})
    rows = catalog.rows(spec.name) if spec.catalog is None else catalog.parse(spec.catalog)
    account = make_account("acc", spec, options, rows, {})
    row = next((row for row in account.rows if model in (row.model, row.model_id)), ModelRow(model, model))
    return account.target(row)


def ask(*items: Any, **fields: Any) -> ChatRequest:
    """A request; without input, the plain question `Hi`."""
    return ChatRequest(messages_from(list(items) or "Hi"), **fields)


def support(request: ChatRequest, target: Target, *, stream: bool) -> dict[str, str]:
    """How the target serves each feature that the request needs."""
    return {step.feature: step.how for step in plan(request, target, stream=stream)}


def text_of(wire: WireRequest) -> bytes:
    return wire.body if isinstance(wire.body, bytes) else b"".join(wire.body)


def json_of(wire: WireRequest) -> dict[str, Any]:
    """The body, read by a strict reader."""

    def no_constants(text: str) -> Any:
        raise ValueError(f"{text} is not JSON")

    return json.loads(text_of(wire), parse_constant=no_constants)


def answer(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> WireResponse:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return WireResponse(status, headers or {}, body)


def sse(*events: Any, done: bool = True, end: str = "\n\n") -> bytes:
    """A stream: dicts as `data:` events, text lines as they are, `[DONE]` last."""
    lines = [event if isinstance(event, str) else f"data: {json.dumps(event)}" for event in events]
    return "".join(f"{line}{end}" for line in [*lines, *(["data: [DONE]"] if done else [])]).encode()


def packed(payload: Any) -> bytes:
    return json.dumps(payload).encode()


USAGE = {"prompt_tokens": 21, "completion_tokens": 6, "total_tokens": 27}


def completion(message: dict[str, Any], finish: str | None, **more: Any) -> dict[str, Any]:
    """A `chat.completion` as vLLM writes it, nulls included."""
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish, "stop_reason": None}
    return {
        "id": "chatcmpl-5f0c",
        "object": "chat.completion",
        "created": 1_780_000_000,
        "model": "llama-4-scout",
        "choices": [choice | more.pop("choice", {})],
        "usage": {**USAGE, "prompt_tokens_details": None},
        "prompt_logprobs": None,
        "kv_transfer_params": None,
        **more,
    }


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A `chat.completion.chunk`; without a delta, one of `choices: []`."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-5f0c",
        "object": "chat.completion.chunk",
        "created": 1_780_000_000,
        "model": "llama-4-scout",
        "choices": [] if delta is None else [choice | more.pop("choice", {})],
        **more,
    }


def call(index: int, id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    return {"index": index, **({"id": id, "type": "function"} if id else {}), "function": function}
