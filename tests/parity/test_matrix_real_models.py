"""The Tool, JSON and image cells once more, with real models behind the wires.

The tiny Llama 4 (examples/tiny_llama_4) calls the one tool that it knows in Llama 4's format and names colours, also
under a prompt. SmolLM2 (135M) follows a grammar and no more: required calls and schemas. Where neither can do what
was asked (docs/parity.md), the library has to say that the answer is none, and never hand a wrong one out.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import PIL.Image
import pytest
from tests.parity import matrix
from tests.parity.matrix import COLUMNS, TINY, Column, Variant
from tests.servers import start_llamacpp

import llamaroute as lr
from llamaroute.emulator import Emulator
from llamaroute.emulator.model import GgufModel
from llamaroute.local_models import cached

QUESTION = "What is the weather in Paris?"
WEATHER = lr.Tool(
    "get_weather",
    "Get the weather in a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome", "Oslo"]}, "sunny": {"type": "boolean"}},
    "required": ["city", "sunny"],
    "additionalProperties": False,
}
COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 80}
FORCED = ("required", "get_weather")
EXPECTED = matrix.expected()
HOSTS = [(column, variant) for column in COLUMNS if column.host for variant in column.variants]
IDS = [f"{column.name}-{column.variants.index(variant)}" for column, variant in HOSTS]


def client_of(column: Column, emulator: Emulator) -> lr.Client:
    table = {**emulator.providers(column.host)[column.host], **column.table}
    return lr.Client({"providers": {column.name: table}, "default": column.target})


def tiny_table() -> dict[str, Any]:
    return {
        "kind": "local", "model": str(TINY / "tiny-llama-4.gguf"), "mmproj": str(TINY / "mmproj-tiny-llama-4.gguf"),
        "threads": 1,
    }  # fmt: skip


def streamed(client: lr.Client, said: Any, **options: Any) -> lr.ChatResponse[Any]:
    with client.stream(said, **options) as stream:
        for _ in stream:
            pass
    return stream.response


def assert_call(reply: lr.ChatResponse[Any]) -> None:
    (call,) = reply.tool_calls
    assert (call.name, dict(call.arguments), call.error) == ("get_weather", {"city": "Paris"}, None)
    assert reply.finish_reason == "tool_calls"
    assert "get_weather" not in reply.text


def assert_json(reply: lr.ChatResponse[Any]) -> None:
    assert reply.output is not None
    assert set(reply.output) == {"city", "sunny"}
    assert reply.output["city"] in SCHEMA["properties"]["city"]["enum"]  # type: ignore[index]
    assert isinstance(reply.output["sunny"], bool)


def assert_colours(client: lr.Client) -> None:
    for colour, value in COLOURS.items():
        image = lr.Image(plain(value))
        assert colour in client.chat(["What colour is this image?", image], **GREEDY).text


def plain(colour: tuple[int, int, int]) -> bytes:
    """A plain PNG of one tile."""
    out = io.BytesIO()
    PIL.Image.new("RGB", (336, 336), colour).save(out, "PNG")
    return out.getvalue()


def asks_in_words(column: Column, cell: str) -> bool:
    return EXPECTED[cell, column.name].startswith(("Eo", "Ep"))


# ── the tiny Llama 4 ──


@pytest.fixture(scope="module")
def tiny() -> Iterator[GgufModel]:
    model = GgufModel(TINY / "tiny-llama-4.gguf", TINY / "mmproj-tiny-llama-4.gguf", threads=1)
    yield model
    model.close()


@pytest.mark.parametrize(("column", "variant"), HOSTS, ids=IDS)
def test_tiny_llama_4(tiny: GgufModel, column: Column, variant: Variant) -> None:
    """Calls, natively or under a prompt; colours; JSON where the host holds the model to a schema."""
    with Emulator(model=tiny, quirks=variant.quirks) as emulator, client_of(column, emulator) as client:
        first = client.chat(QUESTION, tools=[WEATHER], **GREEDY)
        assert_call(first)
        for choice in FORCED:
            assert_call(client.chat(QUESTION, tools=[WEATHER], tool_choice=choice, **GREEDY))
        assert_call(streamed(client, QUESTION, tools=[WEATHER], **GREEDY))
        assert_colours(client)
        if EXPECTED["tools-round-trip", column.name] == "N":
            turns = [lr.user(QUESTION), first.message, *(lr.tool_result(call, "18 C") for call in first.tool_calls)]
            assert "18 C" in client.chat(turns, tools=[WEATHER], **GREEDY).text
        if not asks_in_words(column, "schema"):
            assert_json(client.chat(f"{QUESTION} Answer in JSON.", output=SCHEMA, **GREEDY))
            assert_json(streamed(client, f"{QUESTION} Answer in JSON.", output=SCHEMA, **GREEDY))


def test_tiny_llama_4_in_this_process() -> None:
    with lr.Client({"providers": {"local": tiny_table()}}) as client:
        assert_call(client.chat(QUESTION, tools=[WEATHER], **GREEDY))
        for choice in FORCED:
            assert_call(client.chat(QUESTION, tools=[WEATHER], tool_choice=choice, **GREEDY))
        assert_call(streamed(client, QUESTION, tools=[WEATHER], **GREEDY))
        assert_json(client.chat(f"{QUESTION} Answer in JSON.", output=SCHEMA, **GREEDY))
        assert_json(streamed(client, f"{QUESTION} Answer in JSON.", output=SCHEMA, **GREEDY))
        assert_colours(client)


def test_tiny_llama_4_behind_a_real_server() -> None:
    """llama.cpp's own: its template, its parser of calls, its grammars."""
    files = (TINY / "tiny-llama-4.gguf", TINY / "mmproj-tiny-llama-4.gguf")
    with start_llamacpp(*files, ctx=2048, parallel=1) as server:
        table = {"kind": "openai-compatible", "base_url": f"{server.url}/v1", "model": "tiny-llama-4"}
        with lr.Client({"providers": {"box": table}}) as client:
            first = client.chat(QUESTION, tools=[WEATHER], **GREEDY)
            assert_call(first)
            assert_call(client.chat(QUESTION, tools=[WEATHER], tool_choice="required", **GREEDY))
            assert_call(streamed(client, QUESTION, tools=[WEATHER], **GREEDY))
            turns = [lr.user(QUESTION), first.message, *(lr.tool_result(call, "18 C") for call in first.tool_calls)]
            assert "18 C" in client.chat(turns, tools=[WEATHER], **GREEDY).text
            assert_json(client.chat(f"{QUESTION} Answer in JSON.", output=SCHEMA, **GREEDY))
            assert_colours(client)


