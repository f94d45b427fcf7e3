"""Arguments against schemas: what is put right, what is complained about, and that no more than that happens."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import llamaroute as lr
from llamaroute.parity.tool_arguments import check_call, coerce, complaint, repair_messages, sendable
from llamaroute.types.parts import ToolCall

INT, NUM, STR, BOOL = ({"type": kind} for kind in ("integer", "number", "string", "boolean"))
INTS = {"type": "array", "items": INT}
POINT = {"type": "object", "properties": {"x": INT, "y": INT}, "required": ["x"], "additionalProperties": False}
MAYBE = {"anyOf": [INT, {"type": "null"}]}


def one(value: Any, schema: Any, *, required: bool = True) -> tuple[Any, tuple[str, ...]]:
    """One argument, called v."""
    root = {"type": "object", "properties": {"v": schema}, "required": ["v"] if required else []}
    arguments, errors = coerce({"v": value}, root)
    return arguments.get("v", "left out"), errors


@pytest.mark.parametrize(
    ("value", "schema", "made"),
    [
        # what fits stays
        (3, INT, 3),
        ("3", STR, "3"),
        ("true", STR, "true"),
        ("[1]", STR, "[1]"),
        (None, {}, None),
        ("anything", True, "anything"),
        ("3", {"anyOf": [INT, STR]}, "3"),
        ("3", {"type": ["integer", "string"]}, "3"),
        ("null", {"anyOf": [STR, {"type": "null"}]}, "null"),
        # numbers as text (Llama 3.x on Bedrock)
        ("3", INT, 3),
        (" -3 ", INT, -3),
        ("3.0", INT, 3),
        (3.0, INT, 3),
        ("3", NUM, 3),
        ("3.5", NUM, 3.5),
        ("1e3", NUM, 1000.0),
        (".5", NUM, 0.5),
        # texts as numbers: a postcode, a version
        (94103, STR, "94103"),
        (1.5, STR, "1.5"),
        (True, STR, "true"),
        # truth
        ("true", BOOL, True),
        ("False", BOOL, False),
        (1, BOOL, True),
        (0, BOOL, False),
        # lists and objects as text
        ("[1, 2]", INTS, [1, 2]),
        ('["1", 2]', INTS, [1, 2]),
        ("['a', 'b']", {"type": "array", "items": STR}, ["a", "b"]),
        ("(1, 2)", STR, "(1, 2)"),
        ('{"x": "1"}', POINT, {"x": 1}),
        ("{'x': 1, 'y': None}", POINT, {"x": 1}),
        (["1", "2"], INTS, [1, 2]),
        ('[{"x": "5"}]', {"type": "array", "items": POINT}, [{"x": 5}]),
        # null as text
        ("None", MAYBE, None),
        ("null", MAYBE, None),
        ("7", MAYBE, 7),
        # one of several
        ("CELSIUS", {"enum": ["celsius", "kelvin"]}, "celsius"),
        (" celsius", {"type": "string", "enum": ["celsius", "kelvin"]}, "celsius"),
        ("2", {"type": "integer", "enum": [1, 2]}, 2),
        ("1", {"const": 1}, 1),
        ('{"x": 1}', {"anyOf": [INT, POINT]}, {"x": 1}),
        ({"x": "1"}, {"oneOf": [INTS, POINT]}, {"x": 1}),
        ("4", {"allOf": [INT, {"minimum": 3}]}, 4),
        ("4", {"type": "integer", "nullable": True}, 4),
        (None, {"type": "integer", "nullable": True}, None),
        # places
        (["1", "a"], {"type": "array", "prefixItems": [INT, STR]}, [1, "a"]),
        ({"a": "1"}, {"type": "object", "additionalProperties": INT}, {"a": 1}),
        ({"n1": "1"}, {"type": "object", "patternProperties": {"^n": INT}, "additionalProperties": False}, {"n1": 1}),
    ],
    ids=str,
)
def test_what_is_put_right(value: Any, schema: Any, made: Any):
    before = copy.deepcopy((value, schema))
    got, errors = one(value, schema)
    assert errors == ()
    assert got == made
    assert type(got) is type(made)
    assert (value, schema) == before, "the caller's own values are not touched"


@pytest.mark.parametrize("value", [None, "", "null", "None"])
def test_an_argument_that_may_be_left_out_is(value: Any):
    assert one(value, INT, required=False) == ("left out", ())
    assert one(value, INT)[1] != ()
    kept = one(value, {"anyOf": [INT, {"type": "null"}]}, required=False)
    assert kept in ((None, ()), ("left out", ()))


def test_an_empty_text_is_a_text():
    assert one("", STR, required=False) == ("", ())


@pytest.mark.parametrize(
    ("value", "schema", "said"),
    [
        ("soon", INT, 'v: must be a whole number, not "soon"'),
        ("3.5", INT, 'v: must be a whole number, not "3.5"'),
        (3.5, INT, "v: must be a whole number, not 3.5"),
        (True, INT, "v: must be a whole number, not true"),
        ("1,000", INT, 'v: must be a whole number, not "1,000"'),
        ("nan", NUM, 'v: must be a number, not "nan"'),
        ("1" * 999, INT, f'v: must be a whole number, not "{"1" * 59}...'),
        ("yes", BOOL, 'v: must be true or false, not "yes"'),
        (2, BOOL, "v: must be true or false, not 2"),
        (None, STR, "v: must be text, not null"),
        (["a"], STR, 'v: must be text, not ["a"]'),
        ({"type": "string", "value": "x"}, STR, 'v: must be text, not {"type":"string","value":"x"}'),
        ("a", INTS, 'v: must be a list, not "a"'),
        ("[1, 2", INTS, 'v: must be a list, not "[1, 2"'),
        ("[f(1)]", INTS, 'v: must be a list, not "[f(1)]"'),
        (["1", "x"], INTS, 'v[1]: must be a whole number, not "x"'),
        ({"y": 1}, POINT, "v.x: is missing"),
        ({"x": 1, "yy": 2}, POINT, "v.yy: is not known; did you mean 'y'?"),
        ({"x": 1, "colour": 2}, POINT, "v.colour: is not known"),
        ("k", {"enum": ["c", "f"]}, 'v: must be one of "c", "f", not "k"'),
        (True, {"enum": [1, 0]}, "v: must be one of 1, 0, not true"),
        (2, {"const": 1}, "v: must be 1, not 2"),
        (0, {"type": "integer", "minimum": 1}, "v: must be at least 1, not 0"),
        ("10", {"type": "integer", "maximum": 9}, "v: must be at most 9, not 10"),
        (1, {"type": "integer", "exclusiveMinimum": 1}, "v: must be above 1, not 1"),
        (1, {"type": "integer", "exclusiveMaximum": 1}, "v: must be below 1, not 1"),
        (5, {"type": "integer", "multipleOf": 2}, "v: must be a multiple of 2, not 5"),
        ("a", {"type": "string", "minLength": 2}, "v: must have at least 2 characters, not 1"),
        ("abc", {"type": "string", "maxLength": 2}, "v: must have at most 2 characters, not 3"),
        ("abc", {"type": "string", "pattern": "^[0-9]+$"}, 'v: must match ^[0-9]+$, not "abc"'),
        ([], {"type": "array", "minItems": 1}, "v: must have at least 1 items, not 0"),
        ([1, 2], {"type": "array", "maxItems": 1}, "v: must have at most 1 items, not 2"),
        ([1, "1"], {"type": "array", "items": INT, "uniqueItems": True}, "v: must not hold the same item twice"),
        ("x", {"anyOf": [INT, BOOL]}, 'v: must be a whole number or true or false, not "x"'),
        ({"x": "a"}, {"anyOf": [INT, POINT]}, 'v.x: must be a whole number, not "a"'),
        (1, False, "v: must be left out"),
    ],
    ids=str,
)
def test_what_is_complained_about(value: Any, schema: Any, said: str):
    _, errors = one(value, schema)
    assert errors == (said,)


def test_references():
    tree = {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/a~1b~0"}},
        "$defs": {
            "a/b~": {
                "type": "object",
                "properties": {"v": INT, "kids": {"type": "array", "items": {"$ref": "#/$defs/a~1b~0"}}},
                "required": ["v"],
            },
            "loop": {"$ref": "#/$defs/loop"},
        },
    }
    given = {"root": {"v": "1", "kids": [{"v": "2", "kids": []}, {"v": "x"}]}}
    arguments, errors = coerce(given, tree)
    assert arguments == {"root": {"v": 1, "kids": [{"v": 2, "kids": []}, {"v": "x"}]}}
    assert errors == ('root.kids[1].v: must be a whole number, not "x"',)
    assert coerce({"a": 1}, {"$ref": "#/$defs/loop", "$defs": tree["$defs"]})[1][0] == "nested too deeply"
    assert coerce({"a": 1}, {"properties": {"a": {"$ref": "https://h.example/s.json"}}}) == ({"a": 1}, ())
    assert coerce({"a": 1}, {"properties": {"a": {"$ref": "#/nowhere"}}}) == ({"a": 1}, ())


def test_deep_values_end():
    deep: Any = 1
    for _ in range(3000):
        deep = [deep]
    schema = {
        "$defs": {"l": {"type": "array", "items": {"$ref": "#/$defs/l"}}},
        "properties": {"v": {"$ref": "#/$defs/l"}},
    }
    assert "nested too deeply" in coerce({"v": deep}, schema)[1][0]
    assert one("[" * 5000, INTS)[1] != ()


def test_a_pattern_of_javascripts_that_python_does_not_know():
    assert one("x", {"type": "string", "pattern": r"^\p{L}+$"}) == ("x", ())


# -- against another implementation of JSON Schema --------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9, width=16) | st.sampled_from(
    ["", "3", "-1.5", "true", "None", "null", "[1]", '{"x": 1}', "['a']", "x", "ab"]
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)
)
leaves = st.one_of(
    st.just({}),
    st.builds(lambda kind: {"type": kind}, st.sampled_from(["string", "integer", "number", "boolean", "null"])),
    st.builds(lambda low: {"type": "integer", "minimum": low}, st.integers(-3, 3)),
    st.builds(lambda most: {"type": "string", "maxLength": most}, st.integers(0, 3)),
    st.builds(lambda members: {"enum": members}, st.lists(scalars, min_size=1, max_size=3)),
    st.builds(lambda kinds: {"type": kinds}, st.just(["integer", "null"]) | st.just(["string", "boolean"])),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items, "maxItems": 2}, inner),
        st.builds(
            lambda properties, extra, needed: {
                "type": "object",
                "properties": properties,
                "additionalProperties": extra,
                "required": needed,
            },
            st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
            st.booleans(),
            st.lists(st.sampled_from("xy"), max_size=1),
        ),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)


@given(schemas, values)
def test_what_fits_is_left_alone_and_what_is_made_fits(schema: Any, value: Any):
    root = {"type": "object", "properties": {"v": schema}, "required": ["v"]}
    validator = jsonschema.Draft202012Validator(root)
    arguments, errors = coerce({"v": value}, root)
    if validator.is_valid({"v": value}):
        assert errors == ()
        assert arguments == {"v": value}
    if not errors:
        assert validator.is_valid(arguments), list(validator.iter_errors(arguments))
        assert coerce(arguments, root) == (arguments, ())


# -- calls ------------------------------------------------------------------------------------------------------------

WEATHER = lr.Tool(
    "weather",
    "The weather.",
    {"type": "object", "properties": {"city": STR, "days": INT}, "required": ["city"], "additionalProperties": False},
)


def call(arguments: dict[str, Any], name: str = "weather", **more: Any) -> ToolCall:
    return ToolCall("c1", name, arguments, **more)


def test_a_call_is_checked():
    checked = check_call(call({"city": "Cusco", "days": "3"}, raw_arguments='{"days": "3"}'), [WEATHER])
    assert (checked.arguments, checked.error) == ({"city": "Cusco", "days": 3}, None)
    assert checked.raw_arguments == '{"days": "3"}', "what the model wrote stays on record"
    wrong = check_call(call({"days": "x", "town": 1}), [WEATHER])
    assert wrong.error == 'days: must be a whole number, not "x"; town: is not known; city: is missing'
    assert wrong.arguments == {"days": "x", "town": 1}


def test_a_call_of_no_tool_and_one_that_is_no_json():
    assert check_call(call({}, "wether"), [WEATHER]).error == "there is no tool 'wether'; the tools are: weather"
    broken = call({}, raw_arguments='{"city": "Cu', error="not JSON: ...")
    assert check_call(broken, [WEATHER]) == broken
    assert 'You wrote: {"city": "Cu.' in complaint(broken)


def test_half_an_emoji():
    checked = check_call(call({"city": "Li\ud83d", "days": "\ud83d"}), [WEATHER])
    assert checked.error == 'days: must be a whole number, not "?"'
    complaint(replace(checked, name="\ud83d")).encode()


def test_what_may_stand_in_a_conversation():
    """vLLM and llama.cpp read the arguments of earlier turns, and answer 400 or 500 to what is no JSON."""
    whole = call({"city": "x"}, raw_arguments='{"city": "x"}')
    assert sendable(whole) is whole
    assert sendable(call({}, raw_arguments='{"city": "Cu', error="not JSON")).raw_arguments == ""
    assert sendable(call({}, raw_arguments="[1]", error="not a JSON object")).raw_arguments == ""


def test_the_turns_of_a_repair():
    good = ToolCall("c1", "weather", {"city": "Cusco"}, '{"city": "Cusco"}')
    bad = ToolCall("c2", "weather", {}, '{"city"', "not JSON: cut")
    response = lr.ChatResponse(text="Let me see.", parts=(lr.Text("Let me see."), good, bad), tool_calls=(good, bad))
    turn, first, second = repair_messages(response, [check_call(c, [WEATHER]) for c in response.tool_calls])
    assert (turn.role, turn.text) == ("assistant", "Let me see.")
    assert [c.raw_arguments for c in turn.tool_calls] == ['{"city": "Cusco"}', ""]
    assert (first.role, first.tool_call_id, first.name) == ("tool", "c1", "weather")
    assert "another call of this turn was wrong" in first.text
    assert second.tool_call_id == "c2"
    assert "not JSON: cut" in second.text
