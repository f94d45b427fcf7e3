"""Amazon Bedrock: Converse and ConverseStream of the runtime.

https://docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference.html
Llama 4 is called through cross-region inference profiles alone (`us.meta...`), from regions of the United States:
https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError, to_json

from .. import catalog
from ..dialects.bedrock_converse import ConverseDecoder, exception_name, parse_answer
from ..dialects.bedrock_request import encode_converse
from ..dialects.http_errors import map_http_error, read_error
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
    RateLimitError,
    ServerError,
)
from ..errors import TimeoutError as TimeoutError_
from ..spi import ProviderSettings, ProviderSpec, StreamDecoder, Target, WireRequest, WireResponse
from ..types.capability import ModelRow
from ..types.request import ChatRequest
from ..types.response import ChatResponse
from .urls import join_url

__all__ = ["SPEC", "BedrockSettings", "GuardrailSettings"]

RUNTIME = "https://bedrock-runtime.{region}.amazonaws.com"
"""`{region}` stays in the URL when the table names none: then the credentials know it, from a profile or the
environment, and put it in when they sign."""

PROFILES = {"us": "us-"}
"""Where an inference profile can be called from: the start of its id, and of the regions' names."""

TIERS = {"flex": Decimal("0.5"), "priority": Decimal("1.75")}
"""What Llama 4 costs there, as parts of its usual price: Portkey-AI/models:pricing/bedrock.json (2026-08-21)."""

AWS_CODES: Mapping[str, type[ProviderError]] = {
    "validationexception": InvalidRequestError,
    "accessdeniedexception": PermissionDeniedError,
    "resourcenotfoundexception": NotFoundError,
    "servicequotaexceededexception": QuotaExhaustedError,
    "modeltimeoutexception": TimeoutError_,
    "modelerrorexception": ServerError,
    "modelstreamerrorexception": ServerError,
    "throttlingexception": RateLimitError,
    "modelnotreadyexception": OverloadedError,
    "internalserverexception": ServerError,
    "serviceunavailableexception": OverloadedError,
    # What any AWS service says: https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html
    "accessdenied": PermissionDeniedError,
    "notauthorized": PermissionDeniedError,
    "optinrequired": PermissionDeniedError,
    "expiredtoken": AuthenticationError,
    "expiredtokenexception": AuthenticationError,
    "incompletesignature": AuthenticationError,
    "incompletesignatureexception": AuthenticationError,
    "invalidclienttokenid": AuthenticationError,
    "invalidsignatureexception": AuthenticationError,
    "missingauthenticationtoken": AuthenticationError,
    "missingauthenticationtokenexception": AuthenticationError,
    "requestexpired": AuthenticationError,
    "signaturedoesnotmatch": AuthenticationError,
    "unrecognizedclientexception": AuthenticationError,
    "internalfailure": ServerError,
    "serviceunavailable": OverloadedError,
    "throttling": RateLimitError,
    "toomanyrequestsexception": RateLimitError,
    "requestentitytoolargeexception": PayloadTooLargeError,
    "unknownoperationexception": NotFoundError,
    "validationerror": InvalidRequestError,
}
"""Exceptions in lower case. https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#Errors"""

SAID: Mapping[str, type[ProviderError]] = {
    r"(?i)input is too long|input tokens exceeded": ContextLengthError,
    r"(?i)model identifier is invalid|on-demand throughput": NotFoundError,
}
"""What a ValidationException is about: that code is all that is given for a prompt that is too long and for a model
that is not there. Recorded in pydantic/pydantic-ai:tests/cassettes/test_context_window_exceeded and
tests/cassettes/test_model_name_suggestions, and in crmne/ruby_llm:spec/fixtures/vcr_cassettes (Nova's words)."""


