"""Databricks: Maverick on the Foundation Model APIs, and endpoints with provisioned throughput.

https://docs.databricks.com/aws/machine-learning/foundation-model-apis/api-reference
Limits: https://docs.databricks.com/aws/machine-learning/foundation-model-apis/limits
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ..dialects.databricks_errors import map_databricks_error
from ..dialects.openai_chat import OpenAIChat
from ..errors import CapabilityError, ProviderError
from ..spi import HeaderText, ProviderSettings, ProviderSpec, Target, WireRequest, WireResponse
from ..types.capability import ModelRow
from ..types.request import ChatRequest
from ..types.response import Notice
from .urls import join_url

__all__ = ["SPEC", "DatabricksSettings"]

MAX_BODY = 4 << 20
"""Bytes of a request that an endpoint of a foundation model takes; documented as 4 MB."""
MAX_TOOLS = 32
"""https://docs.databricks.com/aws/machine-learning/model-serving/function-calling"""
GATEWAY_MODELS = {"databricks-llama-4-maverick": "system.ai.llama-4-maverick"}
"""Pay-per-token endpoint -> the model's name in Unity Catalog, which the AI Gateway goes by."""
UNKNOWN_WORKSPACE = "https://workspace.invalid"
"""Stands for a workspace that only a profile knows: signing puts the real one in its place."""


class DatabricksSettings(ProviderSettings):
    """Databricks, on any cloud. Credentials: a `token`, a `client_id` with its `client_secret`, or what databricks-sdk
    can log in with."""

    host: str | None = None
    """The workspace's URL, such as `https://adb-1234567890123456.7.azuredatabricks.net`."""
    token: SecretStr | None = None
    """Personal access token, or any other ready one; the same as `api_key`."""
    client_id: HeaderText | None = None
    """Service principal's OAuth client (machine to machine)."""
    client_secret: SecretStr | None = None
    """Its secret."""
    azure_tenant_id: HeaderText | None = None
    """Entra service principal: the tenant; without it, the workspace is asked."""
    azure_client_id: HeaderText | None = None
    """Entra service principal: the application."""
    azure_client_secret: SecretStr | None = None
    """Entra service principal: its secret."""
    azure_resource_id: HeaderText | None = None
    """Entra service principal that is no user of the workspace: `/subscriptions/.../workspaces/NAME`."""
    profile: str | None = Field(default=None, min_length=1)
    """Profile of `~/.databrickscfg`; its host counts where the table has none."""
    auth_type: str | None = Field(default=None, min_length=1)
    """databricks-sdk's name of a way to log in, such as `azure-cli` or `databricks-cli`."""
    api: Literal["invocations", "openai", "gateway"] = "invocations"
    """`invocations` for /serving-endpoints/<endpoint>/invocations, `openai` for /serving-endpoints/chat/completions,
    `gateway` for the AI Gateway."""
    request_tags: dict[str, str] | None = None
    """Only with `api = "gateway"`: tags for the gateway's usage table."""

    @field_validator("host")
    @classmethod
    def _is_workspace(cls, value: str | None) -> str | None:
        """`scheme://host`, from what people copy: without https://, from the browser's line, with the API's path."""
        if value is None:
            return None
        try:
            parts = urlsplit(value.strip() if "://" in value else f"https://{value.strip()}")
            good = (
                parts.scheme in ("https", "http")
                and parts.hostname is not None
                and "@" not in parts.netloc
                and (parts.port is None or parts.port > 0)
                and parts.path.rstrip("/") in ("", "/serving-endpoints")  # litellm's DATABRICKS_API_BASE has the path
            )
        except ValueError:
            good = False
        if not good:
            # The value is not shown: a URL may hold a password.
            raise PydanticCustomError(
                "workspace", "should be the workspace's URL, such as https://adb-123.4.azuredatabricks.net"
            )
        return f"{parts.scheme}://{parts.netloc}"

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> DatabricksSettings:
        if self.token is not None and self.api_key is not None and self.token != self.api_key:
            raise PydanticCustomError("databricks_auth", "`token` and `api_key` are the same thing: give one of them")
        if self.request_tags is not None and self.api != "gateway":
            raise PydanticCustomError("databricks_tags", '`request_tags` needs `api = "gateway"`')
        if self.auth_type is not None:
            return self  # databricks-sdk takes from the table what this way to log in needs
        for prefix in ("", "azure_"):
            given = [key for key in (f"{prefix}client_id", f"{prefix}client_secret") if getattr(self, key) is not None]
            if len(given) == 1:
                raise PydanticCustomError(
                    "databricks_auth",
                    "`{prefix}client_id` and `{prefix}client_secret` belong together; only `{given}` is set",
                    {"prefix": prefix, "given": given[0]},
                )
        ways = {
            "token": self.token or self.api_key,
            "client_secret": self.client_secret,
            "azure_client_secret": self.azure_client_secret,
            "profile": self.profile,
        }
        used = [f"`{key}`" for key, value in ways.items() if value is not None]
        if len(used) > 1:
            raise PydanticCustomError(
                "databricks_auth",
                "{used} are several ways to log in: keep one, or say which with `auth_type`",
                {"used": " and ".join(used)},
            )
        return self

    @model_validator(mode="after")
    def _has_a_workspace(self) -> DatabricksSettings:
        if self.workspace == UNKNOWN_WORKSPACE and self.profile is None and self.azure_resource_id is None:
            raise PydanticCustomError(
                "workspace", "`host` is missing: the workspace's URL, such as https://adb-123.4.azuredatabricks.net"
            )
        return self

    @property
    def workspace(self) -> str:
        """Base of all URLs."""
        return self.base_url or self.host or UNKNOWN_WORKSPACE


