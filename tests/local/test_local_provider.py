"""The provider's pure part: settings, rows, requests."""

from __future__ import annotations

import json

import pytest
from local_helpers import png, target_of
from pydantic import ValidationError

from llamaroute.errors import CapabilityError, ProtocolError
from llamaroute.providers.local import SPEC, LocalSettings
from llamaroute.routing.resolve import make_account
from llamaroute.spi import WireResponse
from llamaroute.types.messages import user
from llamaroute.types.parts import Image, ImageData
from llamaroute.types.request import ChatRequest

LOCAL = LocalSettings(kind="local")


def picture() -> Image:
    import base64

    image = Image(b"")
    image.load(ImageData.of("image/png", base64.b64decode(png().partition(",")[2])))
    return image


def test_settings() -> None:
    assert (LOCAL.model, LOCAL.context, LOCAL.parallel, LOCAL.temperature) == ("smollm2", 4096, 1, None)
    assert LOCAL.default_timeout()["first_token"] == 300
    for wrong in ({"context": 1}, {"parallel": 0}, {"threads": 0}, {"temperature": 3}, {"contxt": 1}):
        with pytest.raises(ValidationError):
            LocalSettings(kind="local", **wrong)


def test_row_of_the_known_model() -> None:
    (row,) = make_account("local", SPEC, LOCAL, (), {}).rows
    assert (row.model, row.model_id, row.context_window) == ("smollm2", "smollm2", 4096)


def test_a_file_is_called_by_its_name() -> None:
    options = LocalSettings(kind="local", model="models/Llama-4-Scout.gguf")
    (row,) = make_account("local", SPEC, options, (), {}).rows
    assert (row.model, row.model_id) == ("Llama-4-Scout", "models/Llama-4-Scout.gguf")


def test_features_follow_the_settings() -> None:
    without = target_of(LOCAL).row.features
    assert (without["tools"], without["forced_tools"], without["json_schema"]) == ("emulate", "emulate", "native")
    assert (without["images"], without["image_url"]) == ("refuse", "emulate")
    assert target_of(LocalSettings(kind="local", model="x.gguf", mmproj="y.gguf")).row.features["images"] == "native"


def test_request() -> None:
    target = target_of(LOCAL, "my box")
    request = ChatRequest((user("Hi"),), repetition_penalty=1.1, max_tokens=5)
    wire = SPEC.adapter.build_request(request, target, stream=True)
    assert wire.url == "local://my%20box/v1/chat/completions"
    body = json.loads(wire.body)
    assert (body["model"], body["repeat_penalty"], body["stream"]) == ("smollm2", 1.1, True)
    assert "repetition_penalty" not in body
    assert SPEC.adapter.count_request(request, target).url == "local://my%20box/count"


def test_images_need_a_vision_tower() -> None:
    request = ChatRequest((user("What?", picture()),))
    with pytest.raises(CapabilityError, match="mmproj"):
        SPEC.adapter.build_request(request, target_of(LOCAL), stream=False)


def test_a_count_that_is_none() -> None:
    for body in (b"", b"[]", b'{"input_tokens":"7"}'):
        with pytest.raises(ProtocolError):
            SPEC.adapter.parse_count(WireResponse(200, {}, body), target_of(LOCAL))
