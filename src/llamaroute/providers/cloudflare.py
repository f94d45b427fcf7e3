"""Cloudflare Workers AI: the OpenAI-compatible API by default, the native one with `api = "native"`.

https://developers.cloudflare.com/workers-ai/ ; errors: https://developers.cloudflare.com/workers-ai/platform/errors/
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ..dialects.http_errors import CODES, map_http_error
from ..dialects.openai_chat import OpenAIChat
from ..dialects.openai_request import SchemaFormat
from ..dialects.workers_ai import WorkersAI, bare_format
from ..errors import (
    AuthenticationError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PayloadTooLargeError,
    PermissionDeniedError,
    ProviderError,
    QuotaExhaustedError,
)
from ..errors import TimeoutError as TimeoutError_
from ..spi import Adapter, HeaderText, ProviderSettings, ProviderSpec, StreamDecoder, Target, WireRequest, WireResponse
from ..types.capability import ModelRow, ParameterRule
from ..types.request import ChatRequest
from ..types.response import ChatResponse
from .urls import join_url

__all__ = ["SPEC", "CloudflareSettings", "GatewaySettings"]

API = "https://api.cloudflare.com/client/v4"

ERROR_CODES: Mapping[str, type[ProviderError]] = {
    **CODES,
    "3003": InvalidRequestError,
    "3006": PayloadTooLargeError,
    "3007": TimeoutError_,
    "3008": TimeoutError_,
    "3010": ContextLengthError,
    "3023": PermissionDeniedError,
    "3036": QuotaExhaustedError,  # a 429 that no waiting helps: the day's free neurons are used up
    "3040": OverloadedError,  # a 429 that is no rate limit: no capacity, try again
    "3041": PermissionDeniedError,
    "3042": NotFoundError,
    "4006": QuotaExhaustedError,
    "5004": InvalidRequestError,
    "5005": InvalidRequestError,
    "5006": InvalidRequestError,
    "5019": InvalidRequestError,
    "5007": NotFoundError,
    "5016": PermissionDeniedError,
    "5018": PermissionDeniedError,
    "5021": ContextLengthError,
    "5035": PermissionDeniedError,  # the model needs a paid plan
    "7000": NotFoundError,
    "7003": NotFoundError,  # what a wrong account id gives
    "7009": OverloadedError,
    "8001": InvalidRequestError,
    "8006": InvalidRequestError,
    "10000": AuthenticationError,  # with a 403, the token is known and may not do this: see `map_error`
}
"""What each code means, whatever status it comes with: errors also come as a 200 with `success: false`.
https://developers.cloudflare.com/workers-ai/platform/errors/"""


_FORBIDDEN = {code: error for code, error in ERROR_CODES.items() if code != "10000"}


class GatewaySettings(BaseModel):
    """An AI Gateway in front of the model.

    https://developers.cloudflare.com/ai-gateway/configuration/request-handling/
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    id: HeaderText
    """The gateway's id."""
    token: SecretStr | None = None
    """Token of an authenticated gateway (`cf-aig-authorization`)."""
    skip_cache: bool | None = None
    """Do not answer from the gateway's cache."""
    cache_ttl: int | None = Field(default=None, ge=0)
    """Seconds an answer stays in the gateway's cache."""
    cache_key: HeaderText | None = None
    """Own cache key."""
    collect_log: bool | None = None
    """Whether the gateway logs the request."""
    metadata: dict[str, str | int | bool] | None = None
    """Attached to the gateway's log entry."""
    request_timeout: int | None = Field(default=None, ge=1)
    """Milliseconds to the first byte before the gateway gives up."""
    max_attempts: int | None = Field(default=None, ge=1, le=5)
    """The gateway's own attempts; 1 leaves retries to this library."""
    retry_delay: int | None = Field(default=None, ge=0, le=5000)
    """Milliseconds between the gateway's attempts."""
    backoff: Literal["constant", "linear", "exponential"] | None = None
    """How that delay grows."""


class CloudflareSettings(ProviderSettings):
    """Cloudflare Workers AI."""

    account_id: str
    """The account's id: 32 hexadecimal digits, part of every URL."""
    api: Literal["openai", "native"] = "openai"
    """`openai` for /ai/v1/chat/completions, `native` for /ai/run/<model>."""
    email: str | None = None
    """Only with the legacy global API key: the account's e-mail address."""
    gateway: GatewaySettings | None = None
    """Route requests through an AI Gateway."""
    reject_if_busy: bool = False
    """Fail at once with an OverloadedError instead of waiting in Cloudflare's queue."""
    session_affinity: HeaderText | None = None
    """Any id: requests with the same one reach the same replica and so its prompt cache."""


