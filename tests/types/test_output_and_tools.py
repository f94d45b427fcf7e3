"""`output=` and `tools=`: Python types -> JSON Schema, and answers -> values."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from llamaroute.errors import InputError, OutputValidationError
from llamaroute.output import output_spec
from llamaroute.tools import as_tool, as_tools
from llamaroute.types.response import ChatResponse
from llamaroute.types.tools import JsonSchema, Tool


class City(BaseModel):
    name: str
    people: int = Field(ge=0)


@dataclass
class Point:
    x: int
    y: int


class Row(TypedDict):
    name: str


class Shape(BaseModel):
    kind: Literal["a"] = "a"
    inner: list[City] = []


@pytest.mark.parametrize(
    ("output", "wrapped", "text", "value"),
    [
        (City, False, '{"name": "x", "people": 1}', City(name="x", people=1)),
        (Point, False, '{"x": 1, "y": 2}', Point(1, 2)),
        (Row, False, '{"name": "x"}', {"name": "x"}),
        (Shape, False, '{"inner": [{"name": "x", "people": 1}]}', Shape(inner=[City(name="x", people=1)])),
        (dict[str, int], False, '{"a": 1}', {"a": 1}),
        (int, True, '{"value": 5}', 5),
        (list[City], True, '{"value": [{"name": "x", "people": 1}]}', [City(name="x", people=1)]),
        (City | Point, True, '{"value": {"x": 1, "y": 2}}', Point(1, 2)),
        (Literal["yes", "no"], True, '{"value": "yes"}', "yes"),
        (int | None, True, '{"value": null}', None),
        (int, True, "5", 5),  # a model that leaves the wrapping out
        (City, False, '```json\n{"name": "x", "people": 1}\n```', City(name="x", people=1)),
        (City, False, '\n```\n{"name": "x", "people": 1}```  ', City(name="x", people=1)),
        ({"type": "object", "title": "My Thing"}, False, '{"a": [1]}', {"a": [1]}),
        (JsonSchema("mine", {"type": "object"}), False, '{"a": 1}', {"a": 1}),
    ],
)
def test_an_answer_as_a_value(output: Any, wrapped: bool, text: str, value: Any):
    spec = output_spec(output)
    assert spec.wrapped is wrapped
    assert spec.schema.schema.get("type", "object") == "object", "hosts want an object at the root"
    assert spec.read(ChatResponse(text=text)) == value
    json.dumps(dict(spec.schema.schema))


@pytest.mark.parametrize(
    ("output", "name"),
    [(City, "City"), (list[City], "list"), ({"title": "My Thing!"}, "My_Thing_"), ({}, "output"), (Row, "Row")],
)
def test_names_are_those_that_hosts_take(output: Any, name: str):
    assert output_spec(output).schema.name == name


def test_definitions_stand_at_the_root_where_references_find_them():
    schema = output_spec(list[City]).schema.schema
    assert schema["properties"]["value"]["items"] == {"$ref": "#/$defs/City"}
    assert "City" in schema["$defs"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("Sure!", "not JSON"),
        ('{"name": "x", ', "not JSON"),
        ("[]", "value"),
        ('{"name": "x"}', "people"),
        ('{"name": "x", "people": -1}', "people"),
        ('{"name": 5, "people": 1}', "name"),
    ],
)
def test_an_answer_that_does_not_fit(text: str, said: str):
    response = ChatResponse[Any](text=text)
    with pytest.raises(OutputValidationError) as caught:
        output_spec(City).read(response)
    assert any(said in line for line in caught.value.errors)
    assert caught.value.reply is response
    assert said in str(caught.value)


def test_an_answer_that_was_cut_off_says_so():
    with pytest.raises(OutputValidationError, match="max_tokens"):
        output_spec(City).read(ChatResponse(text='{"name": "x', finish_reason="length"))


@pytest.mark.parametrize(
    ("output", "text", "value"),
    [
        (City, "", None),
        (City, "{", {}),
        (City, '{"name": "Cus', {"name": "Cus"}),
        (City, "Sure", None),
        (list[int], '{"value": [1, 2', [1, 2]),
        (list[int], '{"val', None),
    ],
)
def test_what_there_is_so_far(output: Any, text: str, value: Any):
    assert output_spec(output).partial(text) == value


@pytest.mark.parametrize("output", [5, object(), Callable[[], int], [City], lambda: None])
def test_what_is_no_type(output: Any):
    with pytest.raises(InputError, match="output="):
        output_spec(output)


# -- tools ------------------------------------------------------------------------------------------------------------


def weather(city: str, days: int = 1) -> str:
    """Weather forecast."""
    return f"{city} {days}"


async def slow(city: str) -> str:
    return city


def none() -> None:
    """Does nothing."""


def test_a_function():
    tool = as_tool(weather)
    assert (tool.name, tool.description, tool.call) == ("weather", "Weather forecast.", weather)
    assert tool.schema["required"] == ["city"]
    assert tool.schema["properties"]["days"]["type"] == "integer"


def test_an_async_function_and_one_without_arguments():
    assert as_tool(slow).schema["required"] == ["city"]
    assert as_tool(none).schema["properties"] == {}
    assert as_tool(none).schema["type"] == "object"


SCHEMA = {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Tool("f", "d", SCHEMA), Tool("f", "d", SCHEMA)),
        (
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}},
            Tool("f", "d", SCHEMA),
        ),
        ({"name": "f", "description": "d", "parameters": SCHEMA}, Tool("f", "d", SCHEMA)),
        ({"function": {"name": "f"}}, Tool("f", "", SCHEMA)),
        ({"function": {"name": "f", "description": None, "parameters": None}}, Tool("f", "", SCHEMA)),
    ],
)
def test_tools_and_dicts(given: Any, expected: Tool):
    assert as_tool(given) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        5,
        "f",
        {},
        {"function": "f"},
        {"function": {"name": 5}},
        {"function": {"name": "f", "parameters": {"type": "array"}}},
        {"function": {"name": "f", "parameters": "x"}},
        {"function": {"name": "f", "parameters": [1]}},
        {"function": {"name": "f" * 65}},
        {"function": {"name": "a b"}},
        {"function": {"name": ""}},
        {"function": {"name": "f\n"}},
        Tool("", "d", SCHEMA),
        Tool("f", "d", {"type": "string"}),
        lambda x: x,
    ],
    ids=lambda wrong: str(wrong)[:30] if not callable(wrong) else "lambda",
)
def test_what_is_no_tool(wrong: Any):
    with pytest.raises(InputError, match="tool"):
        as_tool(wrong)


@pytest.mark.parametrize("choice", ["auto", "none", "required", "weather"])
def test_choices(choice: str):
    assert [tool.name for tool in as_tools([weather, none], choice)] == ["weather", "none"]


@pytest.mark.parametrize(
    ("tools", "choice", "said"),
    [
        ([weather, weather], "auto", "two tools"),
        ([weather], "wether", "tool_choice"),
        ([], "required", "needs tools"),
        ([], "weather", "there are none"),
        (weather, "auto", "list"),
        ({"function": {"name": "f"}}, "auto", "list"),
        (Tool("f", "d", SCHEMA), "auto", "list"),
    ],
)
def test_wrong_choices(tools: Any, choice: str, said: str):
    with pytest.raises(InputError, match=said):
        as_tools(tools, choice)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Cusco"}',
        '```json\n{"name": "Cusco"}\n```',
        'Here it is:\n```\n{"name": "Cusco"}\n```\nAnything else?',
        'The answer is {"name": "Cusco"}.',
        '\n\n  {"name": "Cusco"}\n',
        'Sure!\n\n{"name":\n  "Cusco"}\n\nI hope that helps.',
    ],
)
def test_words_around_the_json_do_no_harm(text: str) -> None:
    """Where a host has no schemas, the model was asked in words, and adds some of its own."""
    spec = output_spec({"type": "object"})
    assert spec.read(ChatResponse(text=text)) == {"name": "Cusco"}


@pytest.mark.parametrize("text", ["", "no", "{", "{broken} and {more}", "```json\n{\n```"])
def test_what_is_no_json_is_none(text: str) -> None:
    with pytest.raises(OutputValidationError, match="not JSON"):
        output_spec({"type": "object"}).read(ChatResponse(text=text))


def test_a_partial_value_behind_words() -> None:
    spec = output_spec({"type": "object"})
    assert spec.partial("Here it is: ") is None
    assert spec.partial('Here it is: {"name": "Cus') == {"name": "Cus"}
