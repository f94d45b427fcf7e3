"""No proxy of this machine's stands between a test and its server."""

from __future__ import annotations

from tests.client.conftest import _no_proxy

__all__ = ["_no_proxy"]
