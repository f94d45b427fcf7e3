"""The grammar of written calls: values against Python's own reader and JSON's, calls one by one."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaroute.parity.tool_syntax import MAX_DEPTH, NotACallError, Reader, Steps, Written, resolve
from llamaroute.types.tools import Tool

TOOLS = {
    "f": Tool("f", "", {"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}}),
    "g": Tool("g", "", {}),
    "take": Tool("take", "", {"type": "object", "properties": {"item": {"type": "object"}, "n": {}}}),
    "schema": Tool("schema", "", {"type": "object", "properties": {"type": {}, "properties": {}}}),
    "my-tool": Tool("my-tool", "", {}),
    "2nd": Tool("2nd", "", {}),
}


def read(steps: Callable[[Reader], Steps[Any]], text: str, piece: int, may_be_cut: bool = False) -> tuple[Any, str]:
    """What the steps make of a text that comes in pieces, and what they leave of it."""
    reader = Reader(TOOLS, may_be_cut)
    reader.feed(text[:piece])
    going = steps(reader)
    fed = piece
    try:
        while True:
            next(going)
            reader.ended = fed >= len(text)
            reader.feed(text[fed : fed + piece])
            fed += piece
    except StopIteration as stop:
        return stop.value, text[reader.position :]


def both(steps: Callable[[Reader], Steps[Any]], text: str, **more: bool) -> tuple[Any, str]:
    """The same, whole and by characters, which must agree."""
    whole = read(steps, text, len(text) + 1, **more)
    assert read(steps, text, 1, **more) == whole
    return whole


def refused(steps: Callable[[Reader], Steps[Any]], text: str, **more: bool) -> bool:
    for piece in (len(text) + 1, 1):
        with pytest.raises(NotACallError):
            read(steps, text, piece, **more)
    return True


def value_alone(reader: Reader) -> Steps[Any]:
    value = yield from reader.literal()
    if (yield from reader.spaces()):
        raise NotACallError
    return value


# -- values ---------------------------------------------------------------------------------------------------------

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_values_are_read_as_python_reads_them(value: Any) -> None:
    assert both(Reader.literal, repr(value)) == (ast.literal_eval(repr(value)), "")


@settings(max_examples=300, deadline=None)
@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_values_are_read_as_json_reads_them(value: Any, ascii: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii, indent=indent)
    assert both(Reader.literal, text) == (json.loads(text), "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("+3", 3),
        ("1_000", 1000),
        ("0x1F", 31),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1e-3", -0.001),
        ("007", 7),
        ("r'\\d'", "\\d"),
        ("b'x'", "x"),
        ("'a' \"b\"\n'c'", "abc"),
        ("'''it's'''", "it's"),
        ('"""a "b" c"""', 'a "b" c'),
        ('""', ""),
        ("'\\x41\\u00e9\\U0001F389\\t\\/\\q'", "Aé🎉\t/\\q"),
        ("'\\U99999999'", "\\U99999999"),
        ('"\\ud83d\\ude00"', "😀"),
        ('"\\ud83d"', "\ufffd"),
        ("'a\\\nb'", "ab"),
        ("'a\nb'", "a\nb"),
        ("(1, 2)", [1, 2]),
        ("(1,)", [1]),
        ("(1)", 1),
        ("()", []),
        ("{1, 2}", [1, 2]),
        ("{}", {}),
        ("{1: 'a', 2.5: 'b',}", {"1": "a", "2.5": "b"}),
        ("[ 1 ,\r\n\t2 , ]", [1, 2]),
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)),
    ],
)
def test_values_beyond_both(text: str, value: Any) -> None:
    assert both(Reader.literal, text) == (value, "")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "x",
            "1+2",
            "1/6",
            "1e999",
            "0b1",
            "'",
            "'a",
            '"""a"',
            "'a\\",
            "[1",
            "[1,,2]",
            "[,]",
            "{1: 2, 3}",
            "{3, 1: 2}",
        ),
        *("{'a' 1}", "{None: 1}", "{(1,): 2}", "f(1)", "lambda: 1", "undefined", "NaN", "1" * 401, "x" * 500, "f''"),
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    ],
)
def test_what_is_no_value(text: str) -> None:
    assert refused(value_alone, text)


