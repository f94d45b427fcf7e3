"""For applications that have a `boto3.Session` already: the same credentials and region.

import boto3
from llamaroute.interop import aws

client = llamaroute.Client({"providers": {"work": aws.from_session(boto3.Session(profile_name="work"))}})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..errors import ConfigError
from ..registry import provider_spec

if TYPE_CHECKING:
    from boto3 import Session

    from ..providers.bedrock import BedrockSettings

__all__ = ["from_session"]


def from_session(session: Session, region: str | None = None, **settings: Any) -> BedrockSettings:
    """The settings of an account that signs with the session's credentials; `settings` are further keys of its table.

    Nothing is asked here. The session's credentials renew themselves, as they do for boto3's own clients; an API key
    (`AWS_BEARER_TOKEN_BEDROCK`) is not used beside them.

    Args:
        session: a `boto3.Session`.
        region: that is called. Default: the session's own, then `AWS_REGION` and `AWS_DEFAULT_REGION`.

    Raises:
        ConfigError: `session` is no `boto3.Session`, or a key is not one of the table's.
    """
    if not callable(getattr(session, "get_credentials", None)) or not hasattr(session, "region_name"):
        raise ConfigError(f"from_session() takes a boto3.Session, not {type(session).__name__}")
    table = {"kind": "bedrock", "region": region or session.region_name, **settings}
    try:
        options: Any = provider_spec("bedrock").settings.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise ConfigError(f"from_session(): {where}: {first['msg']}", key=where) from None
    linked: BedrockSettings = options.with_live_credential(session)
    return linked
