"""The conformance checks on Vertex AI's service, and on the three routes of an endpoint of one's own."""

from __future__ import annotations

from typing import Any

import pytest

from llamaroute.providers.vertex import SPEC
from llamaroute.testing import Sample, check_adapter
from tests.providers.vertex.samples import ENDPOINT, MAAS, PREDICTIONS

OWN = {"project": "my-project", "api": "endpoint", "endpoint_id": "1234567890"}
SECRETS = {"access_token": "ya29.0123456789abcdefghij", "dedicated_dns": "1.us-east5-2.prediction.vertexai.goog"}


@pytest.mark.parametrize(
    ("settings", "samples", "model"),
    [
        pytest.param({"project": "my-project"}, MAAS, "llama-4-maverick", id="maverick"),
        pytest.param({}, MAAS, "llama-4-scout", id="scout"),
        pytest.param({**OWN, **SECRETS}, ENDPOINT, "llama-4-scout", id="chat"),
        pytest.param({**OWN, "route": "predict"}, PREDICTIONS, "llama-4-scout", id="predict"),
        pytest.param({**OWN, "route": "raw-predict"}, ENDPOINT, "llama-4-maverick", id="raw-predict"),
    ],
)
def test_conformance(settings: dict[str, Any], samples: tuple[Sample, ...], model: str) -> None:
    check_adapter(SPEC, settings=settings, samples=samples, model=model)
