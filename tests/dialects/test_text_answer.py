"""OpenAI's dialect: the short way to a response of one text gives what the long way gives, or nothing."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from llamaroute.dialects.accumulate import fold
from llamaroute.dialects.openai_chat import answer_events, text_answer
from llamaroute.types.response import ChatResponse, response_of
from llamaroute.types.tools import canonical_json

_LEFT_OUT: Any = object()
_MESSAGES: tuple[dict[str, Any], ...] = (
    {"content": "Yes."},
    {"content": "Yes.", "refusal": "No.", "reasoning": "", "tool_calls": [], "function_call": None},
    {"content": "Yes.", "tool_calls": None, "reasoning_content": None},
)
_MORE: tuple[dict[str, Any], ...] = (
    {},
    {"content": ""},
    {"content": None},
    {"content": 7},
    {"content": [{"type": "text", "text": "Yes."}]},
    {"content": None, "refusal": "No."},
    {"content": "Yes.", "reasoning": "Hm."},
    {"content": "Yes.", "reasoning_content": "Hm."},
    {"content": "Yes.", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
    {"content": "Yes.", "function_call": {"name": "f", "arguments": "{}"}},
)
_USAGES: tuple[Any, ...] = (
    _LEFT_OUT,
    None,
    {},
    {"prompt_tokens": None},
    {"prompt_tokens": 3, "completion_tokens": 4},
    {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 9, "prompt_tokens_details": {"cached_tokens": 2}},
)
_HEADS: tuple[dict[str, Any], ...] = (
    {},
    {"id": "a", "created": 1767225600},
    {"id": 5, "created": 1e14},
    {"id": None, "created": "today"},
    {"created": -1, "x_groq": {"usage": {"prompt_tokens": 1}}},
)


def _payload(head: dict[str, Any], message: Any, finish: Any, usage: Any, **choice: Any) -> dict[str, Any]:
    payload = {**head, "choices": [{"index": 0, "message": message, **choice}]}
    if finish is not _LEFT_OUT:
        payload["choices"][0]["finish_reason"] = finish
    if usage is not _LEFT_OUT:
        payload["usage"] = usage
    return payload


def _told(response: ChatResponse[Any]) -> tuple[Any, ...]:
    return response, response.model_fields_set, response.model_dump_json()


@pytest.mark.parametrize("message", _MESSAGES, ids=canonical_json)
def test_a_text_is_read_as_by_its_events(message: dict[str, Any]):
    for head, finish, usage in itertools.product(_HEADS, (_LEFT_OUT, None, 7, "", "stop", "eos", "odd"), _USAGES):
        payload = _payload(head, message, finish, usage, logprobs=None)
        short = text_answer(payload)
        assert short is not None
        assert _told(short) == _told(fold(answer_events(payload), raw=payload))


@pytest.mark.parametrize("message", _MORE, ids=canonical_json)
def test_what_is_more_than_a_text_goes_the_long_way(message: dict[str, Any]):
    assert text_answer(_payload({}, message, "stop", None)) is None


@pytest.mark.parametrize(
    "beside",
    [
        {"logprobs": {"content": [{"token": "Yes", "logprob": -0.1}]}},
        {"content_filter_results": {"hate": {"filtered": True}}},
        {"message": None, "delta": {"content": "Yes."}},
        {"message": "Yes."},
        {"index": 1},
    ],
    ids=canonical_json,
)
def test_a_choice_that_says_more_goes_the_long_way(beside: dict[str, Any]):
    assert text_answer({"choices": [{"index": 0, "message": {"content": "Yes."}, **beside}]}) is None


@pytest.mark.parametrize("payload", [{"choices": []}, {"choices": [7]}, {"prompt_filter_results": []}])
def test_a_payload_that_says_more_goes_the_long_way(payload: dict[str, Any]):
    whole = {"choices": [{"message": {"content": "Yes."}}], **payload}
    assert text_answer(whole) is None


def test_a_made_response_has_the_defaults_of_one_that_was_checked():
    made, checked = response_of(text="Yes."), ChatResponse[Any](text="Yes.")
    assert made.model_dump() == checked.model_dump()
    assert made.model_fields_set == {"text"}
    assert made.model_copy() == made
