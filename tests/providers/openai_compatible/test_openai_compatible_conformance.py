"""The conformance checks on hosts that speak OpenAI's dialect."""

from __future__ import annotations

from typing import Any

import pytest

from llamaroute.providers.openai_compatible import SPEC
from llamaroute.testing import check_adapter
from tests.providers.openai_compatible.samples import SAMPLES


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "http://10.0.0.5:8000/v1"},
        {"base_url": "http://10.0.0.5:8000/v1?key=1", "dialect": "tgi", "api_key": "tgi-key-0123456789"},
        {"base_url": "http://10.0.0.5:8000/v1", "features": {"image_url": "refuse"}},
    ],
)
def test_conformance(settings: dict[str, Any]) -> None:
    check_adapter(SPEC, settings=settings, samples=SAMPLES)
