"""OpenAI-compatible servers: URLs, and what TGI does differently. The body itself: tests/dialects."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from llamaroute.errors import CapabilityError
from llamaroute.providers.openai_compatible import SPEC
from llamaroute.spi import Target
from llamaroute.types.messages import assistant, tool_result, user
from llamaroute.types.parts import ToolCall
from llamaroute.types.request import ChatRequest
from llamaroute.types.tools import JsonSchema
from tests.providers.wires import WEATHER, ask, json_of, target_of

SCHEMA = JsonSchema("city", {"type": "object"})


def target(**settings: Any) -> Target:
    return target_of(SPEC, {"base_url": "http://host:8000/v1", **settings}, "m")


def sent(request: ChatRequest, *, stream: bool = False, **settings: Any) -> dict[str, Any]:
    return json_of(SPEC.adapter.build_request(request, target(**settings), stream=stream))


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://10.0.0.5:8000/v1", "http://10.0.0.5:8000/v1/chat/completions"),
        ("http://10.0.0.5:8000/v1/", "http://10.0.0.5:8000/v1/chat/completions"),
        ("http://10.0.0.5:8000", "http://10.0.0.5:8000/chat/completions"),
        ("https://h/openai/v1?api-version=1", "https://h/openai/v1/chat/completions?api-version=1"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
        ("https://h/v1/chat/completions?a=b", "https://h/v1/chat/completions?a=b"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
        ("https://user:pass@h/v1", "https://user:pass@h/v1/chat/completions"),
    ],
)
def test_url(base: str, url: str) -> None:
    assert SPEC.adapter.build_request(ask(), target(base_url=base), stream=False).url == url


def test_a_base_url_is_needed() -> None:
    with pytest.raises(ValidationError):
        target_of(SPEC, {}, "m")
    with pytest.raises(ValidationError):
        target(dialect="ollama")


def test_no_zero_config_and_no_rows() -> None:
    """Which server, and which model it serves, only its owner knows."""
    assert SPEC.from_env is None
    assert SPEC.default_model is None
    assert target().row.model_id == "m"


def test_tgi_takes_the_schema_under_value() -> None:
    assert sent(ask(output=SCHEMA), dialect="tgi")["response_format"] == {
        "type": "json_object",
        "value": {"type": "object"},
    }


def test_tgi_takes_tools_or_a_schema() -> None:
    with pytest.raises(CapabilityError) as caught:
        sent(ask(output=SCHEMA, tools=(WEATHER,)), dialect="tgi")
    assert list(caught.value.missing) == ["acc:m"]
    assert "response_format" in sent(ask(output=SCHEMA, tools=(WEATHER,)))


def test_tgi_takes_top_p_below_one_only() -> None:
    """1 means off, which is what leaving it out means."""
    assert "top_p" not in sent(ask(top_p=1.0), dialect="tgi")
    assert "top_p" not in sent(ask(top_p=1), dialect="tgi")
    assert sent(ask(top_p=0.99), dialect="tgi")["top_p"] == 0.99
    assert sent(ask(top_p=1.0))["top_p"] == 1.0


def refusal(name: str, value: float) -> str | None:
    """Why a value is not sent to TGI: by the row, or by the adapter."""
    rule = target(dialect="tgi").row.parameters.get(name)
    if rule is not None and (why := rule.refusal(value)) is not None:
        return why
    try:
        sent(ask(**{name: value}), dialect="tgi")
    except CapabilityError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("presence_penalty", [0, 0.5, -2], []),  # p becomes a repetition penalty of p + 2, 0 included
        ("top_k", [1, 40], []),
        ("repetition_penalty", [1.0, 1.2], []),
        ("frequency_penalty", [-2.1, 2.1], [-2, 0, 2]),
        ("seed", [-1], [0, 1]),
        ("max_tokens", [0, -1], [1, 100_000]),
        ("top_p", [0, -0.1, 1.1, 2], [0.01, 0.99, 1]),
        ("temperature", [-0.1], [0, 0.5, 2]),
    ],
)
def test_tgi_ranges(name: str, bad: list[float], good: list[float]) -> None:
    assert [value for value in bad if refusal(name, value) is None] == []
    assert [value for value in good if refusal(name, value) is not None] == []


def test_tgi_takes_four_stop_sequences() -> None:
    rule = target(dialect="tgi").row.parameters["stop"]
    assert rule.refusal(4) is None
    assert rule.refusal(5) is not None
    assert sent(ask(stop=("a",)), dialect="tgi")["stop"] == ["a"]  # never a bare string, which is a 422


def test_tgi_drops_calls_beside_content_so_there_is_none() -> None:
    """Its messages hold content or tool calls; where both are there, content wins, also an empty one."""
    call = ToolCall("c1", "weather", {"city": "Oslo"})
    request = ChatRequest((user("Hi"), assistant(call), tool_result(call, "cloudy")))
    message = sent(request, dialect="tgi")["messages"][1]
    assert "content" not in message
    assert message["tool_calls"][0]["function"]["name"] == "weather"
    assert sent(request)["messages"][1]["content"] == ""


def test_text_beside_calls_that_tgi_cannot_take_is_not_dropped_in_silence() -> None:
    call = ToolCall("c1", "weather", {"city": "Oslo"})
    request = ChatRequest((user("Hi"), assistant("Let me see.", call), tool_result(call, "cloudy")))
    wire = SPEC.adapter.build_request(request, target(dialect="tgi"), stream=False)
    message = json_of(wire)["messages"][1]
    assert "content" not in message
    assert [notice.code for notice in wire.warnings]
    assert SPEC.adapter.build_request(request, target(), stream=False).warnings == ()
