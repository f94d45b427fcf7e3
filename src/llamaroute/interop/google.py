"""For applications that have an `aiplatform.Endpoint` of google-cloud-aiplatform already: the same endpoint and login.

from google.cloud import aiplatform
from llamaroute.interop import google

client = llamaroute.Client({"providers": {"work": google.from_endpoint(aiplatform.Endpoint("1234567890"))}})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..errors import ConfigError
from ..registry import provider_spec

if TYPE_CHECKING:
    from google.cloud.aiplatform import Endpoint

    from ..providers.vertex import VertexSettings

__all__ = ["from_endpoint"]


def from_endpoint(endpoint: Endpoint, **settings: Any) -> VertexSettings:
    """The settings of an account that asks `endpoint` with its credentials; `settings` are further keys of its table.

    Nothing is asked here. Where the object does not know its own host yet, the client asks for it once.

    Raises:
        ConfigError: `endpoint` is no `aiplatform.Endpoint`, or a key is not one of the table's.
    """
    # Its public properties would ask Google, and raise Google's exceptions.
    resource: Any = getattr(endpoint, "_gca_resource", None)
    name, credentials = getattr(resource, "name", None), getattr(endpoint, "credentials", None)
    parts = name.split("/") if isinstance(name, str) else []
    if len(parts) != 6 or parts[4] != "endpoints" or credentials is None:
        raise ConfigError(f"from_endpoint() takes an aiplatform.Endpoint, not {type(endpoint).__name__}")
    dedicated = bool(getattr(resource, "dedicated_endpoint_enabled", False))
    table: dict[str, Any] = {
        "kind": "vertex",
        "api": "endpoint",
        "project": parts[1],
        "region": parts[3],
        "endpoint_id": parts[5],
        "dedicated_dns": (getattr(resource, "dedicated_endpoint_dns", "") or None) if dedicated else None,
    }
    try:
        options: Any = provider_spec("vertex").settings.model_validate({**table, **settings})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise ConfigError(f"from_endpoint(): {where}: {first['msg']}", key=where) from None
    linked: VertexSettings = options.with_live_credential(credentials)
    return linked
