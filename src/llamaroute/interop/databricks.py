"""For applications that have a `databricks.sdk.WorkspaceClient` already: the same login, through this library.

from databricks.sdk import WorkspaceClient
from llamaroute.interop import databricks

client = llamaroute.Client({"providers": {"work": databricks.from_sdk(WorkspaceClient())}})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..errors import ConfigError
from ..registry import provider_spec

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

    from ..providers.databricks import DatabricksSettings

__all__ = ["from_sdk"]


def from_sdk(client: WorkspaceClient, **settings: Any) -> DatabricksSettings:
    """The settings of an account that logs in as `client` does; `settings` are further keys of its table.

    Raises:
        ConfigError: `client` is no `WorkspaceClient`, or a key is not one of the table's.
    """
    config: Any = getattr(client, "config", None)
    if not callable(getattr(config, "authenticate", None)):
        raise ConfigError(f"from_sdk() takes a databricks.sdk.WorkspaceClient, not {type(client).__name__}")
    try:
        options: Any = provider_spec("databricks").settings.model_validate(
            {"kind": "databricks", "host": config.host, **settings}
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise ConfigError(f"from_sdk(): {where}: {first['msg']}", key=where) from None
    linked: DatabricksSettings = options.with_live_credential(config)
    return linked