# ── SmolLM2 ──


@pytest.fixture(scope="module")
def smollm2() -> Iterator[GgufModel]:
    path = cached("smollm2")
    assert path is not None, "llamaroute local pull smollm2"
    model = GgufModel(path, threads=1)
    yield model
    model.close()


HELD = [
    (column, variant)
    for column, variant in HOSTS
    if variant is column.variants[0] and EXPECTED["tools-required", column.name] in ("N", "Eg")
]


@pytest.mark.smollm2
@pytest.mark.parametrize(("column", "variant"), HELD, ids=[column.name for column, _ in HELD])
def test_smollm2_under_a_grammar(smollm2: GgufModel, column: Column, variant: Variant) -> None:
    with Emulator(model=smollm2, quirks=variant.quirks) as emulator, client_of(column, emulator) as client:
        for choice in FORCED:
            assert_call(client.chat(QUESTION, tools=[WEATHER], tool_choice=choice, **GREEDY))
        if EXPECTED["tools", column.name] == "Eg":
            assert_call(client.chat(QUESTION, tools=[WEATHER], **GREEDY))
            assert_call(streamed(client, QUESTION, tools=[WEATHER], **GREEDY))
        assert_json(client.chat(f"{QUESTION} Answer in JSON.", output=SCHEMA, **GREEDY))
        assert_json(streamed(client, f"{QUESTION} Answer in JSON.", output=SCHEMA, **GREEDY))


@pytest.mark.smollm2
def test_smollm2_in_this_process() -> None:
    with lr.Client({"providers": {"local": {"kind": "local", "threads": 1}}}) as client:
        for choice in ("auto", *FORCED):
            assert_call(client.chat(QUESTION, tools=[WEATHER], tool_choice=choice, **GREEDY))
        assert_call(streamed(client, QUESTION, tools=[WEATHER], **GREEDY))
        assert_json(client.chat(f"{QUESTION} Answer in JSON.", output=SCHEMA, **GREEDY))
        assert_json(streamed(client, f"{QUESTION} Answer in JSON.", output=SCHEMA, **GREEDY))


# ── what neither can do: then it is an error, and no wrong answer ──

WORDS = [
    (column, variant) for column, variant in HOSTS if variant is column.variants[0] and asks_in_words(column, "schema")
]


@pytest.mark.parametrize(("column", "variant"), WORDS, ids=[column.name for column, _ in WORDS])
def test_tiny_llama_4_writes_no_json_unheld(tiny: GgufModel, column: Column, variant: Variant) -> None:
    """To everything that it was not taught, it says "I am only a tiny model.\""""
    with (
        Emulator(model=tiny, quirks=variant.quirks) as emulator,
        client_of(column, emulator) as client,
        pytest.raises(lr.OutputValidationError, match="not JSON") as caught,
    ):
        client.chat(f"{QUESTION} Answer in JSON.", output=SCHEMA, **GREEDY)
    assert caught.value.reply is not None
    assert {"output_emulated", "output_repaired"} <= {notice.code for notice in caught.value.reply.warnings}


@pytest.mark.smollm2
@pytest.mark.parametrize(("column", "variant"), WORDS, ids=[column.name for column, _ in WORDS])
def test_smollm2_repeats_the_schema(smollm2: GgufModel, column: Column, variant: Variant) -> None:
    """Asked for JSON that fits a schema, it writes the schema, which is JSON and does not fit."""
    with Emulator(model=smollm2, quirks=variant.quirks) as emulator, client_of(column, emulator) as client:
        with pytest.raises(lr.OutputValidationError):
            client.chat(f"{QUESTION} Answer in JSON.", output=SCHEMA, **GREEDY)
        with pytest.raises(lr.OutputValidationError, match="called no tool"):
            client.chat(QUESTION, tools=[WEATHER], tool_choice="required", **GREEDY)
