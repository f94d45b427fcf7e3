"""What Hugging Face serves a token: the router's models with their inference providers, or a dedicated endpoint's own.

The router's list is public, so that the token is asked about by itself.
https://huggingface.co/docs/inference-providers/hub-api
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from ..pipeline.ops import Plan
from .base import Survey, with_path
from .openai_compatible import ids, models_url

__all__ = ["discover"]

ROUTER = "https://router.huggingface.co/v1"
HUB = "https://huggingface.co"
PERMISSION = "inference.serverless.write"
REMEDY = "give the token the permission 'Make calls to Inference Providers' on https://huggingface.co/settings/tokens"


def discover(survey: Survey) -> Plan[None]:
    """Ask the endpoint, or the router and the Hub."""
    options = survey.account.options
    endpoint: str | None = getattr(options, "url", None)
    if endpoint is not None:
        versioned = urlsplit(endpoint).path.rstrip("/").endswith(("/v1", "/chat/completions"))
        url = models_url(endpoint if versioned else with_path(endpoint, "v1"))
        listing = yield from survey.get(url, "the endpoint's models", may="use a token that may call the endpoint")
        for name in ids(listing):
            survey.add(name, what="endpoint", callable=True)
        return
    listing = yield from survey.get(models_url(options.base_url or ROUTER), "the router's models", may=REMEDY)
    for name, item in ids(listing).items():
        for provider in item.get("providers") or ():
            status = str(provider.get("status", ""))
            survey.add(
                f"{name}:{provider['provider']}",
                names=(name,),
                status=status,
                callable=status == "live",
                note=_note(provider),
            )
    yield from _look_at_token(survey)
    if survey.refused:
        for found in survey.found():
            survey.change(replace(found, callable=False))


def _note(provider: dict[str, Any]) -> str:
    price = provider.get("pricing") or {}
    said = [
        f"{provider['context_length']} tokens of context" if provider.get("context_length") else "",
        f"${price['input']} and ${price['output']} per million tokens" if {"input", "output"} <= set(price) else "",
    ]
    return ", ".join(filter(None, said))


def _look_at_token(survey: Survey) -> Plan[None]:
    """Whether the token is good, and may call inference providers."""
    base = survey.account.options.base_url
    hub = base.rstrip("/").removesuffix("/v1") if base else survey.env.get("HF_ENDPOINT") or HUB
    # A gateway that stands in for the router need not stand in for the Hub.
    who = yield from survey.get(with_path(hub, "api/whoami-v2"), "the token", may=REMEDY, missing_ok=bool(base))
    if not isinstance(who, dict):
        return
    token = (who.get("auth") or {}).get("accessToken") or {}
    # Tokens of the other roles, read and write, may call everything that their owner may.
    if token.get("role") == "fineGrained" and PERMISSION not in _permissions(token.get("fineGrained") or {}):
        survey.problem("permission", f"{survey.key}: the token may not call inference providers", REMEDY)


def _permissions(rights: dict[str, Any]) -> Iterator[str]:
    yield from rights.get("global") or ()
    for scope in rights.get("scoped") or ():
        yield from scope.get("permissions") or ()
