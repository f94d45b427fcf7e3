"""Chunks that differ in their text alone are read by what stands around it: the events are those of the JSON reader."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from llamaroute.dialects import openai_chat
from llamaroute.dialects.openai_chat import OpenAIDecoder
from llamaroute.dialects.workers_ai import WorkersAIDecoder
from llamaroute.errors import ProviderError
from llamaroute.spi import DecoderEvent, WireResponse

FIRST = b'{"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'
LAST = b'{"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'


def raised(response: WireResponse) -> ProviderError:
    return ProviderError(response.body.decode())


def openai() -> OpenAIDecoder:
    return OpenAIDecoder(raised)


def workers() -> OpenAIDecoder:
    return WorkersAIDecoder(raised, None)


def chunk(delta: object, **rest: object) -> bytes:
    return json.dumps({"id": "1", "choices": [{"index": 0, "delta": delta, **rest}]}).encode()


def content(text: bytes) -> bytes:
    return b'{"id":"1","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}' % text


def events(make: Callable[[], OpenAIDecoder], chunks: list[bytes], *, together: bool) -> list[DecoderEvent | str]:
    decoder = make()
    told: list[DecoderEvent | str] = []
    body = [b"data: " + data + b"\n\n" for data in chunks]
    try:
        for data in [b"".join(body)] if together else body:
            told.extend(decoder.feed(data))
        told.extend(decoder.close())
    except ProviderError as error:
        told.append(repr(error))
    return told


PLAIN = [content(word) for word in (b"one", b" two", b" three", b" four")]

STREAMS: dict[str, list[bytes]] = {
    "plain": PLAIN,
    "empty between": [*PLAIN, content(b""), *PLAIN],
    "escapes": [*PLAIN, content(rb"a \"quote\"\n\u00e9"), *PLAIN, content(rb"\\"), content(b"x")],
    "letters of more bytes": [*PLAIN, content("é 漢 😀".encode()), content(b"x")],
    "half a letter": [*PLAIN, content("é".encode()[:1]), content(b"x")],
    "control characters": [*PLAIN, content(b"a\tb"), content(b"a\x00b")],
    "quotes in the text": [*PLAIN, content(b'","x":"'), content(b'"}}],"error":{"message":"')],
    "text that closes and begins anew": [
        *PLAIN,
        content(b'a"},"finish_reason":"length"},{"index":1,"delta":{"content":"b'),
    ],
    "a finish between": [*PLAIN, chunk({"content": "end"}, finish_reason="length"), *PLAIN],
    "usage in each": [
        json.dumps(
            {"id": "1", "choices": [{"delta": {"content": w}}], "usage": {"prompt_tokens": 1, "completion_tokens": n}}
        ).encode()
        for n, w in enumerate("abcdef")
    ],
    "the same usage in each": [
        json.dumps({"choices": [{"delta": {"content": w}}], "usage": {"prompt_tokens": 1}}).encode() for w in "abcdef"
    ],
    "padding": [chunk({"content": "word"}, p="x" * n) for n in range(9)],
    "reasoning": [chunk({"reasoning_content": w}) for w in "abc"],
    "reasoning beside text": [chunk({"content": w, "reasoning_content": "same"}) for w in "abc"],
    "refusal": [chunk({"content": None, "refusal": w}) for w in "abc"],
    "refusal that is the text of another choice": [
        json.dumps({"choices": [{"index": 0, "delta": {"refusal": r}}, {"index": 1, "delta": {"content": c}}]}).encode()
        for r, c in ("xx", "xy", "xz")
    ],
    "two choices": [
        json.dumps({"choices": [{"index": 0, "delta": {"content": a}}, {"index": 1, "delta": {"content": b}}]}).encode()
        for a, b in ("ab", "cd", "ab", "xb")
    ],
    "parts": [chunk({"content": [{"type": "text", "text": w}]}) for w in "abc"],
    "two parts": [
        chunk({"content": [{"type": "text", "text": a}, {"type": "text", "text": b}]})
        for a, b in (("a", ""), ("b", ""), ("b", "c"))
    ],
    "a number": [
        *PLAIN,
        b'{"id":"1","choices":[{"index":0,"delta":{"content":5},"finish_reason":null}]}',
        content(b"x"),
    ],
    "logprobs": [chunk({"content": w}, logprobs={"content": [{"token": w, "logprob": -1}]}) for w in "abc"],
    "a key written with an escape": [content(w).replace(b"content", rb"c\u006fntent") for w in (b"a", b"b")],
    "the key twice": [content(w).replace(b'"content"', b'"content":"x","content"') for w in (b"a", b"b", b"x")],
    "space about the colon": [content(w).replace(b'"content":', b'"content" : ') for w in (b"a", b"b", b"c")],
    "filtered": [chunk({"content": w}, content_filter_results={"hate": {"filtered": False}}) for w in "abc"],
    "an error between": [*PLAIN, b'{"error":{"message":"overloaded","code":503}}', *PLAIN],
    "after the end": [*PLAIN, LAST, b"[DONE]", *PLAIN],
    "native": [b'{"response":"%s","p":"ab"}' % w for w in (b"a", b"b", rb"\"", b"", b"c")],
    "native, a number": [b'{"response":"5","p":"x"}', b'{"response":5,"p":"5"}', b'{"response":6,"p":"5"}'],
    "native, with usage": [
        b'{"response":"%s","usage":{"completion_tokens":%d}}' % (w, n) for n, w in enumerate((b"a", b"b", b"c"))
    ],
    "hybrid": [b'{"response":"%s","choices":[{"delta":{"content":"%s"}}]}' % (w, w) for w in (b"a", b"b", b"b", b"c")],
}


@pytest.mark.parametrize("make", [openai, workers])
@pytest.mark.parametrize("together", [True, False], ids=["together", "one by one"])
@pytest.mark.parametrize("name", STREAMS)
def test_the_events_are_those_without_moulds(
    name: str, together: bool, make: Callable[[], OpenAIDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = [FIRST, *STREAMS[name], LAST]
    told = events(make, chunks, together=together)
    monkeypatch.setattr(openai_chat, "MOULDS", 0)
    assert told == events(make, chunks, together=together)


def test_a_chunk_of_the_same_mould_is_not_read_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []

    def counted(data: bytes, what: str) -> object:
        read.append(data)
        return json.loads(data)

    monkeypatch.setattr(openai_chat, "loads", counted)
    events(openai, [FIRST, *PLAIN * 10, LAST], together=False)
    assert read == [FIRST, PLAIN[0], LAST]


def test_no_more_moulds_are_made_than_are_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []
    of = openai_chat._Mould.of

    def counted(chunk: bytes, key: bytes, text: str) -> object:
        made.append(chunk)
        return of(chunk, key, text)

    monkeypatch.setattr(openai_chat._Mould, "of", counted)
    events(openai, [FIRST, *(chunk({"content": "word"}, p="x" * n) for n in range(500)), LAST], together=False)
    assert len(made) == openai_chat.MOULDS
