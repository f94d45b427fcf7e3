"""Azure AI Foundry: the `/openai/v1` API by default, the older Model Inference API with `api = "models"`.

v1: https://learn.microsoft.com/azure/foundry/openai/api-version-lifecycle
Model Inference: https://learn.microsoft.com/rest/api/aifoundry/modelinference/ , which Microsoft announced to retire on
2026-08-26 (https://github.com/Azure/azure-rest-api-specs/pull/43907)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from ..dialects.http_errors import CODES
from ..dialects.openai_chat import OpenAIChat
from ..dialects.openai_request import extra_for, openai_format, parameters
from ..errors import (
    CapabilityError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
)
from ..spi import HeaderText, ProviderSettings, ProviderSpec, Target, WireRequest
from ..types.capability import ModelRow, ParameterRule
from ..types.messages import Message
from ..types.request import ChatRequest

__all__ = ["SPEC", "AzureSettings"]

SERVERLESS = (".models.ai.azure.com", ".inference.ai.azure.com", "models.github.ai")
"""Hosts that serve at the path as it is given: endpoints of one model, and GitHub Models, which speaks the same API."""
MANAGED = ".inference.ml.azure.com"

MOST_HEADERS = 10
"""Custom headers a request may have; with more, the service answers 431.
https://learn.microsoft.com/azure/foundry/foundry-models/quotas-limits"""

SPECIFIED = {
    "model", "messages", "temperature", "top_p", "max_tokens", "frequency_penalty", "presence_penalty", "stop", "seed",
    "stream", "response_format", "tools", "tool_choice",
}  # fmt: skip
"""Fields that the Model Inference API knows; all others are "extra parameters".
https://github.com/Azure/azure-rest-api-specs/blob/main/specification/ai/ModelInference/models/chat_completions.tsp"""

ERROR_CODES: Mapping[str, type[ProviderError]] = {
    **CODES,
    "deploymentnotfound": NotFoundError,
    "unknown_model": NotFoundError,  # with a 400 (recorded)
    "ratelimitreached": RateLimitError,  # also for a prompt that alone is longer than the minute's tokens (recorded)
    "permissiondenied": PermissionDeniedError,  # with a 401: the token is good, its owner lacks the role
    "extra_forbidden": InvalidRequestError,
}
"""What each code means, whatever status it comes with."""


class AzureSettings(ProviderSettings):
    """Azure AI Foundry: a resource's deployments, or a serverless or managed endpoint."""

    endpoint: str | None = Field(default=None, repr=False)
    """URL of the resource, such as `https://acme.services.ai.azure.com`, or of a serverless or managed endpoint; with
    or without a path such as `/openai/v1` or `/models`. `base_url` wins over it."""
    api: Literal["v1", "models"] = "v1"
    """`v1` for /openai/v1/chat/completions, `models` for the older Model Inference API."""
    credential: Literal["entra"] | None = None
    """`entra` for Microsoft Entra ID in the place of an `api_key`."""
    tenant_id: str | None = None
    """Entra: the service principal's tenant."""
    client_id: str | None = None
    """Entra: the service principal, or a managed identity assigned by a user."""
    client_secret: SecretStr | None = None
    """Entra: the service principal's secret. Without it, the usual sources are asked (DefaultAzureCredential)."""
    scope: HeaderText | None = None
    """Entra: what the token is for; by default what the route wants."""
    api_version: HeaderText = "2024-05-01-preview"
    """`api = "models"` only."""
    extra_parameters: Literal["error", "drop", "pass-through"] | None = None
    """`api = "models"` only: what the service does with fields its API does not know. By default they are passed
    through where a request has any."""
    deployment: HeaderText | None = None
    """Managed endpoints only: the one deployment to ask (`azureml-model-deployment`)."""
    project: str | None = None
    """Discovery: the Foundry project's name."""
    subscription_id: str | None = None
    """Discovery: the subscription the resource is in."""
    resource_group: str | None = None
    """Discovery: the resource group the resource is in."""

    @property
    def url(self) -> str:
        """The URL that requests start from."""
        return self.base_url or self.endpoint or ""

    @property
    def hosting(self) -> Literal["resource", "serverless", "managed"]:
        """What the URL's host says of how the model is served."""
        host = urlsplit(self.url).hostname or ""
        if host.endswith(SERVERLESS):
            return "serverless"
        return "managed" if host.endswith(MANAGED) else "resource"

    @model_validator(mode="after")
    def _hangs_together(self) -> AzureSettings:
        if not self.url:
            raise PydanticCustomError("azure", "endpoint is missing, such as https://acme.services.ai.azure.com")
        if self.api == "v1" and self.hosting != "resource" and not _has_route(self.url):
            raise PydanticCustomError(
                "azure", "a {hosting} endpoint serves no /openai/v1; set api to 'models'", {"hosting": self.hosting}
            )
        if self.api_key is not None and self.credential is not None:
            raise PydanticCustomError("azure", "api_key and credential = 'entra' exclude each other; keep one")
        if self.client_secret is not None:
            missing = [name for name in ("tenant_id", "client_id") if getattr(self, name) is None]
            if missing:
                raise PydanticCustomError(
                    "azure", "client_secret needs {missing} beside it", {"missing": " and ".join(missing)}
                )
        return self


