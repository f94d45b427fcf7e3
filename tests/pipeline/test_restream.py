"""Streams made from whole answers, and streams that came back empty."""

from __future__ import annotations

from typing import Any

import pytest

from llamaroute.layers.adapt import adapt
from llamaroute.layers.observe import observe
from llamaroute.layers.restream import restream
from llamaroute.pipeline.core import compose
from llamaroute.pipeline.exchange import exchange, reply_events
from llamaroute.types.capability import FEATURES, ModelRow
from llamaroute.types.events import Finished, TextDelta, UsageReported
from llamaroute.types.parts import Text
from llamaroute.types.response import ChatResponse, Usage

from .step import Adapter, Script, answer, call_of, candidate, drain, pull, send

handler = compose((restream, adapt, observe), exchange)


class Mute(Adapter):
    """Streams that count tokens and say nothing, as Cloudflare's do with Scout and tools."""

    def __init__(self, tokens: int, reason: str = "stop") -> None:
        super().__init__()
        self.tokens, self.reason = tokens, reason

    def stream_decoder(self, request: Any, target: Any) -> Any:
        tokens, reason = self.tokens, self.reason

        class Decoder:
            def feed(self, data: bytes) -> Any:
                return iter(())

            def close(self) -> Any:
                yield UsageReported(Usage(5, tokens, 5 + tokens))
                yield Finished(reason, reason)

        return Decoder()


def test_an_empty_stream_that_was_billed_is_asked_again_without_stream() -> None:
    call = call_of(candidate(adapter=Mute(12)), stream=True)
    script = Script(send(), pull(b""), answer(200, {"text": "Hello there", "usage": [5, 2]}))
    reply = script.run(handler(call), call.ledger)
    assert "".join(event.text for event in drain(reply) if isinstance(event, TextDelta)) == "Hello there"
    assert [notice.code for notice in call.ledger.notices] == ["empty_stream_repaired"]
    assert [attempt.usage.output_tokens for attempt in call.ledger.attempts] == [12, 2], "both were paid for"


@pytest.mark.parametrize(("tokens", "reason"), [(0, "stop"), (1, "stop"), (9, "length"), (9, "content_filter")])
def test_an_answer_that_is_empty_by_right_stays(tokens: int, reason: str) -> None:
    call = call_of(candidate(adapter=Mute(tokens, reason)), stream=True)
    reply = Script(send(), pull(b"")).run(handler(call), call.ledger)
    assert Finished(reason, reason) in drain(reply)
    assert call.ledger.notices == []


def test_a_stream_with_text_is_handed_on_as_it_is() -> None:
    call = call_of(stream=True)
    reply = Script(send(), pull(b"T:Hello\n")).run(handler(call), call.ledger)
    assert reply.decoder is not None
    assert not reply.ended


def test_a_stream_of_a_host_without_streams_comes_in_pieces() -> None:
    row = ModelRow("m", "m", features={**dict.fromkeys(FEATURES, "native"), "stream": "emulate"})
    text = "One fine morning, a llama went up the hill to see what was there.  It was the sea.\n\nThe end."
    call = call_of(candidate(row=row), stream=True)
    reply = Script(answer(200, {"text": text})).run(handler(call), call.ledger)
    pieces = [event.text for event in drain(reply) if isinstance(event, TextDelta)]
    assert "".join(pieces) == text
    assert 3 <= len(pieces) <= 8
    assert [notice.code for notice in call.ledger.notices] == ["stream_from_reply"]


@pytest.mark.parametrize("text", ["", " ", "\n", "x", "x" * 1000, "a b " * 500, "é🎉 " * 40, "\u2028 \r\n\t x"])
def test_pieces_lose_nothing(text: str) -> None:
    response: ChatResponse[Any] = ChatResponse(text=text, parts=(Text(text),))
    events = list(reply_events(response))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == text
