"""What Cloudflare Workers AI refuses, and in which words: the checks of Llama 4 Scout's input schema.

The ranges are those of the published schema
(https://developers.cloudflare.com/ai/models/@cf/meta/llama-4-scout-17b-16e-instruct/), the texts those of error
reports (https://github.com/cloudflare/ai/issues/279); codes as in
https://developers.cloudflare.com/workers-ai/platform/errors/ where listed (5006, 8001 and 8006 are not).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..images import from_data_url
from ..prompt import Prompt

__all__ = ["SCOUT", "AiError", "check", "check_context"]

SCOUT = "@cf/meta/llama-4-scout-17b-16e-instruct"
_STRING_ONLY = ("@cf/meta/llama-3.1-8b-instruct",)
_RANGES: dict[str, tuple[float, float, str]] = {
    "temperature": (0, 5, "number"),
    "top_p": (0, 2, "number"),
    "top_k": (1, 50, "integer"),
    "seed": (1, 9_999_999_999, "integer"),
    "repetition_penalty": (0, 2, "number"),
    "frequency_penalty": (0, 2, "number"),
    "presence_penalty": (0, 2, "number"),
}
_TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}


class AiError(Exception):
    """The model server refuses: HTTP status, Cloudflare's code, text without prefix and suffix."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text


def _type(value: Any) -> str:
    return "null" if value is None else _TYPES.get(type(value), "object")


def _bad_input(text: str) -> AiError:
    return AiError(400, 5006, f"Bad input: Error: {text}")


def check(body: Mapping[str, Any], model: str) -> None:
    """Raise AiError where the host would refuse the body (order: shape, numbers, tools, images)."""
    mismatches = list(_messages(body, model))
    if "prompt" in body and isinstance(body["prompt"], str) and body["prompt"]:
        if "messages" in body and not mismatches:
            raise _bad_input("oneOf at '/' not met, 2 matches")
    elif "messages" not in body:
        raise _bad_input(
            "oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt', "
            "required properties at '/' are 'messages'"
        )
    elif mismatches:
        found = ", ".join(mismatches)
        raise _bad_input(f"oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt', {found}")
    _numbers(body)
    _tools(body)
    _images(body)


def _messages(body: Mapping[str, Any], model: str) -> Iterator[str]:
    """Type mismatches in the messages, in the validator's words."""
    messages = body.get("messages")
    if messages is None:
        return
    if not isinstance(messages, list):
        yield f"Type mismatch of '/messages', '{_type(messages)}' not in 'array'"
        return
    if not messages:
        yield "'/messages' must NOT have fewer than 1 items"  # inferred
    for index, message in enumerate(messages):
        at = f"/messages/{index}"
        if not isinstance(message, Mapping):
            yield f"Type mismatch of '{at}', '{_type(message)}' not in 'object'"
            continue
        if "role" not in message:
            yield f"required properties at '{at}' are 'role'"
        elif not isinstance(message["role"], str):
            yield f"Type mismatch of '{at}/role', '{_type(message['role'])}' not in 'string'"
        content = message.get("content", "")
        if isinstance(content, str):
            continue
        # Llama 4 takes parts (or one part), some older text models a string only.
        if model in _STRING_ONLY or not isinstance(content, list | Mapping):
            yield f"Type mismatch of '{at}/content', '{_type(content)}' not in 'string'"


def _numbers(body: Mapping[str, Any]) -> None:
    for name, (low, high, kind) in _RANGES.items():
        if name not in body:
            continue
        value = body[name]
        _number(name, value, kind)
        if value > high:
            raise _bad_input(f"'/{name}' must be <= {high}")
        if value < low:
            raise _bad_input(f"'/{name}' must be >= {low}")
    if "max_tokens" in body:
        _number("max_tokens", body["max_tokens"], "integer")
    for name in ("stream", "raw"):
        if name in body and not isinstance(body[name], bool):
            raise _bad_input(f"Type mismatch of '/{name}', '{_type(body[name])}' not in 'boolean'")


def _number(name: str, value: Any, kind: str) -> None:
    good = isinstance(value, int) or (isinstance(value, float) and (kind == "number" or value.is_integer()))
    if isinstance(value, bool) or not good:
        raise _bad_input(f"Type mismatch of '/{name}', '{_type(value)}' not in '{kind}'")


def _tools(body: Mapping[str, Any]) -> None:
    tools = body.get("tools")
    if tools is None:
        return
    if not isinstance(tools, list):
        raise _bad_input(f"Type mismatch of '/tools', '{_type(tools)}' not in 'array'")
    for index, tool in enumerate(tools):
        at = f"/tools/{index}"
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise _bad_input(f"oneOf at '{at}' not met, 0 matches: required properties at '{at}' are 'name'")
        if not isinstance(function.get("description", ""), str):
            raise AiError(400, 8001, "Invalid input")
        parameters = function.get("parameters")
        if parameters is None:
            continue
        if not isinstance(parameters, Mapping) or not isinstance(parameters.get("properties"), Mapping):
            raise AiError(400, 8001, "Invalid input")
    choice = body.get("tool_choice")
    if isinstance(choice, str) and choice not in ("auto", "none", "required"):
        raise AiError(400, 8001, "Invalid input")


def _images(body: Mapping[str, Any]) -> None:
    for index, message in enumerate(body.get("messages") or ()):
        content = message.get("content")
        parts = content if isinstance(content, list) else [content]
        for place, part in enumerate(parts):
            if not isinstance(part, Mapping) or part.get("type") != "image_url":
                continue
            link = part.get("image_url")
            url = link.get("url") if isinstance(link, Mapping) else None
            at = f"/messages/{index}/content/{place}/image_url/url"
            if not isinstance(url, str):
                raise _bad_input(f"Type mismatch of '{at}', '{_type(url)}' not in 'string'")
            if not url.startswith("data:"):
                raise _bad_input(
                    f"'{at}' does not match pattern '^data:'"
                )  # the pattern is published, the words inferred
            seen = from_data_url(url)
            if seen is None:
                raise AiError(400, 8006, "Invalid data for image - reason incorrect base64 data")
            if not seen.width:
                raise AiError(400, 8006, "Invalid data for image - reason cannot identify image file")


def check_context(prompt: Prompt, window: int) -> None:
    """Input plus `max_tokens` must fit the window."""
    total = prompt.tokens + (prompt.max_tokens or 0)
    if total > window:
        text = f"The estimated number of input and maximum output tokens ({total}) exceeded this model context window"
        raise AiError(413, 5021, f"{text} limit ({window}).")