# -- calls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("f()", {}),
        ("f(a=1)", {"a": 1}),
        ("f (a = 1, b = [2])", {"a": 1, "b": [2]}),
        ("f(1)", {"a": 1}),
        ("f(1, 'x')", {"a": 1, "b": "x"}),
        ("f(1, b='x')", {"a": 1, "b": "x"}),
        ("f(True, null,)", {"a": True, "b": None}),
        ("f({'a': 1})", {"a": 1}),
        ("f({'a': 1, 'c': 2})", {"a": {"a": 1, "c": 2}}),
        ("f({'a': 1}, 2)", {"a": {"a": 1}, "b": 2}),
        ("take({'n': 1})", {"item": {"n": 1}}),
        ("f(c=1)", {"c": 1}),
        ("functions.f(a=1)", {"a": 1}),
        ("f.call(a=1)", {"a": 1}),
        ("my-tool(x=-1)", {"x": -1}),
        ("2nd(x=1)", {"x": 1}),
    ],
)
def test_arguments_by_name_and_by_place(text: str, arguments: dict[str, Any]) -> None:
    (call, rest) = both(Reader.call, text)
    assert (call.arguments, rest) == (arguments, "")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "h()",
            "f",
            "f[1]",
            "f(",
            "f(a=1",
            "f(a=)",
            "f(a=1 b=2)",
            "f(a=1, a=2)",
            "f(a=1, 2)",
            "f(1, a=2)",
            "f(1, 2, 3)",
            "g(1)",
        ),
        *(
            "f(a==1)",
            "f(a=b)",
            "f(*x)",
            "f(**x)",
            "f(,)",
            "f(a=1,, b=2)",
            "f.f()",
            "functions.h()",
            "f{'a': 1}",
            "f(a=1]",
        ),
    ],
)
def test_what_is_no_call(text: str) -> None:
    assert refused(Reader.call, text)


def names(calls: list[Written]) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, call.arguments) for call in calls]


def test_a_list_ends_at_its_bracket() -> None:
    calls, rest = both(Reader.calls_in_list, '[f(a=1), {"name": "g", "parameters": {}},] tail')
    assert (names(calls), rest) == ([("f", {"a": 1}), ("g", {})], " tail")


@pytest.mark.parametrize("text", ["[]", "[f()", "[f(),", "[f() f()]", "[f(), 1]", "[[f()]]", "[,f()]"])
def test_what_is_no_list_of_calls(text: str) -> None:
    assert refused(Reader.calls_in_list, text)


