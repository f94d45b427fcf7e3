"""Conversations run as clients do: blocking, on asyncio with both engines and on trio; see tests/client."""

from __future__ import annotations

from tests.client.conftest import _no_proxy, _quick_collection, api, emu, pytest_pyfunc_call

__all__ = ["_no_proxy", "_quick_collection", "api", "emu", "pytest_pyfunc_call"]
