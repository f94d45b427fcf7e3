"""What a server that speaks OpenAI's dialect serves: `GET /models`.

https://platform.openai.com/docs/api-reference/models/list
"""

from __future__ import annotations

from typing import Any

from ..pipeline.ops import Plan
from .base import Survey, with_path

__all__ = ["discover", "ids", "models_url"]


def discover(survey: Survey) -> Plan[None]:
    """Ask for the models."""
    base: str = survey.account.options.base_url or ""
    listing = yield from survey.get(models_url(base), "the models", may="give the key access to the list of models")
    if listing is None:
        return
    listed = ids(listing)
    for name in listed:
        survey.add(name, callable=True)
    survey.expect(listed, "what the server serves")


def models_url(base: str) -> str:
    """The list beside the chat completions of an OpenAI-style `base`."""
    head, slash, query = base.partition("?")
    return with_path(head.rstrip("/").removesuffix("/chat/completions") + slash + query, "models")


def ids(listing: Any) -> dict[str, dict[str, Any]]:
    """The ids of an OpenAI-style list, each with its entry."""
    data = listing.get("data") if isinstance(listing, dict) else None
    items = data if isinstance(data, list) else []
    return {item["id"]: item for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)}
