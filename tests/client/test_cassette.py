"""`record` and `replay`: what an application sees is the same, and a recording holds no credential."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator
from llamaroute.testing import record, replay

from .raw import STREAM_END, STREAM_HEAD, Raw, Story, answer, chunk

KEY = "sk-emulator-openai-0000000000000000"


@pytest.fixture
def emu():
    with Emulator() as running:
        yield running


def config(emu: Emulator) -> dict[str, Any]:
    return {"providers": emu.providers("openai")}


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return tmp_path / "tape.json"


def pieces(stream: lr.Stream) -> list[str]:
    return [event.text for event in stream if isinstance(event, lr.TextDelta)]


def test_an_answer_and_a_stream_come_back_as_they_were(emu: Emulator, tape: Path) -> None:
    emu.replies("Rain.", lr.emulator.Reply("It will rain é🎉 all day.", chunks=3))
    with record(tape) as recording, lr.Client(config(emu), transport=recording.transport) as client:
        first = client.chat("Weather?")
        with client.stream("More?") as stream:
            told = pieces(stream)
        second = stream.response
    with replay(tape) as playing, lr.Client(config(emu), transport=playing.transport) as client:
        again = client.chat("Weather?")
        with client.stream("More?") as stream:
            assert pieces(stream) == told
        assert playing.left == 0
    assert len(told) > 5
    assert (again.text, again.usage, again.id) == (first.text, first.usage, first.id)
    assert (stream.response.text, stream.response.usage) == (second.text, second.usage)
    assert len(emu.requests) == 2, "the second time nothing went over the wire"


@pytest.mark.asyncio
async def test_async_too(emu: Emulator, tape: Path) -> None:
    emu.replies("Rain.", "More rain.")
    with record(tape) as recording:
        async with lr.AsyncClient(config(emu), transport=recording.async_transport) as client:
            await client.chat("Weather?")
            async with client.stream("More?") as stream:
                told = [text async for text in stream.text()]
        await recording.async_transport.aclose()
    with replay(tape) as playing:
        async with lr.AsyncClient(config(emu), transport=playing.async_transport) as client:
            assert (await client.chat("Weather?")).text == "Rain."
            async with client.stream("More?") as stream:
                assert [text async for text in stream.text()] == told


def test_chunk_borders_are_kept(tape: Path) -> None:
    body = 'data: {"choices":[{"delta":{"content":"é"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'.encode()
    half = body.index("é".encode()) + 1  # in the middle of the character
    parts = [body[:half], body[half : half + 1], body[half + 1 : 60], body[60:]]
    with Raw(Story([[STREAM_HEAD, *map(chunk, parts), STREAM_END]], pause=0.02)) as raw, record(tape) as recording:
        table = {"kind": "openai-compatible", "base_url": raw.url, "model": "m"}
        client = lr.Client({"providers": {"p": table}}, transport=recording.transport)
        with client, client.stream("x") as stream:
            assert pieces(stream) == ["é"]
    data = json.loads(tape.read_text())["exchanges"][0]["response"]["pieces"]
    assert [piece.get("base64", piece.get("text")) for piece in data][1] == base64.b64encode(parts[1]).decode()
    assert len(data) == 4
    with replay(tape) as playing:
        client = lr.Client({"providers": {"p": table}}, transport=playing.transport)
        with client, client.stream("x") as stream:
            assert pieces(stream) == ["é"]


def test_timing_is_kept_when_asked_for(emu: Emulator, tape: Path) -> None:
    emu.reply("a b", delay=0.15)
    with record(tape) as recording, lr.Client(config(emu), transport=recording.transport) as client:
        client.chat("x")
    for timing in (False, True):
        began = time.monotonic()
        with replay(tape, timing=timing) as playing, lr.Client(config(emu), transport=playing.transport) as client:
            client.chat("x")
        assert (time.monotonic() - began >= 0.15) is timing


def test_errors_come_back(emu: Emulator, tape: Path) -> None:
    emu.fault(status=429, retry_after=3)
    emu.fault(reset=True)
    with record(tape) as recording, lr.Client(config(emu), transport=recording.transport) as client:
        with pytest.raises(lr.RateLimitError):
            client.chat("x", retry=1)
        with pytest.raises(lr.ConnectionError) as reset:
            client.chat("y", retry=1)
    with replay(tape) as playing, lr.Client(config(emu), transport=playing.transport) as client:
        with pytest.raises(lr.RateLimitError) as caught:
            client.chat("x", retry=1)
        assert caught.value.retry_after == 3
        with pytest.raises(lr.ConnectionError) as again:
            client.chat("y", retry=1)
        assert (again.value.args, again.value.phase) == (reset.value.args, reset.value.phase)


def test_what_was_not_recorded_is_an_error_that_says_so(emu: Emulator, tape: Path) -> None:
    with record(tape) as recording, lr.Client(config(emu), transport=recording.transport) as client:
        client.chat("x")
    with replay(tape) as playing, lr.Client(config(emu), transport=playing.transport) as client:
        with pytest.raises(lr.InputError, match=r"tape.json: POST .* was not recorded with this body"):
            client.chat("something else")
        client.chat("x")
        with pytest.raises(lr.InputError, match="played already"):
            client.chat("x")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 99, "exchanges": []}', '{"version": 1, "exchanges": [3]}']
)
def test_a_file_that_is_no_recording(tape: Path, text: str) -> None:
    tape.write_text(text)
    with pytest.raises(lr.InputError, match=r"tape.json: (no recording|a recording of version 99)"):
        replay(tape)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(lr.InputError, match=r"none.json: No such file"):
        replay(tmp_path / "none.json")


def test_a_recording_holds_no_credential(emu: Emulator, tape: Path) -> None:
    """Not what was sent, and not what the host echoes, in one piece or cut in two."""
    table = {"kind": "openai-compatible", "model": "m", "api_key": KEY, "headers": {"x-tenant": "tenant-77777777777"}}
    echo = f'{{"error": {{"message": "bad key {KEY} of tenant-77777777777"}}}}'.encode()
    middle = echo.index(KEY.encode()) + 9
    refusal = answer(echo, "401 Unauthorized")
    cut = len(refusal) - len(echo) + middle
    with Raw(Story([[refusal[:cut], refusal[cut:]]], pause=0.05)) as raw, record(tape) as recording:
        table["base_url"] = f"{raw.url.replace('://', '://user:pass-55555@')}?key=query-8888888&api-version=1"
        client = lr.Client({"providers": {"p": table}}, transport=recording.transport)
        with client, pytest.raises(lr.AuthenticationError):
            client.chat("x")
    text = tape.read_text()
    for secret in (KEY, KEY[:9], KEY[9:], "tenant-77777777777", "pass-55555", "query-8888888"):
        assert secret not in text
    assert "api-version=1" in text
    exchange = json.loads(text)["exchanges"][0]
    assert [len(piece["text"]) for piece in exchange["response"]["pieces"]] == [middle, len(echo) - middle]
