"""The tokenizer, loaded once, and Meta's own beside it as the oracle. Both are part of the development environment."""

from __future__ import annotations

import sys
from typing import Any
from unittest import mock

import pytest

from llamaroute.tokenizer import Tokenizer, load
from tests.client.conftest import _no_proxy, _quick_collection, api, emu, pytest_pyfunc_call

__all__ = ["_no_proxy", "_quick_collection", "api", "emu", "pytest_pyfunc_call"]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Ours. That it is there is no matter of course: `pip install 'llamaroute[tokenizer]'`."""
    loaded = load({})
    assert loaded is not None, "the extra `tokenizer` is not installed"
    return loaded


@pytest.fixture(scope="session")
def meta() -> Any:
    """Meta's tokenizer, of the package `llama-models`."""
    from llama_models.llama4.tokenizer import Tokenizer as Metas

    return Metas.get_instance()


@pytest.fixture(scope="session")
def chat_format(meta: Any) -> Any:
    """Meta's chat format. It imports torch for pictures alone, which nothing here has."""
    absent = ("torch", "torchvision", "torchvision.transforms", "torchvision.transforms.v2")
    with mock.patch.dict(sys.modules, {name: mock.MagicMock() for name in absent}):
        from llama_models.llama4.chat_format import ChatFormat
    return ChatFormat(meta)
