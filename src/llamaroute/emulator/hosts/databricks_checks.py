"""What Databricks' Foundation Model APIs refuse in a chat request, and in which words.

Fields and ranges: https://docs.databricks.com/aws/machine-learning/foundation-model-apis/api-reference; limits:
https://docs.databricks.com/aws/machine-learning/foundation-model-apis/limits. An unknown field is refused in the words
of https://github.com/databricks/databricks-sdk-py/issues/1263; turns that do not alternate in those of
https://github.com/567-labs/instructor/issues/691. All other texts are made up: none was published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..images import from_data_url
from ..prompt import Prompt
from .openai_checks import content_parts, image_link

__all__ = ["MAX_BODY", "MAX_OUTPUT", "BadRequestError", "RateLimitError", "check", "check_turns"]

MAX_BODY = 4 * 1024 * 1024
MAX_OUTPUT = 8192
_MAX_TOOLS = 32
# The last three belong to the SDK's `query()`.
_FIELDS = frozenset((
    "messages", "model", "max_tokens", "temperature", "top_p", "top_k", "stop", "n", "stream", "response_format",
    "tools", "tool_choice", "logprobs", "top_logprobs", "reasoning_effort", "extra_params", "client_request_id",
    "usage_context",
))  # fmt: skip
_ROLES = ("system", "user", "assistant", "tool")
_TYPES: dict[str, tuple[type, ...]] = {
    "messages": (list,), "model": (str,), "stop": (str, list), "stream": (bool,), "response_format": (dict,),
    "tools": (list,), "temperature": (int, float), "top_p": (int, float), "max_tokens": (int,), "top_k": (int,),
    "n": (int,), "extra_params": (dict,),
}  # fmt: skip
_ALTERNATE = (
    "rpc error: code = InvalidArgument desc = Chat message input roles must alternate (user -> assistant -> u -> a -> "
    "...) with an optional system at the start. Tool messages are optional and must follow a preceding assistant "
    "message containing tool calls."
)


class BadRequestError(Exception):
    """400 BAD_REQUEST with this text, after `Bad request: `."""


class RateLimitError(Exception):
    """429 REQUEST_LIMIT_EXCEEDED; the text names the limit."""


def check(body: Mapping[str, Any], *, stream_options: bool, lenient: bool) -> None:
    """Raise where the host would refuse the body. `lenient`: unknown fields are ignored."""
    known = _FIELDS | {"stream_options"} if stream_options else _FIELDS
    for name in () if lenient else body:
        if name not in known:
            raise BadRequestError(f'json: unknown field "{name}"')
    for name, kinds in _TYPES.items():
        value = body.get(name)
        right = isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)
        if value is not None and not right:
            raise BadRequestError(f"json: cannot unmarshal {_kind(value)} into field {name}")
    _numbers(body)
    _messages(body)
    _tools(body, lenient=lenient)
    if (wanted := body.get("max_tokens")) is not None and wanted > MAX_OUTPUT:
        raise RateLimitError("output tokens per minute")


def _kind(value: Any) -> str:
    """The value's type in the words of Go's decoder."""
    names = {bool: "bool", list: "array", dict: "object", str: "string"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "number")


def _numbers(body: Mapping[str, Any]) -> None:
    rules: tuple[tuple[str, Callable[[float], bool], str], ...] = (
        ("temperature", lambda v: 0 <= v <= 2, "between 0 and 2"), ("top_p", lambda v: 0 < v <= 1, "in (0, 1]"),
        ("top_k", lambda v: v > 0, "greater than 0"), ("max_tokens", lambda v: v > 0, "greater than 0"),
        ("n", lambda v: 1 <= v <= 5, "between 1 and 5"),
    )  # fmt: skip
    for name, holds, text in rules:
        if body.get(name) is not None and not holds(body[name]):
            raise BadRequestError(f"{name} must be {text}, got {body[name]}")


def _messages(body: Mapping[str, Any]) -> None:
    messages = body.get("messages")
    if not messages:
        raise BadRequestError("messages must not be empty")
    for message in messages:
        if not isinstance(message, Mapping):
            raise BadRequestError("json: cannot unmarshal into field messages")
        if message.get("role") not in _ROLES:
            raise BadRequestError(f"unknown role {message.get('role')!r}: must be one of {', '.join(_ROLES)}")
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            raise BadRequestError("json: cannot unmarshal into field content")
        if content is None and not message.get("tool_calls"):
            raise BadRequestError("message content must not be empty")
    for part in content_parts(body):
        kind = part.get("type")
        if kind == "image_url":
            _image(image_link(part))
        elif kind != "text" or not isinstance(part.get("text"), str):
            raise BadRequestError(f"unsupported content part {kind!r}")


def _image(url: str) -> None:
    if not url.startswith("data:"):
        # posit-dev/chatlas:tests/test_provider_databricks.py says that addresses are not taken
        raise BadRequestError("image_url must be a data URL with base64 data")
    if (seen := from_data_url(url)) is None or not seen.width:
        raise BadRequestError("the image could not be decoded")


def _tools(body: Mapping[str, Any], *, lenient: bool) -> None:
    tools = body.get("tools") or []
    if len(tools) > _MAX_TOOLS:
        raise BadRequestError(f"at most {_MAX_TOOLS} tools are supported, got {len(tools)}")
    for tool in tools:
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise BadRequestError("a tool must be a function with a name")
        if "strict" in function and not lenient:
            raise BadRequestError('json: unknown field "strict"')
    choice = body.get("tool_choice")
    named = choice.get("function") if isinstance(choice, Mapping) else None
    if choice not in (None, "auto", "none", "required") and not isinstance(named, Mapping):
        raise BadRequestError(f"unsupported tool_choice {choice!r}")


def check_turns(prompt: Prompt) -> None:
    """Refuse messages that do not alternate, as older Llama endpoints did."""
    allowed = {"system": ("user",), "user": ("assistant",), "assistant": ("user",), "tool": ("tool", "assistant")}
    before = "system"
    for index, message in enumerate(prompt.messages):
        role = str(message.get("role"))
        if role == "system" and index == 0:
            continue
        if role not in allowed[before] and not (role == "tool" and before == "assistant"):
            raise BadRequestError(_ALTERNATE)
        if role == "tool" and before == "assistant" and not prompt.messages[index - 1].get("tool_calls"):
            raise BadRequestError(_ALTERNATE)
        before = role