def test_at_the_end_brackets_may_be_missing_around_what_is_complete() -> None:
    assert names(both(Reader.calls_in_list, "[f(a=1)", may_be_cut=True)[0]) == [("f", {"a": 1})]
    assert refused(Reader.calls_in_list, "[f(a=1), f(", may_be_cut=True)
    whole = '{"type": "function", "function": {"name": "f", "parameters": {"a": 1}'
    assert names(both(Reader.calls_in_object, whole, may_be_cut=True)[0]) == [("f", {"a": 1})]
    assert refused(Reader.calls_in_object, whole)
    for text in ('{"name": "f", "parameters": {"a": 1', '{"type": "function", "name": "f"', '{"parameters": {}'):
        assert refused(Reader.calls_in_object, text, may_be_cut=True)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('{"name": "f", "parameters": {"a": 1}}', [("f", {"a": 1})]),
        ('{"name": "f", "arguments": "{\\"a\\": 1}"}', [("f", {"a": 1})]),
        ('{"name": "f", "arguments": " "}', [("f", {})]),
        ('{"name": "f", "arguments": null}', [("f", {})]),
        ('{"name": "functions.f", "input": {}}', [("f", {})]),
        ('{"type": "function", "name": "f"}', [("f", {})]),
        ('{"function": {"name": "f"}, "parameters": {"a": 1}}', [("f", {"a": 1})]),
        ('{"id": "x", "function": {"name": "f"}, "type": "function"}', [("f", {})]),
        ('{"tool_calls": [{"name": "f"}, {"function": {"name": "g", "arguments": {}}}]}', [("f", {}), ("g", {})]),
        (
            '{"name": "schema", "parameters": {"type": "object", "properties": {}}}',
            [("schema", {"type": "object", "properties": {}})],
        ),
    ],
)
def test_calls_as_objects(text: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    found, rest = both(Reader.calls_in_object, text)
    assert (names(found), rest) == (calls, "")


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "f"}',
        '{"name": "h", "parameters": {}}',
        '{"name": 1, "parameters": {}}',
        '{"name": "f", "name": "g", "parameters": {}}',
        '{"name": "f", "parameters": {}, "parameters": {}}',
        '{"name": "f", "parameters": {}, "note": 1}',
        '{"name": "f", "parameters": [1]}',
        '{"name": "f", "parameters": "text"}',
        '{"name": "f", "parameters": "{} and more"}',
        '{"name": "f", "parameters": {"type": "object", "properties": {}}}',
        '{"type": "text", "name": "f", "parameters": {}}',
        '{"parameters": {}}',
        '{"tool_calls": []}',
        '{"tool_calls": 1}',
        '{"name": "f" "parameters": {}}',
        "{name: 'f', parameters: {}}",
        "{}",
        '{"' + "n" * 500 + '": 1}',
    ],
)
def test_what_is_no_call_as_an_object(text: str) -> None:
    assert refused(Reader.calls_in_object, text)


def test_inside_a_tag_a_name_is_enough() -> None:
    found, _ = both(lambda reader: reader.calls_in_object(framed=True), '{"name": "f"}')
    assert names(found) == [("f", {})]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('f>{"a": 1}</function>', {"a": 1}),
        ('f>\n{"a": 1}\n</function>', {"a": 1}),
        ('f{"a": 1}</function>', {"a": 1}),
        ('f={"a": 1}</function>', {"a": 1}),
        ('f({"a": 1})</function>', {"a": 1}),
        ('f>{"a": 1}', {"a": 1}),
        ("f></function>", {}),
        ("f>{}</function>", {}),
        ("f><parameter=a>1</parameter><parameter=b>\nx y\n</parameter></function>", {"a": 1, "b": "x y"}),
        ("f>\r\n<parameter=b>\r\n[1, 2\r\n</parameter>\r\n</function>", {"b": "[1, 2"}),
        ("f><parameter=a> </parameter><parameter=b>'q'</parameter></function>", {"a": " ", "b": "'q'"}),
    ],
)
def test_function_tags(text: str, arguments: dict[str, Any]) -> None:
    found, rest = both(Reader.calls_in_function_tag, text)
    assert (names(found), rest) == ([("f", arguments)], "")


@pytest.mark.parametrize(
    "text",
    [
        "h>{}</function>",
        "f>",
        "f>text</function>",
        "f>[1]</function>",
        "f>{1}</function>",
        "f><parameter=a>1",
        "f><parameter=>1</parameter>",
    ],
)
def test_what_is_no_function_tag(text: str) -> None:
    assert refused(Reader.calls_in_function_tag, text)


def test_names_are_resolved_with_what_models_put_around_them() -> None:
    assert [resolve(word, TOOLS) for word in ("f", "functions.f", "tools.f", "f.call", "functions.f.call")] == ["f"] * 5
    assert [resolve(word, TOOLS) for word in ("h", "x.f", "f.run", "", "functions.")] == [None] * 5
