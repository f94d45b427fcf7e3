"""The model in this process: what is asked of its engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from llamaroute.errors import CapabilityError, ProtocolError
from llamaroute.providers.local import SPEC, LocalAdapter, LocalSettings
from llamaroute.spi import Target
from llamaroute.types.messages import user
from llamaroute.types.parts import Image, ImageData
from llamaroute.types.request import ChatRequest
from tests.providers.wires import PNG, PNG_URL, WEATHER, answer, ask, json_of, target_of


def target(model: str = "smollm2", **settings: Any) -> Target:
    return target_of(SPEC, settings, model)


def picture() -> ChatRequest:
    image = Image(PNG)
    image.load(ImageData.of("image/png", PNG))
    return ChatRequest((user("Look", image),))


def test_url_and_body() -> None:
    wire = SPEC.adapter.build_request(ask(max_tokens=8, repetition_penalty=1.1), target(), stream=True)
    assert wire.url == "local://acc/v1/chat/completions"
    assert json_of(wire) == {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 8,
        "repeat_penalty": 1.1,  # llama.cpp's own name
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_an_accounts_name_may_be_anything() -> None:
    odd = replace(target(), provider="my model/1?")
    assert SPEC.adapter.build_request(ask(), odd, stream=False).url == "local://my%20model%2F1%3F/v1/chat/completions"


def test_images_need_a_vision_tower() -> None:
    with pytest.raises(CapabilityError, match=r"providers\.acc\.mmproj"):
        SPEC.adapter.build_request(picture(), target(), stream=False)
    wire = SPEC.adapter.build_request(picture(), target(mmproj="m.gguf"), stream=False)
    assert json_of(wire)["messages"][0]["content"][1] == {"type": "image_url", "image_url": {"url": PNG_URL}}


def test_what_the_row_says() -> None:
    row = target(context=512).row
    assert row.context_window == 512
    assert (row.features["tools"], row.features["forced_tools"], row.features["stream_tools"]) == ("emulate",) * 3
    assert (row.features["images"], row.features["json_schema"]) == ("refuse", "native")
    assert target(mmproj="m.gguf").row.features["images"] == "native"
    refused = {"max_tokens": 0, "temperature": -0.1, "top_p": 1.1, "top_k": -1}
    assert [name for name, value in refused.items() if row.parameters[name].refusal(value) is None] == []


def test_counting() -> None:
    adapter = SPEC.adapter
    assert isinstance(adapter, LocalAdapter)
    wire = adapter.count_request(ask(tools=(WEATHER,)), target())
    assert wire.url == "local://acc/count"
    assert json_of(wire)["messages"] == [{"role": "user", "content": "Hi"}]
    assert adapter.parse_count(answer({"input_tokens": 17}), target()) == 17


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"null", {}, {"input_tokens": None}, {"input_tokens": "17"}])
def test_a_count_that_is_none(body: Any) -> None:
    adapter = SPEC.adapter
    assert isinstance(adapter, LocalAdapter)
    with pytest.raises(ProtocolError):
        adapter.parse_count(answer(body), target())


@pytest.mark.parametrize(
    "settings",
    [
        {"context": 63},
        {"parallel": 0},
        {"parallel": 65},
        {"threads": 0},
        {"temperature": -1},
        {"temperature": 2.1},
        {"gpu": 1},
    ],
    ids=str,
)
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        target(**settings)


def test_served_names() -> None:
    assert LocalSettings(kind="local").served_names() == ("smollm2",)
    own = LocalSettings(kind="local", model="/m.gguf", models={"a": "/m.gguf", "b": "x"})
    assert own.served_names() == ("/m.gguf", "x")


def test_no_zero_config() -> None:
    """A model that has to be downloaded first is nothing to fall back to in silence."""
    assert SPEC.from_env is None
