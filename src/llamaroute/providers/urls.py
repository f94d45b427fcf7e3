"""URLs put together from what a user configured."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit, urlunsplit

__all__ = ["chat_completions_url", "join_url"]


@lru_cache(maxsize=256)
def join_url(base: str, path: str) -> str:
    """`base` with `path` after it; a query in `base` (an api-version, a key) stays at the end."""
    parts = urlsplit(base)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path.lstrip('/')}"))


@lru_cache(maxsize=256)
def chat_completions_url(base: str) -> str:
    """Where the chat completions of an OpenAI-style `base` are, the way Hugging Face's own client completes URLs.

    A URL that ends in `/chat/completions` stays as it is, one that ends in a version such as `/v1` gets the rest.
    """
    path = urlsplit(base).path.rstrip("/")
    if path.endswith("/chat/completions"):
        return base
    return join_url(base, "chat/completions")
