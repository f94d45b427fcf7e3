"""What a Databricks workspace serves: its serving endpoints.

https://docs.databricks.com/api/workspace/servingendpoints/list
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..pipeline.ops import Plan
from .base import Survey, with_path

__all__ = ["discover"]

CALLABLE = ("CAN_QUERY", "CAN_MANAGE")


def discover(survey: Survey) -> Plan[None]:
    """Ask for the endpoints."""
    options: Any = survey.account.options
    answer = yield from survey.get(
        with_path(options.workspace, "api/2.0/serving-endpoints"),
        "the serving endpoints",
        may="let the token's owner use the workspace, and query its endpoints (Can Query)",
    )
    if answer is None:
        return
    listed: set[str] = set()
    for endpoint in answer.get("endpoints") or ():
        models = tuple(_models(endpoint))
        # The AI Gateway goes by the model's name in Unity Catalog.
        names = [endpoint["name"]] if options.api != "gateway" else [name for name in models if name.count(".") == 2]
        ready = (endpoint.get("state") or {}).get("ready", "")
        may = endpoint.get("permission_level", "")
        for name in names:
            listed.add(name)
            survey.add(
                name,
                names=(endpoint["name"], *models),
                what="endpoint",
                status=ready,
                callable=None if not ready else ready == "READY" and (not may or may in CALLABLE),
                note="" if not may or may in CALLABLE else f"the token's owner has {may}, not CAN_QUERY",
            )
    survey.expect(listed, "the serving endpoints")


def _models(endpoint: dict[str, Any]) -> Iterator[str]:
    """Names of the models behind an endpoint."""
    for entity in (endpoint.get("config") or {}).get("served_entities") or ():
        foundation = entity.get("foundation_model") or {}
        yield from filter(None, (foundation.get("name"), entity.get("entity_name"), entity.get("name")))