def _options(target: Target) -> AzureSettings:
    assert isinstance(target.options, AzureSettings)
    return target.options


_OTHER_ROUTE = {
    "v1": re.compile(r"(/models|/openai|/api/projects/[^/]+)(/chat/completions)?$"),
    "models": re.compile(r"(/openai(/v1)?|/api/projects/[^/]+(/openai/v1)?)(/chat/completions)?$"),
}
"""Path of a resource that stands for another route than the account's `api`: what Azure's pages show to copy."""


def _has_route(url: str) -> bool:
    return urlsplit(url).path.rstrip("/").endswith(("/v1", "/chat/completions"))


def _url(target: Target) -> str:
    """Whatever part of the URL was configured, completed to that of the chat completions."""
    options = _options(target)
    parts = urlsplit(options.url)
    path = parts.path.rstrip("/")
    query = [item for item in parts.query.split("&") if item]
    models = options.api == "models"
    if models and path.endswith("/score"):  # a scoring script of the user's own, in a managed endpoint
        return options.url
    if options.hosting == "resource" and (other := _OTHER_ROUTE[options.api].search(path)):
        path = path[: other.start()]
        query = [item for item in query if not item.startswith("api-version=")]
    if not path.endswith("/chat/completions"):
        route = "/models" if models else "/openai/v1"
        if options.hosting == "resource" and not path.endswith((route, "/v1")):
            path += route
        path += "/chat/completions"
    if models and not any(item.startswith("api-version=") for item in query):
        query.append(f"api-version={options.api_version}")
    return urlunsplit(parts._replace(path=path, query="&".join(query)))


def _asks_for_usage(options: AzureSettings) -> bool:
    """Whether a stream's usage is asked for: `stream_options` is outside of the Model Inference API.

    Serverless endpoints have refused it, and send usage unasked, with the last choice (recorded in
    Azure/azure-sdk-assets, 2025-01; refusal: https://github.com/BerriAI/litellm/issues/9800). `/models` sends it in a
    chunk of its own when asked (crmne/ruby_llm cassettes, 2026-08-19).
    """
    if options.api == "v1":
        return True
    if options.extra_parameters is not None:
        return options.extra_parameters != "error"
    return options.hosting != "serverless"


def _adjust(body: dict[str, Any], request: ChatRequest, target: Target) -> None:
    if not _asks_for_usage(_options(target)):
        body.pop("stream_options", None)


