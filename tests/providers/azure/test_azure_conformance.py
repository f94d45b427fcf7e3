"""The conformance checks on every route of Azure AI Foundry."""

from __future__ import annotations

from typing import Any

import pytest

from llamaroute.providers.azure import SPEC
from llamaroute.testing import Sample, check_adapter
from tests.providers.azure.samples import MODELS, SERVERLESS, V1

RESOURCE = "https://acme.services.ai.azure.com"
NATIVE = {"tools": "native"}


@pytest.mark.parametrize(
    ("settings", "samples", "model"),
    [
        pytest.param({"endpoint": RESOURCE}, V1, "llama-4-scout", id="v1"),
        pytest.param({"endpoint": RESOURCE, "features": NATIVE}, V1, "llama-4-maverick", id="v1-with-tools"),
        pytest.param(
            {"endpoint": "https://acme.openai.azure.com/openai/v1", "models": {"llama-4-scout": "my-scout"}},
            V1,
            "llama-4-scout",
            id="v1-deployment",
        ),
        pytest.param({"endpoint": RESOURCE, "api": "models"}, MODELS, "llama-4-maverick", id="models"),
        pytest.param(
            {"endpoint": f"{RESOURCE}/models", "api": "models", "extra_parameters": "drop"},
            MODELS,
            "llama-4-scout",
            id="models-drop",
        ),
        pytest.param(
            {
                "endpoint": RESOURCE,
                "tenant_id": "t",
                "client_id": "c",
                "client_secret": "secret-0123456789",
            },
            V1,
            "llama-4-scout",
            id="service-principal",
        ),
        pytest.param(
            {"endpoint": "https://scout.eastus2.models.ai.azure.com", "api": "models"},
            SERVERLESS,
            "llama-4-scout",
            id="serverless",
        ),
        pytest.param(
            {"endpoint": "https://scout.eastus2.inference.ml.azure.com", "api": "models", "deployment": "blue"},
            SERVERLESS,
            "llama-4-scout",
            id="managed",
        ),
    ],
)
def test_conformance(settings: dict[str, Any], samples: tuple[Sample, ...], model: str) -> None:
    check_adapter(SPEC, settings=settings, samples=samples, model=model)
