"""What the clients share: the same request for everyone."""

from __future__ import annotations

import base64
from typing import Any

from ..answers import MODEL

KEY = "sk-canned"
MAX_TOKENS = 256
TEMPERATURE = 0.2
SETTINGS: dict[str, Any] = {"model": MODEL, "max_tokens": MAX_TOKENS, "temperature": TEMPERATURE}

AWS_MODEL = "us.meta.llama4-maverick-17b-instruct-v1:0"
AWS_REGION = "us-east-1"
AWS_KEYS = ("AKIAIOSFODNN7EXAMPLE", "canned/secret")


def data_url(png: bytes) -> str:
    """The image as a data URL."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def messages(prompt: str, image: str | None = None) -> list[Any]:
    """OpenAI's messages: one turn of the user, `image` a data URL."""
    if image is None:
        return [{"role": "user", "content": prompt}]
    parts = [{"type": "text", "text": prompt}, {"type": "image_url", "image_url": {"url": image}}]
    return [{"role": "user", "content": parts}]


def body(prompt: str, image: str | None = None, *, stream: bool = False) -> dict[str, Any]:
    """The body of a chat completion."""
    request = {**SETTINGS, "messages": messages(prompt, image)}
    if stream:
        request["stream"] = True
    return request


def text(answer: Any) -> str:
    """The text of a chat completion, parsed."""
    return str(answer["choices"][0]["message"]["content"])


def delta(chunk: Any) -> str:
    """The text of one chunk of a streamed completion, parsed."""
    choices = chunk["choices"]
    return (choices[0]["delta"].get("content") or "") if choices else ""
