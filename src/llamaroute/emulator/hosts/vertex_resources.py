"""Resources of Vertex AI's control plane: endpoints and the models of Model Garden.

Fields: https://cloud.google.com/vertex-ai/docs/reference/rest/v1beta1/projects.locations.endpoints and
https://cloud.google.com/vertex-ai/docs/reference/rest/v1beta1/publishers.models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["DEPLOYED_MODEL", "DEPLOYED_MODEL_ID", "endpoint_resource", "page", "publisher_model"]

DEPLOYED_MODEL_ID = "4567890123456789012"
DEPLOYED_MODEL = "llama-4-scout-17b-16e-instruct"
_CREATED = "2026-08-03T09:00:00.123456Z"


def endpoint_resource(name: str, dns: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A dedicated endpoint with one Llama 4 on it, as a deployment from Model Garden makes it."""
    parent = name.rpartition("/endpoints/")[0]
    machine = {"machineType": "a3-highgpu-8g", "acceleratorType": "NVIDIA_H100_80GB", "acceleratorCount": 8}
    deployed = {
        "id": DEPLOYED_MODEL_ID,
        "model": f"{parent}/models/{DEPLOYED_MODEL}",
        "displayName": DEPLOYED_MODEL,
        "createTime": _CREATED,
        "dedicatedResources": {"machineSpec": machine, "minReplicaCount": 1, "maxReplicaCount": 1},
        "modelVersionId": "1",
    }
    resource = {
        "name": name,
        "displayName": f"google_llama4_{DEPLOYED_MODEL}-mg-one-click-deploy",
        "deployedModels": [deployed],
        "trafficSplit": {DEPLOYED_MODEL_ID: 100},
        "etag": "AMEw9yOemulator",
        "createTime": _CREATED,
        "updateTime": _CREATED,
        "dedicatedEndpointEnabled": True,
        "dedicatedEndpointDns": dns,
        **changes,
    }
    if not resource["dedicatedEndpointEnabled"]:
        del resource["dedicatedEndpointDns"]
    return resource


def publisher_model(model: str) -> dict[str, Any]:
    """A model of Model Garden; `model` as chat requests name it: `<publisher>/<id>`."""
    publisher, _, own = model.partition("/")
    name = f"publishers/{publisher}/models/{own}"
    return {
        "name": name,
        "versionId": "001",
        "openSourceCategory": "THIRD_PARTY_OWNED_OSS",
        "launchStage": "GA",
        "publisherModelTemplate": f"projects/{{user-project}}/locations/{{location}}/{name}@001",
        "versionState": "VERSION_STATE_STABLE",
    }


def page(key: str, items: Sequence[Mapping[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """One page of a list; an empty list has no key at all. The token of the next page is its offset."""
    token = query.get("pageToken", "")
    start = int(token) if token.isdecimal() else 0
    size = int(query["pageSize"]) if query.get("pageSize", "").isdecimal() and query["pageSize"] != "0" else 100
    shown = items[start : start + size]
    answer: dict[str, Any] = {key: list(shown)} if shown else {}
    if start + size < len(items):
        answer["nextPageToken"] = str(start + size)
    return answer
