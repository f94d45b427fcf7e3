"""What Vertex AI checks in a chat request for Llama 4, in Google's words.

Ranges and the error text of a value out of range follow a recording of the same service
(open-telemetry/opentelemetry-python-contrib: test_generate_content_invalid_temperature.yaml); the limits themselves:
https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/partner-models/llama/use-llama and gateways'
parameter tables. Words that no source shows are marked "inferred".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ..images import from_data_url
from .openai_checks import content_parts, image_link

__all__ = ["MAX_OUTPUT", "problems"]

MAX_OUTPUT = 8192
_MAX_IMAGES = 3
_ROLES = ("system", "user", "assistant", "tool")
# field -> lowest, highest, and the limit that the error names
_RANGES: dict[str, tuple[float, float, str]] = {
    "temperature": (0, 1, "1.0001"),
    "top_p": (0, 1, "1.0001"),
    "top_k": (0, 2048, "2049"),
    "max_tokens": (1, MAX_OUTPUT, "8193"),
    "max_completion_tokens": (1, MAX_OUTPUT, "8193"),
}
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("temperature", "top_p"), ((int, float), "TYPE_FLOAT")),
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "top_k", "n", "seed"), ((int,), "TYPE_INT32")),
    "stream": ((bool,), "TYPE_BOOL"),
    **dict.fromkeys(("messages", "tools"), ((list,), "TYPE_MESSAGE")),
    **dict.fromkeys(("response_format", "stream_options"), ((dict,), "TYPE_MESSAGE")),
    "tool_choice": ((str, dict), "TYPE_MESSAGE"),
    "stop": ((str, list), "TYPE_STRING"),
}


def _types(body: Mapping[str, Any]) -> Iterator[str]:
    for name, (wanted, said) in _TYPES.items():
        value = body.get(name)
        if value is not None and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
            yield f"Invalid value at '{name}' ({said}), {value!r}"  # inferred


def _ranges(body: Mapping[str, Any]) -> Iterator[str]:
    for name, (low, high, said) in _RANGES.items():
        value = body.get(name)
        if isinstance(value, int | float) and not low <= value <= high:
            yield (
                f"Unable to submit request because it has a {name} value of {value:g} but the supported range is from "
                f"{low:g} (inclusive) to {said} (exclusive). Update the value and try again."
            )


def _messages(body: Mapping[str, Any]) -> Iterator[str]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        yield "Unable to submit request because at least one message is required."  # inferred
        return
    for message in messages:
        if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
            yield f"Please use a valid role: {', '.join(_ROLES)}."
        elif message["role"] == "tool" and not message.get("tool_call_id"):
            yield "Unable to submit request because a tool message has no tool_call_id."  # inferred


def _turns(body: Mapping[str, Any]) -> Iterator[str]:
    roles = [message["role"] for message in body["messages"] if message["role"] in ("user", "assistant")]
    if roles[:1] != ["user"] or any(before == after for before, after in itertools.pairwise(roles)):
        yield "Please ensure that multiturn requests alternate between user and assistant."  # inferred


def _images(body: Mapping[str, Any], *, https: bool, detail: bool) -> Iterator[str]:
    parts = [part for part in content_parts(body) if part.get("type") == "image_url"]
    if len(parts) > _MAX_IMAGES:
        text = f"it has {len(parts)} images but the model supports at most {_MAX_IMAGES} in a request"
        yield f"Unable to submit request because {text}."  # inferred
    for part in parts:
        url, link = image_link(part), part.get("image_url")
        if url.startswith("data:"):
            seen = from_data_url(url)
            if seen is None or not seen.width:
                yield "Provided image is not valid."
        elif not url.startswith("gs://") and not (https and url.startswith(("https://", "http://"))):
            yield f"Invalid image URI: {url[:100]!r}. Use a gs:// URI or a data URL."  # inferred
        if isinstance(link, Mapping) and link.get("detail") is not None and not detail:
            yield "Unable to submit request because image_url.detail is not supported."  # inferred


def problems(
    body: Mapping[str, Any], *, ranges: bool, turns: bool, https: bool, detail: bool, formats: bool
) -> Iterator[str]:
    """Everything that is wrong with the body, most basic first; the service names the first. Flags: see the host's
    quirks."""
    yield from _types(body)
    yield from _messages(body)
    yield from _ranges(body) if ranges else ()
    yield from _turns(body) if turns else ()
    yield from _images(body, https=https, detail=detail)
    if not formats and body.get("response_format") is not None:
        yield "Unable to submit request because response_format is not supported by this model."  # inferred