class GuardrailSettings(BaseModel):
    """A guardrail that looks at every request and answer.

    https://docs.aws.amazon.com/bedrock/latest/userguide/guardrails-use-converse-api.html
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    id: str
    """Its id or ARN."""
    version: str = "DRAFT"
    """Its version: a number, or `DRAFT`."""
    trace: Literal["enabled", "disabled", "enabled_full"] | None = None
    """Whether answers tell what it found; see `raw` of a response."""


class BedrockSettings(ProviderSettings):
    """Amazon Bedrock. Without any credentials here, those that AWS's own tools use count."""

    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$")
    """Region that is called, such as `us-east-1`. Default: `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile's own."""
    profile: str | None = None
    """Profile of AWS's config files: keys, single sign-on, a role, or a program that gives credentials."""
    role_arn: str | None = None
    """Role to assume, with the other credentials as its source."""
    access_key_id: SecretStr | None = None
    """An access key, with `secret_access_key`."""
    secret_access_key: SecretStr | None = None
    """The access key's secret."""
    session_token: SecretStr | None = None
    """Only with temporary access keys."""
    guardrail: GuardrailSettings | None = None
    """Guardrail for all requests of this account."""
    service_tier: Literal["priority", "default", "flex", "reserved"] | None = None
    """How fast and at what price requests are served."""

    @field_validator("role_arn")
    @classmethod
    def _is_role(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/.+", value):
            raise PydanticCustomError("role", "should be a role's ARN, such as arn:aws:iam::123456789012:role/name")
        return value

    @model_validator(mode="after")
    def _keys_are_whole(self) -> BedrockSettings:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise PydanticCustomError("keys", "access_key_id and secret_access_key go together: set both or none")
        if self.session_token is not None and self.access_key_id is None:
            raise PydanticCustomError("keys", "session_token goes with access_key_id and secret_access_key")
        if self.profile is not None and self.access_key_id is not None:
            raise PydanticCustomError("keys", "profile and access_key_id are two credentials: set one of them")
        return self


def _options(target: Target) -> BedrockSettings:
    assert isinstance(target.options, BedrockSettings)
    return target.options


def _url(target: Target, operation: str) -> str:
    options = _options(target)
    base = options.base_url or (RUNTIME if options.region is None else RUNTIME.format(region=options.region))
    # An ARN's slashes and the colon of `v1:0` are escaped, as boto3 does.
    return join_url(base, f"model/{quote(target.model_id, safe='')}/{operation}")


def _adjust(body: dict[str, Any], request: ChatRequest, target: Target) -> None:
    options = _options(target)
    if (guardrail := options.guardrail) is not None:
        config = {"guardrailIdentifier": guardrail.id, "guardrailVersion": guardrail.version}
        body["guardrailConfig"] = config if guardrail.trace is None else {**config, "trace": guardrail.trace}
    if options.service_tier is not None:
        body["serviceTier"] = {"type": options.service_tier}


class BedrockAdapter:
    """Converse, and ConverseStream for streams."""

    def build_request(self, request: ChatRequest, target: Target, *, stream: bool) -> WireRequest:
        """See `spi.Adapter`."""
        body, notices = encode_converse(request, target, _adjust)
        accept = "application/vnd.amazon.eventstream" if stream else "application/json"
        headers = {"content-type": "application/json", "accept": accept}
        return WireRequest("POST", _url(target, "converse-stream" if stream else "converse"), headers, body, notices)

    def parse_response(self, response: WireResponse, request: ChatRequest, target: Target) -> ChatResponse[Any]:
        """See `spi.Adapter`."""
        return parse_answer(response, target, self.map_error)

    def stream_decoder(self, request: ChatRequest, target: Target) -> StreamDecoder:
        """See `spi.Adapter`."""
        return ConverseDecoder(target, self.map_error)

    def map_error(self, response: WireResponse, target: Target) -> ProviderError:
        """See `spi.Adapter`.

        AWS names the exception in a header, some gateways in the body, where `Message` may have a capital.
        """
        body = read_error(response.body)
        data: Mapping[str, Any] = body.raw if isinstance(body.raw, Mapping) else {}
        code = exception_name(response)
        message = str(data["Message"]) if "Message" in data else body.message
        cls = AWS_CODES.get(code.lower())
        if cls is InvalidRequestError or (not code and response.status == 400):
            cls = next((cls for words, cls in SAID.items() if re.search(words, message)), cls)
            if "on-demand throughput" in message:
                names = ", ".join(f"{row.model} ({row.model_id})" for row in catalog.rows(target.kind))
                message += f" The library's names for such profiles: {names}."
        said = {"message": message, "code": code or "none"}
        known = {} if cls is None else {said["code"].lower(): cls}
        error = map_http_error(WireResponse(response.status, response.headers, to_json(said)), target, known)
        error.code, error.raw = code or None, body.raw
        original = data.get("originalStatusCode")  # of a ModelErrorException: what the model itself answered
        if type(error) is ServerError and original in range(400, 500) and original not in (408, 429):
            error.retryable = False
        return error


def _refine(row: ModelRow, options: BedrockSettings) -> ModelRow:
    """A service tier has prices of its own; inference profiles are called from their own part of the world alone."""
    known = next((known for known in catalog.rows(options.kind) if known.model == row.model), row)
    prices = (known.input_price, known.output_price)
    # Prices that the user gave are those of the user's tier.
    if options.service_tier in TIERS and (row.input_price, row.output_price) == prices:
        paid = [price and price * TIERS[options.service_tier] for price in prices]
        row = row.evolve(input_price=paid[0], output_price=paid[1])
    row = row.evolve(regions=_regions(row))
    start = PROFILES.get(row.model_id.partition(".")[0])
    if start is None or options.region is None or options.region.startswith(start):
        return row
    where = "us-east-1, us-east-2 or us-west-2"
    return row.evolve(
        unavailable=f"{row.model_id} cannot be called from region {options.region}; set region to {where}, "
        "or give the id or ARN of a profile of your own under models"
    )


def _regions(row: ModelRow) -> tuple[str, ...]:
    """Where the model may run: a profile's requests go to any of its regions, not to the account's alone."""
    name = row.model_id.rpartition("/")[2]
    if name.partition(".")[0] in PROFILES:
        return row.regions or (f"{PROFILES[name.partition('.')[0]]}*",)
    # What an application inference profile leads to is known to AWS alone.
    return ("cross-region",) if "inference-profile/" in row.model_id else ()


def _from_env(env: Mapping[str, str]) -> dict[str, Any] | None:
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
    keys = env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY")
    token = env.get("AWS_BEARER_TOKEN_BEDROCK")
    if not region or not (token or keys or env.get("AWS_PROFILE")):
        return None
    # Keys and profiles are read when they are needed, and read again when they have expired.
    table: dict[str, Any] = {"region": region}
    if token:
        table["api_key"] = token
    url = env.get("AWS_ENDPOINT_URL_BEDROCK_RUNTIME") or env.get("AWS_ENDPOINT_URL")
    if url and env.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
        table["base_url"] = url
    return table


SPEC = ProviderSpec(
    name="bedrock",
    adapter=BedrockAdapter(),
    auth="llamaroute.auth.aws:bedrock",
    settings=BedrockSettings,
    from_env=_from_env,
    refine=_refine,
    default_model="llama-4-scout",
    env=("AWS_REGION", "AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"),
    extra="bedrock",
)
