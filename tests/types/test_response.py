"""The response as data: it survives JSON, pickling and copying, and its published schema is the true one."""

from __future__ import annotations

import copy
import datetime
import json
import pickle
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from llamaroute.config.schema import response_schema
from llamaroute.types.parts import Text, ToolCall
from llamaroute.types.response import (
    SCHEMA_VERSION,
    Attempt,
    AttemptError,
    ChatResponse,
    Cost,
    Notice,
    Timing,
    TokenLogprob,
    TopLogprob,
    Usage,
)


class City(BaseModel):
    name: str
    people: int


CALL = ToolCall("c1", "weather", {"city": "Cusco", "days": [1, 2]}, '{"city": "Cusco", "days": [1, 2]}')
BROKEN = ToolCall("c2", "weather", {}, "no json", "not JSON: expected value")
USAGE = Usage(10, 5, 15, cached_tokens=3, raw={"prompt_tokens": 10})
FULL = ChatResponse[Any](
    id="a1",
    text="Hello",
    reasoning="hm",
    parts=(Text("Hello"), CALL, BROKEN),
    tool_calls=(CALL, BROKEN),
    output_mode="native",
    finish_reason="tool_calls",
    raw_finish_reason="tool_calls",
    usage=USAGE,
    cost=Cost(Decimal("0.000123"), estimated=True),
    provider="work",
    provider_kind="azure",
    model="llama-4-scout",
    model_id="prod-scout",
    target="work:llama-4-scout",
    request_id="r1",
    created=datetime.datetime(2026, 11, 23, 12, 0, tzinfo=datetime.UTC),
    timing=Timing(0.1, 0.2, 0.3),
    attempts=(
        Attempt("a:m", 503, AttemptError("OverloadedError", "busy", "3040"), "first_token", 2.0, 0.5),
        Attempt("work:llama-4-scout", 200, seconds=0.3, usage=USAGE, cost=Cost(Decimal("0.000123"))),
    ),
    warnings=(Notice("usage_estimated", "numbers", "usage"),),
    logprobs=(TokenLogprob("Hel", -0.1, (TopLogprob("Hi", -2.0),)), TokenLogprob("lo", -0.2)),
    raw={"choices": [{"message": {"content": "Hello"}}], "n": 1.5, "none": None},
)


@pytest.mark.parametrize("response", [FULL, ChatResponse[Any](), FULL.model_copy(update={"raw": "text"})])
def test_it_survives_json(response: ChatResponse[Any]):
    assert ChatResponse[Any].model_validate_json(response.model_dump_json()) == response
    assert ChatResponse.model_validate_json(response.model_dump_json()).model_dump() == response.model_dump()
    assert ChatResponse[Any].model_validate(response.model_dump()) == response


def test_its_output_comes_back_as_its_own_type():
    response = ChatResponse[City](text="x", output=City(name="Cusco", people=1))
    assert ChatResponse[City].model_validate_json(response.model_dump_json()) == response
    untyped = ChatResponse[Any].model_construct(**{**FULL.__dict__, "output": City(name="Cusco", people=1)})
    again = ChatResponse[City].model_validate_json(untyped.model_dump_json())
    assert again.output == City(name="Cusco", people=1)
    assert again.parts == FULL.parts
    with pytest.raises(ValidationError):
        ChatResponse[City].model_validate_json(response.model_dump_json().replace("Cusco", "x").replace(":1}", ':"y"}'))


def test_money_stays_exact():
    again = ChatResponse[Any].model_validate_json(FULL.model_dump_json())
    assert again.cost is not None
    assert again.cost.usd == Decimal("0.000123")


def test_it_is_frozen():
    with pytest.raises(ValidationError):
        FULL.text = "other"  # type: ignore[misc]


@pytest.mark.parametrize("change", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_it_survives_copies_and_process_borders(change: Any):
    assert change(FULL) == FULL
    plain = ChatResponse[Any].model_construct(text="as an adapter makes it")
    assert change(plain) == plain


def test_what_adapters_make_survives_process_borders():
    """In a process of its own: a generic class that was named at some module's top is found by `pickle`, others not."""
    script = """
def main():
    import pickle
    from llamaroute.dialects.accumulate import fold
    from llamaroute.types.events import TextDelta
    made = fold([TextDelta("Hello")])
    assert pickle.loads(pickle.dumps(made)) == made
    changed = made.model_copy(update={"output": {"a": 1}})
    assert pickle.loads(pickle.dumps(changed)) == changed
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_its_message_goes_on_with_the_conversation():
    message = FULL.message
    assert (message.role, message.parts) == ("assistant", FULL.parts)
    assert message.text == "Hello"
    assert message.tool_calls == (CALL, BROKEN)


texts = st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
calls = st.builds(
    ToolCall,
    id=texts,
    name=texts,
    arguments=st.dictionaries(texts, json_values, max_size=3),
    raw_arguments=texts,
    error=st.none() | texts,
)


@given(
    parts=st.lists(st.builds(Text, texts) | calls, max_size=4),
    raw=json_values,
    tokens=st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)),
    usd=st.none() | st.decimals(0, 1000, places=9),
)
def test_any_answer_survives_json(parts: list[Any], raw: Any, tokens: tuple[int, int], usd: Decimal | None):
    response = ChatResponse[Any](
        text="".join(part.text for part in parts if isinstance(part, Text)),
        parts=tuple(parts),
        tool_calls=tuple(part for part in parts if isinstance(part, ToolCall)),
        usage=Usage(*tokens, sum(tokens)),
        cost=None if usd is None else Cost(usd),
        raw=raw,
    )
    assert ChatResponse[Any].model_validate_json(response.model_dump_json()) == response


# -- the published schema ---------------------------------------------------------------------------------------------

PUBLISHED = Path(__file__).parents[2] / "docs" / "response.schema.json"


def test_the_published_schema_is_the_true_one():
    assert json.loads(PUBLISHED.read_text("utf-8")) == response_schema()


@pytest.mark.parametrize(
    "response",
    [FULL, ChatResponse[Any](), ChatResponse[City](output=City(name="x", people=1))],
    ids=["full", "empty", "output"],
)
def test_what_is_dumped_fits_the_published_schema(response: ChatResponse[Any]):
    schema = json.loads(PUBLISHED.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(response.model_dump_json()), schema)


def test_what_is_no_response_does_not_fit():
    schema = json.loads(PUBLISHED.read_text("utf-8"))
    for change in ({"finish_reason": "done"}, {"usage": 5}, {"attempts": [{}]}, {"tool_calls": [{"id": 1}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**json.loads(FULL.model_dump_json()), **change}, schema)


def test_every_field_is_described():
    for name, field in response_schema()["properties"].items():
        assert field.get("description"), name


def test_the_schemas_version_is_on_every_answer():
    assert json.loads(ChatResponse[Any]().model_dump_json())["schema_version"] == SCHEMA_VERSION == 1
