"""What Azure's content filter says of a prompt or an answer.

    {"hate": {"filtered": true, "severity": "high"}, "jailbreak": {"filtered": false, "detected": false}, ...}

Azure writes this under `content_filter_results` and `prompt_filter_results` of answers, and inside errors.
https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..types.response import Notice

__all__ = ["filter_notice", "prompt_filters", "stopped_by", "with_filters"]


def stopped_by(results: Any) -> Iterator[str]:
    """The categories that stopped something, such as `hate (high)`; those that only looked are left out."""
    if not isinstance(results, Mapping):
        return
    for name, result in results.items():
        if isinstance(result, Mapping) and result.get("filtered") is True:
            severity = result.get("severity")
            category = str(name).replace("-", "_")  # self-harm is spelled both ways
            yield f"{category} ({severity})" if isinstance(severity, str) else category


def prompt_filters(payload: Mapping[str, Any]) -> Iterator[str]:
    """The same, of the results about the prompt that an answer or the first chunk of a stream brings."""
    listed = payload.get("prompt_filter_results")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, Mapping):
            yield from stopped_by(entry.get("content_filter_results"))


def filter_notice(categories: Iterable[str]) -> Notice:
    """What the caller is told of an answer that a filter stopped."""
    named = ", ".join(dict.fromkeys(categories))
    return Notice("content_filtered", f"the host's content filter stopped the answer: {named}", "text")


def with_filters(message: str, error: Mapping[str, Any]) -> str:
    """An error's message, and which categories the prompt was refused for."""
    inner = error.get("innererror")
    places = [error, inner] if isinstance(inner, Mapping) else [error]
    keys = ("content_filter_result", "content_filter_results")
    found = dict.fromkeys(name for place in places for key in keys for name in stopped_by(place.get(key)))
    return f"{message} (filtered: {', '.join(found)})" if found else message
