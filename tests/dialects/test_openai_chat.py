"""OpenAI's dialect: chunk -> events, answer -> response, and both alike."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from llamaroute import errors
from llamaroute.dialects.accumulate import fold
from llamaroute.dialects.openai_chat import FINISH_REASONS, finish_reason, text_of, usage_of
from llamaroute.providers.openai_compatible import SPEC
from llamaroute.spi import AnswerMeta, DecoderEvent, RawPayload
from llamaroute.types.events import (
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStarted,
    UsageReported,
)
from llamaroute.types.parts import ToolCall
from llamaroute.types.response import ChatResponse, TokenLogprob, TopLogprob, Usage
from tests.providers.wires import USAGE, WEATHER, answer, ask, call, chunk, completion, sse, target_of

TARGET = target_of(SPEC, {"base_url": "http://host/v1"}, "m")


def decode(*pieces: bytes) -> list[DecoderEvent]:
    """The events that say something; what only goes into `raw` left out."""
    decoder = SPEC.adapter.stream_decoder(ask(), TARGET)
    events = [*itertools.chain.from_iterable(decoder.feed(piece) for piece in pieces), *decoder.close()]
    return [event for event in events if not isinstance(event, AnswerMeta | RawPayload)]


def parse(payload: Any) -> ChatResponse[Any]:
    return SPEC.adapter.parse_response(answer(payload), ask(tools=(WEATHER,)), TARGET)


END = chunk({}, "stop")
STOP = Finished("stop", "stop")


@pytest.mark.parametrize(
    ("chunks", "events"),
    [
        ([], []),
        ([{"role": "assistant"}], []),
        ([{"role": "assistant", "content": None}], []),
        ([{"content": ""}], []),
        ([{"content": "a"}, {"content": " "}, {"content": "0"}], [TextDelta("a"), TextDelta(" "), TextDelta("0")]),
        ([{"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], [TextDelta("ab")]),
        ([{"content": [{"type": "reasoning", "text": "Hm"}]}], [ReasoningDelta("Hm")]),
        (
            [
                {
                    "content": [
                        {"type": "reasoning", "summary": [{"text": "Hm"}, {"data": "x"}, 1]},
                        {"type": "text", "text": "a"},
                    ]
                }
            ],
            [ReasoningDelta("Hm"), TextDelta("a")],
        ),
        ([{"content": [{"type": "reasoning"}]}, {"content": [{"type": "text"}]}, {"content": []}], []),
        ([{"content": {"a": 1}}], [TextDelta('{"a":1}')]),
        ([{"content": 42}], [TextDelta("42")]),
        ([{"content": 0}], [TextDelta("0")]),  # falsy, and still data
        ([{"refusal": "No."}], [TextDelta("No.")]),
        ([{"reasoning_content": "Hm"}], [ReasoningDelta("Hm")]),
        ([{"reasoning": "Hm", "content": "a"}], [TextDelta("a"), ReasoningDelta("Hm")]),
        ([{"reasoning": {"x": 1}}], []),
        ([{"tool_calls": []}, {"tool_calls": None}], []),
        ([{"unknown": 1, "annotations": [], "audio": None, "function_call": None}], []),
    ],
    ids=str,
)
def test_deltas(chunks: list[dict[str, Any]], events: list[DecoderEvent]) -> None:
    assert decode(sse(*map(chunk, chunks), END)) == [*events, STOP]


DONE = ToolCall("c", "weather", {"city": "Oslo"}, '{"city":"Oslo"}')


@pytest.mark.parametrize(
    "deltas",
    [
        [call(0, "c", "weather", '{"city":"Oslo"}')],
        [call(0, "c", "weather", ""), call(0, None, None, '{"city":'), call(0, None, None, '"Oslo"}')],
        [call(0, "c", "weather", None), call(0, "c", None, '{"city":"Oslo"}')],
        [{**call(0, "c", "weather", '{"city":"Oslo"}'), "index": None}],
        [{"id": "c", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}],
        [{"id": "c", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}],
        [{"id": "c", "function": {"name": "weather", "parameters": {"city": "Oslo"}}}],
        [{"id": "c", "name": "weather", "arguments": {"city": "Oslo"}}],
        [
            call(0, "c", "weather", '{"city":"Oslo"}'),
            {"index": 0, "id": None, "function": {"name": None, "arguments": ""}},
        ],
    ],
    ids=str,
)
def test_tool_calls_of_every_form(deltas: list[dict[str, Any]]) -> None:
    events = decode(sse(*(chunk({"tool_calls": [delta]}) for delta in deltas), chunk({}, "tool_calls")))
    assert [event for event in events if not isinstance(event, ToolCallDelta)] == [
        ToolCallStarted(0, "c", "weather"),
        ToolCallDone(0, DONE),
        Finished("tool_calls", "tool_calls"),
    ]
    assert "".join(event.arguments for event in events if isinstance(event, ToolCallDelta)) == DONE.raw_arguments


def test_a_call_that_is_no_list() -> None:
    """TGI 2 sends one call bare."""
    events = decode(sse(chunk({"tool_calls": call(0, "c", "weather", '{"city":"Oslo"}')}), END))
    assert ToolCallDone(0, DONE) in events
    message = {"role": "assistant", "tool_calls": call(0, "c", "weather", '{"city":"Oslo"}')}
    assert parse(completion(message, "stop")).tool_calls == (DONE,)


def test_the_old_function_call() -> None:
    function = {"name": "weather", "arguments": '{"city":"Oslo"}'}
    response = parse(completion({"role": "assistant", "content": None, "function_call": function}, "function_call"))
    assert [(c.name, c.arguments) for c in response.tool_calls] == [("weather", {"city": "Oslo"})]
    assert response.finish_reason == "tool_calls"
    both = {"function_call": function, "tool_calls": [call(0, "c", "weather", '{"city":"Oslo"}')]}
    assert parse(completion(both, "tool_calls")).tool_calls == (DONE,)  # the same call, said twice
    events = decode(
        sse(
            chunk({"function_call": {"name": "weather", "arguments": '{"city":'}}),
            chunk({"function_call": {"arguments": '"Oslo"}'}}),
            chunk({}, "function_call"),
        )
    )
    assert ToolCallDone(0, ToolCall("call_0", "weather", {"city": "Oslo"}, '{"city":"Oslo"}')) in events


def test_whole_calls_that_all_have_index_0() -> None:
    calls = [call(0, "a", "weather", "{}"), call(0, "b", "weather", "{}")]
    assert [c.id for c in parse(completion({"tool_calls": calls}, "tool_calls")).tool_calls] == ["a", "b"]
    events = decode(sse(*(chunk({"tool_calls": [one]}) for one in calls), END))
    assert [event.call.id for event in events if isinstance(event, ToolCallDone)] == ["a", "b"]


def test_only_the_first_of_several_choices_counts() -> None:
    """`n` in `extra`: a plain answer gives the first choice, so must a stream."""
    events = decode(
        sse(
            chunk({"content": "a"}),
            chunk({"content": "x"}, choice={"index": 1}),
            chunk({"content": "b"}),
            chunk({}, "length", choice={"index": 1}),
            chunk({}, "stop"),
        )
    )
    assert events == [TextDelta("a"), TextDelta("b"), STOP]


@pytest.mark.parametrize(
    "first",
    [
        'event: ping\ndata: {"type": "ping"}',
        'data: {"id":"","choices":[],"prompt_filter_results":[]}',  # Azure begins so
        "data: null",
        "data:",
        ": comment",
    ],
)
def test_the_id_is_that_of_the_first_chunk_that_has_one(first: str) -> None:
    decoder = SPEC.adapter.stream_decoder(ask(), TARGET)
    response = fold([*decoder.feed(sse(first, chunk({"content": "a"}), END)), *decoder.close()])
    assert (response.id, response.text) == ("chatcmpl-5f0c", "a")
    assert response.created is not None


@pytest.mark.parametrize(
    ("events", "usage"),
    [
        ([chunk({}, "stop", usage=USAGE)], (21, 6, 27)),
        ([END, chunk(usage=USAGE)], (21, 6, 27)),
        (
            [chunk({"content": ""}, usage={"prompt_tokens": 21, "completion_tokens": 1}), END, chunk(usage=USAGE)],
            (21, 6, 27),
        ),
        ([END, {"x_groq": {"id": "r", "usage": USAGE}, "choices": []}], (21, 6, 27)),  # Groq
        ([END, {"response": "", "usage": USAGE}], (21, 6, 27)),  # a stray event of Cloudflare's native form
        ([END, chunk(usage=None)], None),
        ([END, chunk(usage={})], None),
        ([END, chunk(usage=dict.fromkeys(USAGE))], None),  # Cloudflare: an object of nulls says nothing
    ],
)
def test_usage(events: list[dict[str, Any]], usage: tuple[int, int, int] | None) -> None:
    reported = [event.usage for event in decode(sse(*events)) if isinstance(event, UsageReported)]
    assert [(u.input_tokens, u.output_tokens, u.total_tokens) for u in reported] == ([usage] if usage else [])


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({}, (0, 0, 0, None)),
        ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 9}, (1, 2, 9, None)),
        ({"prompt_tokens": 1, "completion_tokens": 2}, (1, 2, 3, None)),
        ({"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}, (0, 0, 0, None)),
        ({"prompt_tokens": 1.0, "completion_tokens": -1, "total_tokens": "x"}, (1, 0, 1, None)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 3}}, (5, 0, 5, 3)),
        ({"prompt_tokens": 5, "prompt_tokens_details": None, "cached_tokens": 2}, (5, 0, 5, 2)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": None}}, (5, 0, 5, None)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0}}, (5, 0, 5, 0)),
    ],
)
def test_usage_of(raw: dict[str, Any], usage: tuple[int, int, int, int | None]) -> None:
    found = usage_of(raw)
    assert (found.input_tokens, found.output_tokens, found.total_tokens, found.cached_tokens) == usage
    assert (found.raw, found.estimated) == (raw, False)


@pytest.mark.parametrize(
    ("raw", "called", "reason"),
    [
        *((raw, False, reason) for raw, reason in FINISH_REASONS.items()),
        ("stop", True, "tool_calls"),
        ("stop_sequence", True, "tool_calls"),
        ("eos_token", True, "tool_calls"),
        (None, True, "tool_calls"),
        ("length", True, "length"),  # the call may be cut off
        ("content_filter", True, "content_filter"),
        (None, False, "unknown"),
        ("", False, "unknown"),
        ("other", False, "unknown"),
        ("error", False, "unknown"),
    ],
)
def test_finish_reason(raw: str | None, called: bool, reason: str) -> None:
    assert finish_reason(raw, called) == reason


def test_the_finish_reasons_that_hosts_were_seen_to_send() -> None:
    seen = {
        "stop",
        "length",
        "model_length",
        "tool_calls",
        "content_filter",
        "stop_sequence",
        "eos_token",
        "function_call",
    }
    assert seen <= FINISH_REASONS.keys()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a", "a"),
        ("", ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "text", "text": None}], ""),
        ([{"type": "image_url"}, {"type": "text", "text": "b"}], "b"),
        ([1, 2], "[1,2]"),
        ([{"a": 1}], '[{"a":1}]'),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (0, "0"),
        (1.5, "1.5"),
        (True, "true"),
        ("gr\u00fc\u00df", "gr\u00fc\u00df"),
        ({"a": "gr\u00fc\u00df"}, '{"a":"gr\u00fc\u00df"}'),
    ],
    ids=str,
)
def test_text_of(content: Any, text: str) -> None:
    assert text_of(content) == text


ENTRY = {
    "token": "Os",
    "logprob": -0.25,
    "top_logprobs": [{"token": "Os", "logprob": -0.25}, {"token": "B", "logprob": -1}],
}
OS = TokenLogprob("Os", -0.25, (TopLogprob("Os", -0.25), TopLogprob("B", -1.0)))


@pytest.mark.parametrize(
    ("logprobs", "items"),
    [
        (None, None),
        ({}, None),
        ({"content": None, "refusal": None}, None),
        ({"content": []}, None),
        ({"content": [ENTRY]}, (OS,)),
        ({"content": [{"token": "a", "logprob": -9999.0, "top_logprobs": None}]}, (TokenLogprob("a", -9999.0),)),
        ({"content": [{"token": "a", "logprob": 0}]}, (TokenLogprob("a", 0.0),)),
        ({"content": [{"token": "a", "logprob": None}, ENTRY]}, (OS,)),  # what has no number is left out
        # the older form with parallel lists (llama-cpp-python, completions servers)
        (
            {"tokens": ["Os", "lo"], "token_logprobs": [-0.25, -0.5], "top_logprobs": [{"Os": -0.25, "B": -1}, None]},
            (OS, TokenLogprob("lo", -0.5)),
        ),
        ({"tokens": ["a"], "token_logprobs": [-0.5], "text_offset": [0]}, (TokenLogprob("a", -0.5),)),
        ({"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": None}, (TokenLogprob("a", -0.5),)),
    ],
    ids=str,
)
def test_logprobs_of_both_forms(logprobs: Any, items: tuple[TokenLogprob, ...] | None) -> None:
    message = {"role": "assistant", "content": "Oslo"}
    assert parse(completion(message, "stop", choice={"logprobs": logprobs})).logprobs == items
    decoder = SPEC.adapter.stream_decoder(ask(), TARGET)
    body = sse(chunk({"content": "Oslo"}, choice={"logprobs": logprobs}), END)
    assert fold([*decoder.feed(body), *decoder.close()]).logprobs == items


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": "a"}, "a", ""),
        ({"content": None}, "", ""),
        ({}, "", ""),
        ({"content": {"a": 1}}, '{"a":1}', ""),
        ({"content": 0}, "0", ""),
        ({"content": None, "refusal": "No."}, "No.", ""),
        ({"content": "a", "reasoning": "b"}, "a", "b"),
        ({"content": "a", "reasoning_content": "b"}, "a", "b"),
        ({"content": [{"type": "reasoning", "text": "b"}, {"type": "text", "text": "a"}]}, "a", "b"),
        ({"content": [{"type": "reasoning"}]}, "", ""),
    ],
    ids=str,
)
def test_messages(message: dict[str, Any], text: str, reasoning: str) -> None:
    response = parse(completion({"role": "assistant", **message}, "stop"))
    assert (response.text, response.reasoning, response.finish_reason) == (text, reasoning, "stop")
    assert response.usage.total_tokens == 27


def test_no_choice_at_all_is_told() -> None:
    response = parse({**completion({}, None), "choices": []})
    assert (response.text, response.finish_reason) == ("", "unknown")
    assert [notice.code for notice in response.warnings] == ["empty_answer"]


@pytest.mark.parametrize(
    "payload",
    [
        [],
        "text",
        17,
        None,
        {},
        {"id": "x"},
        {"choices": None},
        {"choices": {}},
        {"response": "x"},
        b"",
        b"Hello",
        b"<html>",
    ],
    ids=str,
)
def test_what_is_no_answer(payload: Any) -> None:
    with pytest.raises(errors.ProtocolError):
        parse(payload)


# -- the end of streams ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tail",
    [
        b"data: [DONE]\n\n",
        b"data: [DONE]\n",
        b"data: [DONE]",
        b"data:[DONE]\r\n\r\n",
        b"data: [DONE] \n\n",  # OpenAI's own reader looks at the beginning alone
        b"data: [DONE]\n\ndata: {not json}\n\n",  # what comes after the end is none of the answer
        b'data: [DONE]\n\ndata: {"error": "late"}\n\n',
        b"",  # a finish reason was said: whole
        b": bye\n\n",
    ],
)
def test_a_stream_that_ends_well(tail: bytes) -> None:
    body = sse(chunk({"content": "a"}), END, done=False) + tail
    assert decode(body) == [TextDelta("a"), STOP]
    assert decode(*(body[i : i + 1] for i in range(len(body)))) == [TextDelta("a"), STOP]


def test_done_without_a_finish_reason_is_an_end() -> None:
    assert decode(sse(chunk({"content": "a"}))) == [TextDelta("a"), Finished("unknown", None)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b": keep-alive\n\n",
        sse(chunk({"content": "a"}), done=False),
        sse(chunk({"content": "a"}), chunk(usage=USAGE), done=False),
        sse(chunk({"content": "a"}), END, done=False) + b'data: {"choices": [',
        sse(chunk({"content": "a"}), END, done=False) + b"data: [DO",
        sse(chunk({"content": "a"}), "data: Hello"),
        sse(chunk({"content": "a"}), "event: error\ndata: Hello"),
    ],
)
def test_a_stream_that_was_cut_is_told(body: bytes) -> None:
    with pytest.raises(errors.ProviderError):
        decode(body)


def test_a_cut_stream_may_be_asked_for_again() -> None:
    with pytest.raises(errors.ProtocolError) as caught:
        decode(sse(chunk({"content": "a"}), done=False))
    assert caught.value.retryable is True


@pytest.mark.parametrize(
    ("event", "cls"),
    [
        ({"error": "busy"}, errors.ServerError),
        ({"error": {"message": "m", "type": "server_error", "code": None}}, errors.ServerError),
        ({"error": {"message": "m", "code": 400}}, errors.InvalidRequestError),
        ({"error": {"message": "m", "code": "503"}}, errors.OverloadedError),
        ({"error": {"message": "m", "code": "\u00b2"}}, errors.ServerError),
        ({"error": {"message": "m", "type": "invalid_request_error"}}, errors.InvalidRequestError),
        ({"error": {"message": "m", "type": "BadRequestError"}}, errors.InvalidRequestError),
        ({"error": {"message": "m", "code": "context_length_exceeded"}}, errors.ContextLengthError),
        ({"object": "error", "message": "m", "type": "x", "code": 404}, errors.NotFoundError),
        ('event: error\ndata: {"message": "m"}', errors.ServerError),
        ('event: error\ndata: {"error": {"message": "m", "code": 429}}', errors.RateLimitError),
        ('event: error\ndata: "m"', errors.ServerError),
        ({**chunk({"content": "b"}), "error": {"message": "m", "code": 500}}, errors.ServerError),
    ],
    ids=str,
)
def test_errors_in_the_stream(event: Any, cls: type[errors.ProviderError]) -> None:
    """A host answers 200 and then fails: what came before is given out, then it raises."""
    decoder = SPEC.adapter.stream_decoder(ask(), TARGET)
    feed = iter(decoder.feed(sse(chunk({"content": "a"}), event, END)))
    assert next(feed) == TextDelta("a")
    with pytest.raises(errors.ProviderError) as caught:
        list(feed)
    assert type(caught.value) is cls
    assert caught.value.target == "acc:m"


def test_the_plain_answer_with_an_error_in_it() -> None:
    with pytest.raises(errors.RateLimitError):
        parse({"error": {"message": "m", "code": 429}})
    with pytest.raises(errors.OverloadedError):
        parse({"id": "x", "choices": [], "error": {"message": "m", "code": "503"}})
    assert parse({**completion({"content": "a"}, "stop"), "error": None}).text == "a"


def test_raw_of_a_stream_is_what_said_more_than_text() -> None:
    decoder = SPEC.adapter.stream_decoder(ask(), TARGET)
    first, last = chunk({"role": "assistant", "content": "a"}, system_fingerprint="f"), chunk(usage=USAGE)
    middle, ping = chunk({"content": "b"}), chunk({"content": "c"})
    response = fold([*decoder.feed(sse(first, middle, ping, END, last)), *decoder.close()])
    assert response.raw == [first, END, last]
    assert response.usage == Usage(21, 6, 27, raw=USAGE)
