"""What all tests share."""

from __future__ import annotations

import pytest


@pytest.fixture
def plain_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes without coverage: its tracer lengthens the moments in which Python does not look at signals."""
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)
