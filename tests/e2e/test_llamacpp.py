"""A real llama.cpp server, in a process of its own, through `openai-compatible`: others' software at the other end."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest

import llamaroute as lr
from tests.servers import LlamaCpp, start_llamacpp

MODELS = Path(__file__).parents[2] / "examples" / "tiny_llama_4"
MODEL, MMPROJ = MODELS / "tiny-llama-4.gguf", MODELS / "mmproj-tiny-llama-4.gguf"
KEY = "sk-of-this-server"
COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


def png(colour: tuple[int, int, int], size: int = 336) -> bytes:
    """A plain picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\x00" + bytes(colour) * size) * size
    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def config(server: LlamaCpp, key: str | None = KEY) -> dict[str, Any]:
    table = {"kind": "openai-compatible", "base_url": f"{server.url}/v1", "model": "tiny-llama-4"}
    return {"providers": {"box": table if key is None else {**table, "api_key": key}}}


@pytest.fixture(scope="module")
def server() -> Iterator[LlamaCpp]:
    with start_llamacpp(MODEL, MMPROJ, key=KEY, ctx=2048, parallel=1) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: LlamaCpp) -> Iterator[lr.Client]:
    with lr.Client(config(server)) as client:
        yield client


def test_text(client: lr.Client) -> None:
    reply = client.chat("Hello", temperature=0, max_tokens=40)
    assert "tiny Llama 4" in reply.text
    assert reply.finish_reason == "stop"
    assert reply.usage.output_tokens > 3
    assert not reply.usage.estimated
    assert reply.provider_kind == "openai-compatible"
    assert [attempt.status for attempt in reply.attempts] == [200]


def test_stream_says_what_the_plain_answer_says(client: lr.Client) -> None:
    plain = client.chat("Hello", temperature=0, max_tokens=40)
    with client.stream("Hello", temperature=0, max_tokens=40) as stream:
        pieces = list(stream.text())
    assert len(pieces) > 3
    assert "".join(pieces) == plain.text == stream.response.text
    assert stream.response.usage.output_tokens == plain.usage.output_tokens
    assert stream.response.finish_reason == plain.finish_reason


def test_length_is_told(client: lr.Client) -> None:
    reply = client.chat("Hello", temperature=0, max_tokens=3)
    assert (reply.finish_reason, reply.usage.output_tokens) == ("length", 3)


class Weather(pydantic.BaseModel):
    city: str
    sunny: bool


@pytest.mark.parametrize("streamed", [False, True])
def test_json_schema(client: lr.Client, streamed: bool) -> None:
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 300, "seed": 1}
    prompt = "What is the weather in Paris?"
    # The grammar lets this small model write any text inside the string: end it early.
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 8}, "sunny": {"type": "boolean"}},
        "required": ["city", "sunny"],
        "additionalProperties": False,
    }
    if streamed:
        with client.stream(prompt, output=schema, **options) as stream:
            for _ in stream:
                pass
        reply = stream.response
    else:
        reply = client.chat(prompt, output=schema, **options)
    weather = Weather.model_validate(reply.output)
    assert len(weather.city) <= 8
    assert reply.output_mode == "native"


@pytest.mark.parametrize("colour", COLOURS)
def test_image(client: lr.Client, colour: str) -> None:
    reply = client.chat(["What colour is this image?", lr.Image(png(COLOURS[colour]))], temperature=0, max_tokens=20)
    assert colour in reply.text.lower()
    assert reply.usage.input_tokens > 140  # 144 patches of one tile


def test_wrong_key(server: LlamaCpp) -> None:
    with lr.Client(config(server, key="sk-wrong")) as client, pytest.raises(lr.AuthenticationError) as caught:
        client.chat("Hello")
    assert caught.value.status == 401
    assert len(caught.value.attempts) == 1
    assert "sk-wrong" not in str(caught.value)


def test_context_too_long(client: lr.Client) -> None:
    with pytest.raises(lr.ContextLengthError) as caught:
        client.chat("word " * 6000, max_tokens=5)
    assert caught.value.status == 400
    assert caught.value.limit == 2048
    assert caught.value.tokens is not None
    assert caught.value.tokens > 6000


def test_a_broken_image_is_the_hosts_error(client: lr.Client) -> None:
    broken = png((1, 2, 3))[:60]  # a whole header, and nothing behind it
    with pytest.raises(lr.InvalidRequestError) as caught:
        client.chat(["What colour is this image?", lr.Image(broken)], max_tokens=5)
    assert caught.value.status == 400


def test_leaving_a_stream_ends_the_servers_work(client: lr.Client) -> None:
    with client.stream(
        "Tell me a story", temperature=0, max_tokens=1500, extra={"box": {"ignore_eos": True}}
    ) as stream:
        assert next(stream.text())
    assert stream.response.finish_reason == "interrupted"
    # The server has one slot: it answers again because it has noticed.
    assert client.chat("Hello", temperature=0, max_tokens=5, timeout=20).text


def test_loading_is_waited_for() -> None:
    patient = lr.RetryPolicy(attempts=200, base=0.05, max=0.2)
    with (
        start_llamacpp(MODEL, ctx=512, delay_load=0.8, wait=False) as server,
        lr.Client(config(server, None)) as client,
    ):
        reply = client.chat("Hello", temperature=0, max_tokens=10, retry=patient)
    assert reply.text
    assert reply.attempts[0].status == 503
    assert reply.attempts[0].error is not None
    assert reply.attempts[0].error.type == "OverloadedError"
    assert reply.attempts[-1].status == 200


def test_a_server_that_still_loads_is_overloaded_for_one_who_does_not_wait() -> None:
    loading = start_llamacpp(MODEL, ctx=512, delay_load=30, wait=False)
    with loading as server, lr.Client(config(server, None)) as client, pytest.raises(lr.OverloadedError) as caught:
        client.chat("Hello", retry=1)
    assert caught.value.status == 503
    assert caught.value.retryable
