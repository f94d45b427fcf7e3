"""URLs put together."""

from __future__ import annotations

import pytest

from llamaroute.providers.urls import chat_completions_url, join_url


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("http://h", "a/b", "http://h/a/b"),
        ("http://h/", "/a", "http://h/a"),
        ("http://h/v1//", "a", "http://h/v1/a"),
        ("http://h/v1?k=v&x=%20", "a", "http://h/v1/a?k=v&x=%20"),
        ("http://h:8000/%7Eme/v1", "@cf/meta/m", "http://h:8000/%7Eme/v1/@cf/meta/m"),
        ("local://acc", "v1/chat", "local://acc/v1/chat"),
    ],
)
def test_join_url(base: str, path: str, url: str) -> None:
    assert join_url(base, path) == url


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://h/v1", "http://h/v1/chat/completions"),
        ("http://h/v1/", "http://h/v1/chat/completions"),
        ("http://h/openai/v1?a=b", "http://h/openai/v1/chat/completions?a=b"),
        ("http://h/v1/chat/completions", "http://h/v1/chat/completions"),
        ("http://h/v1/chat/completions?a=/v1", "http://h/v1/chat/completions?a=/v1"),
    ],
)
def test_chat_completions_url(base: str, url: str) -> None:
    assert chat_completions_url(base) == url
