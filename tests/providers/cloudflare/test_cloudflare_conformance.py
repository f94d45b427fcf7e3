"""The conformance checks on both of Cloudflare's APIs."""

from __future__ import annotations

from typing import Any

import pytest

from llamaroute.providers.cloudflare import SPEC
from llamaroute.testing import Sample, check_adapter
from tests.providers.cloudflare.samples import NATIVE, OPENAI

ACCOUNT = {"account_id": "0123456789abcdef0123456789abcdef", "api_key": "cf-token-0123456789abcdef"}
GATEWAY = {"id": "my-gateway", "token": "gateway-token-0123456789", "metadata": {"user": "a"}, "skip_cache": True}


@pytest.mark.parametrize(
    ("more", "samples"),
    [
        pytest.param({"api": "native"}, NATIVE, id="native"),
        pytest.param({}, OPENAI, id="openai"),
        pytest.param({"gateway": GATEWAY, "reject_if_busy": True, "session_affinity": "s"}, OPENAI, id="gateway"),
        pytest.param({"api": "native", "gateway": GATEWAY, "email": "a@example.com"}, NATIVE, id="native-gateway"),
    ],
)
def test_conformance(more: dict[str, Any], samples: tuple[Sample, ...]) -> None:
    check_adapter(SPEC, settings={**ACCOUNT, **more}, samples=samples)
