"""A host of its own kind, in one file of another package.

"Andes" is made up. It speaks OpenAI's dialect (one that speaks it without departures needs no code, only a table with
`kind = "openai-compatible"`), but: the URL holds a project, the key goes into a header of its own, two fields have
other names, and running out of budget is a 403 with a code. What a provider may do beyond that: llamaroute/spi.py.

The package that holds this file registers the kind in its pyproject.toml:

    [project.entry-points."llamaroute.providers"]
    andes = "third_party_provider:SPEC"

From then on, everybody who installed it writes into the config file:

    [providers.andes]
    project = "cusco"
    api_key = "${ANDES_KEY}"
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from llamaroute.auth.base import StaticHeaders
from llamaroute.dialects.http_errors import CODES
from llamaroute.dialects.openai_chat import OpenAIChat
from llamaroute.errors import ConfigError, QuotaExhaustedError
from llamaroute.spi import Auth, AuthSettings, ProviderSettings, ProviderSpec, Target
from llamaroute.types.request import ChatRequest

RENAMED = {"max_tokens": "max_output_tokens", "stop": "stop_sequences"}


class AndesSettings(ProviderSettings):
    """Andes, a made-up host."""

    project: str
    """The project that pays; part of the URL."""


def url(target: Target) -> str:
    options = target.options
    assert isinstance(options, AndesSettings)
    return f"{options.base_url or 'https://llm.andes.example'}/projects/{options.project}/chat"


def adjust(body: dict[str, Any], request: ChatRequest, target: Target) -> None:
    for ours, theirs in RENAMED.items():
        if ours in body:
            body[theirs] = body.pop(ours)


def auth(settings: AuthSettings) -> Auth:
    if settings.options.api_key is None:
        raise ConfigError(f"providers.{settings.provider}: no api_key", key=f"providers.{settings.provider}.api_key")
    return StaticHeaders({"x-andes-key": settings.options.api_key.get_secret_value()})


def from_env(env: Mapping[str, str]) -> dict[str, Any] | None:
    """The table when there is no config file, from variables that Andes' own tools would read."""
    if "ANDES_KEY" in env and "ANDES_PROJECT" in env:
        return {"api_key": env["ANDES_KEY"], "project": env["ANDES_PROJECT"]}
    return None


CATALOG = {
    "sources": {"models": "https://llm.andes.example/docs/models"},
    "model": [
        {
            "model": "llama-4-scout",
            "id": "andes/llama4-scout",
            "facts": {
                "context_window": {
                    "value": 64_000,
                    "source": "models",
                    "checked": datetime.date(2026, 11, 23),
                    "evidence": "documented",
                },
            },
        }
    ],
}

SPEC = ProviderSpec(
    name="andes",
    adapter=OpenAIChat(url=url, adjust=adjust, codes={**CODES, "budget_spent": QuotaExhaustedError}),
    auth=auth,
    settings=AndesSettings,
    catalog=CATALOG,
    from_env=from_env,
    default_model="llama-4-scout",
    env=("ANDES_KEY", "ANDES_PROJECT"),
)
