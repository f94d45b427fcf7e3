"""The conformance checks on Bedrock's dialect, with keys and with an API key."""

from __future__ import annotations

from typing import Any

import pytest

from llamaroute.providers.bedrock import SPEC
from llamaroute.testing import check_adapter
from tests.providers.bedrock.samples import SAMPLES

PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123def456"
KEYS = {"access_key_id": "AKIDCONFORMANCE00001", "secret_access_key": "conformance-secret-4cb9c8a8048fd02294477fcb1"}


@pytest.mark.parametrize(
    ("settings", "model"),
    [
        pytest.param({"region": "us-east-1"}, "llama-4-scout", id="api-key"),
        pytest.param({**KEYS, "session_token": "conformance-session-0123456789"}, "llama-4-maverick", id="keys"),
        pytest.param(
            {"guardrail": {"id": "abc123", "version": "1", "trace": "enabled"}, "service_tier": "flex"},
            "llama-4-maverick",
            id="guardrail",
        ),
        pytest.param({"base_url": "http://127.0.0.1:9/bedrock", "models": {"mine": PROFILE}}, "mine", id="profile"),
    ],
)
def test_conformance(settings: dict[str, Any], model: str) -> None:
    check_adapter(SPEC, settings=settings, samples=SAMPLES, model=model)
