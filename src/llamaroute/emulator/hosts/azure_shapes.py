"""Pieces of Azure's answers: content filter results, headers, the models behind deployments.

Shapes follow recordings of Azure OpenAI and of `/models` (2024 to 2026, other models than Llama;
crmne/ruby_llm:spec/fixtures/vcr_cassettes, Mirascope/mirascope:python/tests/e2e, posit-dev/chatlas:tests/_vcr): no
recorded answer of Llama 4 at Azure is known.
"""

from __future__ import annotations

from typing import Any

from ..answer import RecordedRequest
from .base import request_uuid

__all__ = [
    "MAVERICK", "REGION", "SCOUT", "base_model", "basic_headers", "custom_headers", "filter_results", "prompt_filters",
    "rate_headers", "served_headers", "window",
]  # fmt: skip

MAVERICK = "Llama-4-Maverick-17B-128E-Instruct-FP8"
SCOUT = "Llama-4-Scout-17B-16E-Instruct"
REGION = "East US 2"

# Headers that clients send of their own accord. At most 10 others pass:
# https://learn.microsoft.com/azure/ai-foundry/foundry-models/quotas-limits
_USUAL = frozenset((
    "accept", "accept-charset", "accept-encoding", "accept-language", "api-key", "authorization",
    "azureml-model-deployment", "baggage", "cache-control", "connection", "content-encoding", "content-length",
    "content-type", "cookie", "date", "expect", "extra-parameters", "forwarded", "host", "idempotency-key",
    "keep-alive", "origin", "pragma", "referer", "te", "traceparent", "tracestate", "transfer-encoding",
    "user-agent", "via",
))  # fmt: skip
_USUAL_BEGINNINGS = ("x-ms-", "x-stainless-", "x-forwarded-", "sec-")


def base_model(deployment: str) -> str:
    """The catalog's name of the model behind a deployment; the emulator goes by the deployment's name."""
    lowered = deployment.lower()
    return MAVERICK if "maverick" in lowered else SCOUT if "scout" in lowered else deployment


def window(model: str) -> int:
    """Input tokens, as Foundry's catalog has them."""
    return 1_000_000 if model == MAVERICK else 128_000


def custom_headers(request: RecordedRequest) -> int:
    """How many headers count against the limit of ten; which do not is inferred."""
    return sum(name not in _USUAL and not name.startswith(_USUAL_BEGINNINGS) for name in request.headers)


def filter_results(blocked: bool = False) -> dict[str, Any]:
    """The content filter's view of one text; what is blocked is blocked for hate."""
    safe = {"filtered": False, "severity": "safe"}
    hate = {"filtered": True, "severity": "high"} if blocked else safe
    return {"hate": hate, "self_harm": safe, "sexual": safe, "violence": safe}


def prompt_filters(blocked: bool = False) -> dict[str, Any]:
    """The same for a prompt, where attempts to break the rules are looked for, too."""
    return {**filter_results(blocked), "jailbreak": {"filtered": False, "detected": False}}


def basic_headers() -> dict[str, str]:
    """What every answer carries, errors too."""
    return {
        "apim-request-id": request_uuid(), "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
        "x-content-type-options": "nosniff",
    }  # fmt: skip


def served_headers(request: RecordedRequest) -> dict[str, str]:
    """What an answer of a model carries."""
    return {
        "x-request-id": request_uuid(), "x-ms-region": REGION, "azureai-fe-offer-type": "paygo",
        "azureai-fe-is-streaming": "False",  # it says so on streams, too
        "x-ms-client-request-id": request.headers.get("x-ms-client-request-id", "Not-Set"),
        "skip-error-remapping": "true",
    }  # fmt: skip


def rate_headers(deployment: str) -> dict[str, str]:
    """What `/openai/v1` adds: the quota, with Foundry's defaults for Llama."""
    limits = {"requests": 1000, "tokens": 400_000}
    shown = {
        "x-ms-deployment-name": deployment, "x-ms-served-model": base_model(deployment), "x-ms-rai-invoked": "true",
        "x-accel-buffering": "no", "x-ratelimit-key": deployment, "x-ratelimit-abusepenalty-active": "False",
    }  # fmt: skip
    for what, limit in limits.items():
        shown |= {
            f"x-ratelimit-limit-{what}": str(limit), f"x-ratelimit-remaining-{what}": str(limit - 1),
            f"x-ratelimit-reset-{what}": "0", f"x-ratelimit-renewalperiod-{what}": "60",
        }  # fmt: skip
    return shown
