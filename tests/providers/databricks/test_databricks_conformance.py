"""The conformance checks on Databricks' three routes, and on an endpoint of one's own."""

from __future__ import annotations

from typing import Any

import pytest

from llamaroute.providers.databricks import SPEC
from llamaroute.testing import check_adapter
from tests.providers.databricks.samples import SAMPLES

HOST = "https://adb-1234567890123456.7.azuredatabricks.net"


@pytest.mark.parametrize(
    ("settings", "model"),
    [
        pytest.param({}, "llama-4-maverick", id="invocations"),
        pytest.param({"api": "openai"}, "llama-4-maverick", id="openai"),
        pytest.param({"api": "gateway", "request_tags": {"team": "a"}}, "llama-4-maverick", id="gateway"),
        pytest.param({}, "my-own-endpoint", id="provisioned"),
    ],
)
def test_conformance(settings: dict[str, Any], model: str) -> None:
    check_adapter(SPEC, settings={"host": HOST, **settings}, samples=SAMPLES, model=model)
