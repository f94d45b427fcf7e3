"""Cloudflare's native dialect: its three shapes, and what it leaves unsaid. Shapes and sources: tests/providers."""

from __future__ import annotations

from typing import Any

import pytest

from llamaroute import errors
from llamaroute.dialects.accumulate import fold
from llamaroute.dialects.workers_ai import bare_format
from llamaroute.providers.cloudflare import SPEC
from llamaroute.types.events import Finished, TextDelta
from llamaroute.types.response import ChatResponse
from llamaroute.types.tools import JsonSchema
from tests.providers.cloudflare.samples import FLAT_CALL, PADDING, SCOUT_CALL, envelope
from tests.providers.wires import USAGE, WEATHER, answer, ask, chunk, completion, sse, target_of

TARGET = target_of(SPEC, {"account_id": "a", "api_key": "k", "api": "native"})


def parse(result: Any, max_tokens: int | None = None) -> ChatResponse[Any]:
    return SPEC.adapter.parse_response(answer(envelope(result)), ask(max_tokens=max_tokens), TARGET)


def stream(*events: Any, max_tokens: int | None = None, done: bool = True) -> ChatResponse[Any]:
    decoder = SPEC.adapter.stream_decoder(ask(max_tokens=max_tokens, tools=(WEATHER,)), TARGET)
    return fold([*decoder.feed(sse(*events, done=done)), *decoder.close()])


@pytest.mark.parametrize(
    ("response", "text"),
    [("a", "a"), ("", ""), (0, "0"), (42, "42"), (1.5, "1.5"), ({"a": 1}, '{"a":1}'), (False, "false")],
    ids=str,
)
def test_response_of_every_type(response: Any, text: str) -> None:
    assert parse({"response": response, "usage": USAGE}).text == text
    assert stream({"response": response}, {"response": "", "usage": USAGE}).text == text


@pytest.mark.parametrize(
    ("max_tokens", "reason"), [(None, "stop"), (64, "stop"), (7, "stop"), (6, "length"), (5, "length")]
)
def test_an_answer_as_long_as_allowed_was_cut_off(max_tokens: int | None, reason: str) -> None:
    plain = parse({"response": "a", "usage": USAGE}, max_tokens)
    streamed = stream({"response": "a"}, {"response": "", "usage": USAGE}, max_tokens=max_tokens)
    assert (plain.finish_reason, streamed.finish_reason) == (reason, reason)
    assert (plain.raw_finish_reason, streamed.raw_finish_reason) == (None, None)  # nobody said it


def test_without_usage_it_is_a_stop() -> None:
    assert parse({"response": "a"}, 1).finish_reason == "stop"
    assert parse({"response": "a"}, 1).usage.estimated is True


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("content_filter", "content_filter"),
        ("error", "unknown"),
    ],
)
def test_a_finish_reason_where_there_is_one(raw: str, reason: str) -> None:
    plain = parse({"response": "a", "finish_reason": raw, "usage": USAGE})
    streamed = stream({"response": "a"}, {"finish_reason": raw}, {"response": "", "usage": USAGE})
    assert (plain.finish_reason, plain.raw_finish_reason) == (reason, raw)
    assert (streamed.finish_reason, streamed.raw_finish_reason) == (reason, raw)


def test_calls_finish_with_tool_calls_and_have_an_id() -> None:
    for call in (SCOUT_CALL, FLAT_CALL):
        for response in (parse({"tool_calls": [call]}), stream({"tool_calls": [call]})):
            assert response.finish_reason == "tool_calls"
            (made,) = response.tool_calls
            assert (made.name, made.arguments) == ("weather", {"city": "Oslo"})
            assert made.id


def test_padding_is_no_text() -> None:
    assert stream({"response": "a", "p": PADDING}, {"response": "b", "p": "k3"}).text == "ab"


def test_the_last_usage_counts_also_where_it_comes_in_pieces() -> None:
    pieces = [{"response": "a", "usage": {"prompt_tokens": 21, "completion_tokens": 1}}] * 3
    usage = stream(*pieces, {"response": "", "usage": USAGE}).usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (21, 6, 27)


def test_hybrid_events_say_their_text_once() -> None:
    both = [{"choices": [{"delta": {"content": t}}], "response": t} for t in ("Oslo", " is", " cloudy.")]
    assert stream(*both, {"choices": [{"delta": {}, "finish_reason": "stop"}]}).text == "Oslo is cloudy."
    native = [{"choices": [{"delta": {"content": ""}}], "response": t} for t in ("Oslo", " is")]
    assert stream(*native, {"choices": [{"delta": {}, "finish_reason": "stop"}]}).text == "Oslo is"


def test_the_hybrid_bug_leaves_an_empty_answer_that_says_what_it_cost() -> None:
    response = stream(
        {"choices": [{"delta": {"content": "", "role": "assistant"}}], "response": "", "tool_calls": []},
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        {"response": "", "usage": {"prompt_tokens": 129, "completion_tokens": 7}},
    )
    assert (response.text, response.tool_calls, response.finish_reason) == ("", (), "stop")
    assert response.usage.output_tokens == 7


@pytest.mark.parametrize("done", [True, False])
def test_a_stream_needs_its_end(done: bool) -> None:
    """The native text stream has no finish reason: only [DONE] tells that it is whole."""
    events = ({"response": "a"}, {"response": "", "usage": USAGE})
    if done:
        assert stream(*events).finish_reason == "stop"
    else:
        with pytest.raises(errors.ProtocolError):
            stream(*events, done=False)


def test_openai_inside_the_envelope() -> None:
    response = parse(completion({"role": "assistant", "content": "a"}, "length"))
    assert (response.id, response.text, response.finish_reason) == ("chatcmpl-5f0c", "a", "length")
    assert response.raw["success"] is True
    assert (
        stream(chunk({"content": "a"}), chunk({}, "length"), {"response": "", "usage": USAGE}).finish_reason == "length"
    )


def test_a_gateway_may_take_the_envelope_off() -> None:
    assert SPEC.adapter.parse_response(answer({"response": "a", "usage": USAGE}), ask(), TARGET).text == "a"
    assert SPEC.adapter.parse_response(answer(completion({"content": "a"}, "stop")), ask(), TARGET).text == "a"


def test_events_come_as_soon_as_their_bytes() -> None:
    decoder = SPEC.adapter.stream_decoder(ask(), TARGET)
    body = sse({"response": "Os"}, done=False)
    assert TextDelta("Os") in list(decoder.feed(body))
    assert list(decoder.feed(b"data: [DONE]\n\n"))[-1] == Finished("stop")
    assert list(decoder.close()) == []


def test_bare_format() -> None:
    schema = {"type": "object"}
    assert bare_format(JsonSchema("name", schema)) == {"type": "json_schema", "json_schema": schema}
