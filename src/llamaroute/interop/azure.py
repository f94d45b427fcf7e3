"""For applications that have a `ChatCompletionsClient` of azure-ai-inference already: the same endpoint and credential.

    from azure.ai.inference import ChatCompletionsClient
    from llamaroute.interop import azure

    client = llamaroute.Client({"providers": {"work": azure.from_sdk(ChatCompletionsClient(endpoint, credential))}})

What such a client has as defaults of its calls (temperature, tools, `model_extras`) stays its own, but for the model.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..errors import ConfigError
from ..registry import provider_spec

if TYPE_CHECKING:
    from azure.ai.inference import ChatCompletionsClient
    from azure.ai.inference.aio import ChatCompletionsClient as AsyncChatCompletionsClient

    from ..providers.azure import AzureSettings

__all__ = ["from_sdk"]

SIGNING = ("api-key", "authorization")
"""Headers that the client makes from its credential."""


def from_sdk(client: ChatCompletionsClient | AsyncChatCompletionsClient, **settings: Any) -> AzureSettings:
    """The settings of an account that asks where `client` does and signs as it does; `settings` are further keys of its
    table.

    Raises:
        ConfigError: `client` is no `ChatCompletionsClient`, its credential is asynchronous, or a key is not one of the
            table's.
    """
    config: Any = getattr(client, "_config", None)
    endpoint, credential = getattr(config, "endpoint", None), getattr(config, "credential", None)
    if not isinstance(endpoint, str) or credential is None or not hasattr(client, "complete"):
        raise ConfigError(f"from_sdk() takes an azure.ai.inference.ChatCompletionsClient, not {type(client).__name__}")
    table: dict[str, Any] = {
        "kind": "azure",
        "api": "models",
        # The client appends this to whatever endpoint it has.
        "endpoint": f"{endpoint.rstrip('/')}/chat/completions",
        "api_version": config.api_version,
        "headers": {k: v for k, v in config.headers_policy.headers.items() if k.lower() not in SIGNING},
        "model": getattr(client, "_model", None),
    }
    if hasattr(credential, "get_token"):
        if inspect.iscoroutinefunction(credential.get_token):
            raise ConfigError(
                f"from_sdk(): the client's {type(credential).__name__} is asynchronous; pass "
                "from_sdk(ChatCompletionsClient(...)) with the credential of the same name from azure.identity, which "
                "serves both clients"
            )
        table["scope"] = config.credential_scopes[0]
    try:
        options: Any = provider_spec("azure").settings.model_validate({**table, **settings})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise ConfigError(f"from_sdk(): {where}: {first['msg']}", key=where) from None
    linked: AzureSettings = options.with_live_credential(credential)
    return linked