def _options(target: Target) -> CloudflareSettings:
    assert isinstance(target.options, CloudflareSettings)
    return target.options


def _account(target: Target) -> str:
    options = _options(target)
    return join_url(options.base_url or API, f"accounts/{options.account_id}/ai")


def _openai_url(target: Target) -> str:
    return join_url(_account(target), "v1/chat/completions")


def _native_url(target: Target) -> str:
    return join_url(_account(target), f"run/{target.model_id}")  # the id's @ and / go in unescaped


_GATEWAY_HEADERS = (
    "skip_cache",
    "cache_ttl",
    "cache_key",
    "collect_log",
    "metadata",
    "request_timeout",
    "max_attempts",
    "retry_delay",
    "backoff",
)


def _headers(request: ChatRequest, target: Target) -> Mapping[str, str]:
    options = _options(target)
    headers: dict[str, str] = {}
    if options.session_affinity:
        headers["x-session-affinity"] = options.session_affinity
    if (gateway := options.gateway) is not None:
        headers["cf-aig-gateway-id"] = gateway.id
        for name in _GATEWAY_HEADERS:
            if (value := getattr(gateway, name)) is not None:
                # Headers are ASCII; JSON can say everything else in escapes.
                text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
                headers[f"cf-aig-{name.replace('_', '-')}"] = text
    return headers


def _adjust(body: dict[str, Any], request: ChatRequest, target: Target) -> None:
    if _options(target).reject_if_busy:
        body["options"] = {"rejectIfBusy": True}


def _bare(target: Target) -> SchemaFormat:
    return bare_format


OPENAI = OpenAIChat(url=_openai_url, schema_format=_bare, headers=_headers, adjust=_adjust, codes=ERROR_CODES)
NATIVE = WorkersAI(url=_native_url, headers=_headers, adjust=_adjust, codes=ERROR_CODES)


class CloudflareAdapter:
    """Chooses the dialect by the account's `api`."""

    def _dialect(self, target: Target) -> Adapter:
        return NATIVE if _options(target).api == "native" else OPENAI

    def build_request(self, request: ChatRequest, target: Target, *, stream: bool) -> WireRequest:
        """See `spi.Adapter`."""
        return self._dialect(target).build_request(request, target, stream=stream)

    def parse_response(self, response: WireResponse, request: ChatRequest, target: Target) -> ChatResponse[Any]:
        """See `spi.Adapter`."""
        return self._dialect(target).parse_response(response, request, target)

    def stream_decoder(self, request: ChatRequest, target: Target) -> StreamDecoder:
        """See `spi.Adapter`."""
        return self._dialect(target).stream_decoder(request, target)

    def map_error(self, response: WireResponse, target: Target) -> ProviderError:
        """See `spi.Adapter`."""
        if response.status == 403:
            return map_http_error(response, target, _FORBIDDEN)
        return self._dialect(target).map_error(response, target)


def _refine(row: ModelRow, options: CloudflareSettings) -> ModelRow:
    if options.api != "native":
        return row
    absent = ParameterRule(supported=False, note="the native API gives no log probabilities; use api = 'openai'")
    return row.evolve(parameters={**row.parameters, "logprobs": absent})


def _from_env(env: Mapping[str, str]) -> dict[str, Any] | None:
    account = env.get("CLOUDFLARE_ACCOUNT_ID") or env.get("CF_ACCOUNT_ID")
    token = env.get("CLOUDFLARE_API_TOKEN") or env.get("CF_AI_API_TOKEN") or env.get("CF_API_TOKEN")
    table: dict[str, Any] = {"account_id": account, "api_key": token or env.get("CLOUDFLARE_API_KEY")}
    if not token and env.get("CLOUDFLARE_EMAIL"):
        table["email"] = env["CLOUDFLARE_EMAIL"]  # with it, CLOUDFLARE_API_KEY is the legacy global key
    if env.get("CLOUDFLARE_BASE_URL"):
        table["base_url"] = env["CLOUDFLARE_BASE_URL"]
    return table if account and table["api_key"] else None


SPEC = ProviderSpec(
    name="cloudflare",
    adapter=CloudflareAdapter(),
    auth="llamaroute.auth.base:cloudflare",
    settings=CloudflareSettings,
    from_env=_from_env,
    refine=_refine,
    default_model="llama-4-scout",
    env=("CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_TOKEN"),
)
