"""The conformance checks on the router and on dedicated endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from llamaroute.providers.huggingface import SPEC
from llamaroute.testing import Sample, check_adapter
from tests.providers.huggingface.samples import ENDPOINT, ROUTER

URL = "https://abc.us-east-1.aws.endpoints.huggingface.cloud"


@pytest.mark.parametrize(
    ("settings", "samples", "model"),
    [
        pytest.param({"api_key": "hf_0123456789abcdefghij"}, ROUTER, "llama-4-scout", id="router"),
        pytest.param({"inference_provider": "nscale", "bill_to": "org"}, ROUTER, "llama-4-maverick", id="nscale"),
        pytest.param({"url": URL}, ENDPOINT, "llama-4-scout", id="endpoint"),
        pytest.param({"url": f"{URL}/v1?x=1", "dialect": "tgi"}, ENDPOINT, "tgi", id="tgi"),
    ],
)
def test_conformance(settings: dict[str, Any], samples: tuple[Sample, ...], model: str) -> None:
    check_adapter(SPEC, settings=settings, samples=samples, model=model)