def _options(target: Target) -> DatabricksSettings:
    assert isinstance(target.options, DatabricksSettings)
    return target.options


def _url(target: Target) -> str:
    options = _options(target)
    paths = {
        "invocations": f"serving-endpoints/{quote(target.model_id, safe='')}/invocations",
        # Not in the API reference, but what Databricks' own OpenAI client speaks:
        # databricks/databricks-ai-bridge: integrations/openai/src/databricks_openai/utils/clients.py
        "openai": "serving-endpoints/chat/completions",
        "gateway": "ai-gateway/mlflow/v1/chat/completions",
    }
    return join_url(options.workspace, paths[options.api])


def _names_model(target: Target) -> bool:
    return _options(target).api != "invocations"


def _headers(request: ChatRequest, target: Target) -> Mapping[str, str]:
    tags = _options(target).request_tags
    return {} if tags is None else {"databricks-ai-gateway-request-tags": json.dumps(tags, separators=(",", ":"))}


def _adjust(body: dict[str, Any], request: ChatRequest, target: Target) -> None:
    if len(request.tools) > MAX_TOOLS:
        raise CapabilityError(
            f"{target.name} takes at most {MAX_TOOLS} tools in a request, this one has {len(request.tools)}; "
            "give only those the question may need",
            missing={target.name: f"more than {MAX_TOOLS} tools"},
        )
    # No parameter of the chat API; `adapt` has refused the value true.
    body.pop("parallel_tool_calls", None)


class DatabricksChat(OpenAIChat):
    """OpenAI's dialect with Databricks' departures that fields do not express."""

    def build_request(self, request: ChatRequest, target: Target, *, stream: bool) -> WireRequest:
        """See `spi.Adapter`."""
        warnings: list[Notice] = []
        if any(message.name for message in request.messages):
            # Messages have no names there: fmapi-schema.ts of databricks/databricks-ai-bridge, and litellm strips them.
            if any(message.name for message in request.messages if message.role != "tool"):
                why = f"{target.name} takes no names of participants; they were left out"
                warnings.append(Notice("names_left_out", why))
            request = request.evolve(messages=tuple(replace(message, name=None) for message in request.messages))
        if request.parallel_tool_calls is False and request.tools:
            why = f"{target.name} has no parallel_tool_calls; it may make several calls at once all the same"
            warnings.append(Notice("parallel_tool_calls_left_out", why, "tools"))
        wire = super().build_request(request, target, stream=stream)
        size = len(wire.body) if isinstance(wire.body, bytes) else sum(map(len, wire.body))
        if size > MAX_BODY:
            remedy = "fewer or smaller images" if request.images else "a shorter prompt"
            raise CapabilityError(
                f"{target.name} takes requests of at most {MAX_BODY:,} bytes (4 MB), this one has {size:,}; "
                f"send {remedy}",
                missing={target.name: f"a request of {size:,} bytes"},
            )
        return replace(wire, warnings=(*warnings, *wire.warnings)) if warnings else wire

    def map_error(self, response: WireResponse, target: Target) -> ProviderError:
        """See `spi.Adapter`."""
        return map_databricks_error(response, target)


def _refine(row: ModelRow, options: DatabricksSettings) -> ModelRow:
    if row.features.get("image_url", "native") == "native":
        # Endpoints of one's own run the same server, which fetches no images.
        row = row.evolve(features={**row.features, "image_url": "emulate"})
    if options.api == "gateway" and row.model_id in GATEWAY_MODELS:
        row = row.evolve(model_id=GATEWAY_MODELS[row.model_id])
    return row


def _from_env(env: Mapping[str, str]) -> dict[str, Any] | None:
    """databricks-sdk's variables, and litellm's two; of several ways to log in, the SDK's first one."""

    def table(**names: str) -> dict[str, Any]:
        return {key: env[name] for key, name in names.items() if env.get(name)}

    found = table(host="DATABRICKS_HOST") or table(host="DATABRICKS_API_BASE")
    found |= table(auth_type="DATABRICKS_AUTH_TYPE")
    kind = found.get("auth_type")
    token = table(token="DATABRICKS_TOKEN") or table(token="DATABRICKS_API_KEY")
    client = table(client_id="DATABRICKS_CLIENT_ID", client_secret="DATABRICKS_CLIENT_SECRET")
    azure = table(azure_client_id="ARM_CLIENT_ID", azure_client_secret="ARM_CLIENT_SECRET")
    entra = azure | table(azure_tenant_id="ARM_TENANT_ID", azure_resource_id="DATABRICKS_AZURE_RESOURCE_ID")
    profile = table(profile="DATABRICKS_CONFIG_PROFILE")
    ways: list[tuple[str, bool, dict[str, Any]]] = [
        ("pat", bool(token), token),
        ("oauth-m2m", len(client) == 2, client),
        ("azure-client-secret", len(azure) == 2, entra),
    ]
    for name, whole, way in ways:
        if whole and kind in (None, name):
            found.pop("auth_type", None)
            found |= way
            break
    else:
        found |= profile
        if not profile and kind is None:
            return None
    return found if found.keys() & {"host", "profile", "azure_resource_id"} else None


SPEC = ProviderSpec(
    name="databricks",
    adapter=DatabricksChat(url=_url, headers=_headers, adjust=_adjust, stream_usage=False, names_model=_names_model),
    auth="llamaroute.auth.databricks:databricks",
    settings=DatabricksSettings,
    from_env=_from_env,
    refine=_refine,
    default_model="llama-4-maverick",
    env=("DATABRICKS_HOST", "DATABRICKS_TOKEN"),
    extra="databricks",
)