def _fitted(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation as both APIs describe it: one user message in the place of several in a row, which backends'
    chat templates may refuse, and no name beside a tool's result.

    https://github.com/UKGovernmentBEIS/inspect_ai/blob/main/src/inspect_ai/model/_providers/azureai.py merges, too.
    """
    fitted: list[Message] = []
    for message in messages:
        last = fitted[-1] if fitted else None
        if last is not None and message.role == last.role == "user" and message.name == last.name:
            fitted[-1] = replace(last, parts=(*last.parts, *message.parts))
        else:
            fitted.append(replace(message, name=None) if message.role == "tool" else message)
    return tuple(fitted)


class AzureChat(OpenAIChat):
    """The OpenAI dialect, with the Model Inference API's headers."""

    __slots__ = ()

    def build_request(self, request: ChatRequest, target: Target, *, stream: bool) -> WireRequest:
        """See `spi.Adapter`."""
        options = _options(target)
        custom = {name.lower() for name in (*options.headers, *request.headers)}
        if len(custom) > MOST_HEADERS:
            raise CapabilityError(
                f"{target.name} takes at most {MOST_HEADERS} custom headers, not {len(custom)}; see "
                f"providers.{target.provider}.headers",
                missing={target.name: "headers"},
            )
        request = request.evolve(messages=_fitted(request.messages))
        wire = super().build_request(request, target, stream=stream)
        headers: dict[str, str] = {}
        if options.deployment is not None and options.hosting != "serverless":
            headers["azureml-model-deployment"] = options.deployment
        if options.api == "models":
            names = {*parameters(request, openai_format), *extra_for(request, target)}
            unspecified = not names <= SPECIFIED or (stream and _asks_for_usage(options))
            if extra := options.extra_parameters or ("pass-through" if unspecified else None):
                headers["extra-parameters"] = extra
        return replace(wire, headers={**wire.headers, **headers}) if headers else wire


def _refine(row: ModelRow, options: AzureSettings) -> ModelRow:
    """The Model Inference API documents a narrower range than OpenAI's (`typespec` in the catalogue)."""
    if options.api != "models":
        return row
    rule = ParameterRule(minimum=0, maximum=1, note="api = 'v1' takes up to 2")
    return row.evolve(parameters={**row.parameters, "temperature": rule})


_VARIABLES = (
    ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"),  # OpenAI's package, and Microsoft's samples
    ("AZURE_AI_INFERENCE_ENDPOINT", "AZURE_AI_INFERENCE_CREDENTIAL"),  # langchain-azure-ai
    ("AZURE_INFERENCE_ENDPOINT", "AZURE_INFERENCE_CREDENTIAL"),  # samples of azure-ai-inference
    ("AZURE_AI_API_BASE", "AZURE_AI_API_KEY"),  # litellm
)
_IDENTITY = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT", "MSI_ENDPOINT")
"""Variables that azure-identity reads: one of them says that Entra ID is meant.
https://learn.microsoft.com/python/api/overview/azure/identity-readme#environment-variables"""


def _from_env(env: Mapping[str, str]) -> dict[str, Any] | None:
    for endpoint, key in _VARIABLES:
        if not env.get(endpoint):
            continue
        table: dict[str, Any] = {"endpoint": env[endpoint]}
        if (urlsplit(env[endpoint]).hostname or "").endswith((*SERVERLESS, MANAGED)) and not _has_route(env[endpoint]):
            table["api"] = "models"
        if env.get(key):
            return {**table, "api_key": env[key]}
        if any(env.get(name) for name in _IDENTITY):
            return {**table, "credential": "entra"}
    return None


SPEC = ProviderSpec(
    name="azure",
    adapter=AzureChat(url=_url, adjust=_adjust, codes=ERROR_CODES),
    auth="llamaroute.auth.azure:azure",
    settings=AzureSettings,
    from_env=_from_env,
    refine=_refine,
    default_model="llama-4-scout",
    env=("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"),
    extra="azure",
)
