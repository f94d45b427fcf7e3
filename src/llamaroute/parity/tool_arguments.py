"""Arguments of tool calls against the tool's schema: made to fit where they say the right thing in the wrong type,
else described for the model, so that it can call again.

What is put right is what hosts and Llama models are known to send:

* numbers as text, `"3"` for 3 (Llama 3.x on Bedrock, langchain-ai/langchain-aws#274);
* lists and objects as JSON text, `"[1, 2]"`, or as a Python literal, `"['a', 'b']"`: vLLM's `auto` parses free text,
  and holds the model to a schema only for `required` and named calls
  (https://docs.vllm.ai/en/stable/features/tool_calling.html);
* `"true"`, `"False"`, `"null"` and `"None"` as text, from Llama's pythonic form read as strings;
* null or an empty text for an argument that may be left out.

Nothing is guessed: a text never becomes a list of one, and an unknown name is a complaint, not dropped.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from pydantic_core import from_json

from ..types.messages import Message, tool_result
from ..types.parts import Text, ToolCall
from ..types.response import ChatResponse
from ..types.tools import Tool, canonical_json

__all__ = ["check_call", "coerce", "complaint", "repair_messages", "sendable"]

_DEEPEST = 64
_SHOWN = 60
_MISSING = object()
_NAMES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}


def check_call(call: ToolCall, tools: Sequence[Tool]) -> ToolCall:
    """`call` with arguments that fit its tool's schema, or with `error` saying what is wrong."""
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None:
        names = ", ".join(tool.name for tool in tools) or "none"
        return replace(call, error=f"there is no tool {call.name!r}; the tools are: {names}")
    if call.error is not None:
        return call
    arguments, errors = coerce(_encodable(call.arguments), tool.schema)
    return replace(call, error="; ".join(errors)) if errors else replace(call, arguments=arguments)


def complaint(call: ToolCall) -> str:
    """What the model is told about a call with an `error`."""
    written = f" You wrote: {_show(call.raw_arguments, 500)}." if call.raw_arguments and not call.arguments else ""
    said = f"Error: {call.name} was not called: {call.error}.{written} Call again with arguments that fit the schema."
    return said.encode("utf-8", "replace").decode()


def sendable(call: ToolCall) -> ToolCall:
    """`call` as it may stand in a conversation: servers read the arguments of earlier turns as JSON, and fail on what
    the model did not finish."""
    if not call.raw_arguments:
        return call
    try:
        broken = not isinstance(from_json(call.raw_arguments), dict)
    except ValueError:
        broken = True
    return replace(call, raw_arguments="", arguments=_encodable(call.arguments)) if broken else call


def _encodable(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with `?` for halves of surrogate pairs, which models cut and UTF-8 cannot say."""
    try:
        canonical_json(arguments)
    except ValueError:
        import json

        text = json.dumps(arguments, ensure_ascii=False).encode("utf-8", "replace")
        arguments = json.loads(text)
    return arguments


def repair_messages(response: ChatResponse[Any], calls: Sequence[ToolCall]) -> tuple[Message, ...]:
    """The turns that give calls which do not fit back to the model: its own, and a result for each call.

    Args:
        response: the answer that made the calls.
        calls: the same calls, checked: `[check_call(call, tools) for call in response.tool_calls]`.
    """
    turn = [part for part in response.parts if isinstance(part, Text)]
    results = [
        tool_result(
            call,
            complaint(call)
            if call.error is not None
            else f"{call.name} was not called, because another call of this turn was wrong. Call it again.",
        )
        for call in calls
    ]
    return Message("assistant", (*turn, *map(sendable, calls))), *results


def coerce(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`arguments` with each value of the type that `schema` wants, and what is wrong with them, one line each.

    Understands the keywords that tools use (types, enum and const, properties, items, anyOf, oneOf and allOf, local
    references, limits of numbers, texts and lists); others are left to the tool.
    """
    errors: list[str] = []
    value = _Reader(schema).fit(dict(arguments), schema, "", errors, 0)
    return (value if isinstance(value, dict) else dict(arguments)), tuple(errors)


class _Reader:
    """One schema's reader; `root` is where its references start."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def fit(self, value: Any, schema: Any, at: str, errors: list[str], depth: int) -> Any:
        """`value` as `schema` wants it; complaints go to `errors`."""
        if depth > _DEEPEST:
            errors.append(_line(at, "nested too deeply"))
            return value
        if schema is False:
            errors.append(_line(at, "must be left out"))
            return value
        if not isinstance(schema, Mapping):
            return value
        if isinstance(reference := schema.get("$ref"), str):
            value = self.fit(value, self._resolve(reference), at, errors, depth + 1)
        for part in schema.get("allOf") or ():
            value = self.fit(value, part, at, errors, depth + 1)
        options = [*(schema.get("anyOf") or ()), *(schema.get("oneOf") or ())]
        if options:
            value = self._any(value, options, at, errors, depth)
        if "const" in schema:
            value = _member(value, (schema["const"],), at, errors)
        elif isinstance(members := schema.get("enum"), Sequence):
            value = _member(value, members, at, errors)
        types = schema.get("type")
        types = (types,) if isinstance(types, str) else tuple(types or ())
        if schema.get("nullable") is True and types:  # OpenAPI 3.0's word for it
            types += ("null",)
        if types:
            found = next((made for kind in types if (made := _exact(value, kind)) is not _MISSING), _MISSING)
            if found is _MISSING:
                found = next((made for kind in types if (made := _converted(value, kind)) is not _MISSING), _MISSING)
            if found is _MISSING:
                wanted = " or ".join(_NAMES.get(kind, kind) for kind in types)
                errors.append(_line(at, f"must be {wanted}, not {_show(value)}"))
                return value
            value = found
        if isinstance(value, dict):
            return self._object(value, schema, at, errors, depth)
        if isinstance(value, list):
            return self._array(value, schema, at, errors, depth)
        errors.extend(_line(at, text) for text in _limits(value, schema))
        return value

    def _any(self, value: Any, options: Sequence[Any], at: str, errors: list[str], depth: int) -> Any:
        """The first option that takes the value as it is, else the first that takes it after a change."""
        fits: list[Any] = []
        wrong: list[list[str]] = []
        for option in options:
            own: list[str] = []
            made = self.fit(value, option, at, own, depth + 1)
            if own:
                wrong.append(own)
            elif _same(made, value):
                return made
            else:
                fits.append(made)
        if fits:
            return fits[0]
        # An option that complains about a part of the value came further than one that refuses the whole.
        head, tail = _line(at, "must be "), f", not {_show(value)}"
        partly = [own for own in wrong if not (own[0].startswith(head) and own[0].endswith(tail))]
        if partly:
            errors.extend(partly[0])
        else:
            wanted = dict.fromkeys(own[0].removeprefix(head).removesuffix(tail) for own in wrong)
            errors.append(f"{head}{' or '.join(wanted)}{tail}")
        return value

    def _object(
        self, value: dict[str, Any], schema: Mapping[str, Any], at: str, errors: list[str], depth: int
    ) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or ()
        out: dict[str, Any] = {}
        for name, item in value.items():
            place = f"{at}.{name}" if at else str(name)
            if name not in properties:
                out[name] = self._extra(name, item, schema, place, errors, depth)
                continue
            own: list[str] = []
            made = self.fit(item, properties[name], place, own, depth + 1)
            if own and name not in required and (item is None or item in ("", "null", "None")):
                continue  # the model's way of leaving it out
            errors.extend(own)
            out[name] = made
        for name in required:
            if name not in value:
                errors.append(_line(f"{at}.{name}" if at else name, "is missing"))
        return out

    def _extra(self, name: str, item: Any, schema: Mapping[str, Any], place: str, errors: list[str], depth: int) -> Any:
        for pattern, rule in (schema.get("patternProperties") or {}).items():
            if _matches(pattern, name):
                return self.fit(item, rule, place, errors, depth + 1)
        rule = schema.get("additionalProperties", True)
        if rule is not False:
            return self.fit(item, rule, place, errors, depth + 1)
        near = get_close_matches(name, schema.get("properties") or {}, 1)
        errors.append(_line(place, f"is not known{f'; did you mean {near[0]!r}?' if near else ''}"))
        return item

    def _array(self, value: list[Any], schema: Mapping[str, Any], at: str, errors: list[str], depth: int) -> list[Any]:
        first = schema.get("prefixItems") or ()
        rest = schema.get("items", True)
        out = [
            self.fit(item, first[i] if i < len(first) else rest, f"{at}[{i}]", errors, depth + 1)
            for i, item in enumerate(value)
        ]
        least, most = schema.get("minItems"), schema.get("maxItems")
        if isinstance(least, int) and len(out) < least:
            errors.append(_line(at, f"must have at least {least} items, not {len(out)}"))
        if isinstance(most, int) and len(out) > most:
            errors.append(_line(at, f"must have at most {most} items, not {len(out)}"))
        if schema.get("uniqueItems") is True and len({canonical_json(item) for item in out}) < len(out):
            errors.append(_line(at, "must not hold the same item twice"))
        return out

    def _resolve(self, reference: str) -> Any:
        """What a local reference means; of any other, nothing is known."""
        if not reference.startswith("#"):
            return True
        found: Any = self._root
        for step in reference[1:].split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step) if isinstance(found, Mapping) else None
        return True if found is None else found


def _exact(value: Any, kind: str) -> Any:
    """The value where it is of that JSON type already."""
    match kind:
        case "string" if isinstance(value, str):
            return value
        case "integer" if isinstance(value, int) and not isinstance(value, bool):
            return value
        case "integer" if isinstance(value, float) and value.is_integer():
            return int(value)  # 3.0 is an integer to JSON Schema, and a float to Python
        case "number" if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        case "boolean" if isinstance(value, bool):
            return value
        case "null" if value is None:
            return value
        case "array" if isinstance(value, list):
            return value
        case "object" if isinstance(value, dict):
            return value
    return _MISSING


def _converted(value: Any, kind: str) -> Any:
    """The value as that JSON type, where it says the same thing in another."""
    if not isinstance(value, str):
        if kind == "string" and isinstance(value, int | float):
            return canonical_json(value)
        return value == 1 if kind == "boolean" and value in (0, 1) and value is not None else _MISSING
    text = value.strip()
    match kind:
        case "integer" if re.fullmatch(r"[+-]?\d{1,400}(\.0*)?", text):
            return int(text.split(".")[0])
        case "number" if re.fullmatch(r"[+-]?(\d{1,400}(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", text):
            return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
        case "boolean" if text.lower() in ("true", "false"):
            return text.lower() == "true"
        case "null" if text in ("null", "None"):
            return None
        case "array" | "object" if text[:1] == ("[" if kind == "array" else "{"):
            made = _parsed(text)
            return made if isinstance(made, list if kind == "array" else dict) else _MISSING
    return _MISSING


def _parsed(text: str) -> Any:
    """JSON text, or a Python literal that JSON has the types for."""
    try:
        return from_json(text)
    except ValueError:
        pass
    try:
        value = ast.literal_eval(text)
        return from_json(canonical_json(value))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _MISSING


def _member(value: Any, members: Sequence[Any], at: str, errors: list[str]) -> Any:
    for member in members:
        if _same(value, member):
            return member
    if isinstance(value, str | int | float):
        near = [member for member in members if str(member).casefold() == str(value).strip().casefold()]
        if len(near) == 1:
            return near[0]
    allowed = ", ".join(map(canonical_json, members))
    errors.append(_line(at, f"must be {'one of ' if len(members) > 1 else ''}{allowed}, not {_show(value)}"))
    return value


def _limits(value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """What a number's or a text's limits say against it."""
    if isinstance(value, str):
        least, most, pattern = schema.get("minLength"), schema.get("maxLength"), schema.get("pattern")
        if isinstance(least, int) and len(value) < least:
            yield f"must have at least {least} characters, not {len(value)}"
        if isinstance(most, int) and len(value) > most:
            yield f"must have at most {most} characters, not {len(value)}"
        if isinstance(pattern, str) and not _matches(pattern, value):
            yield f"must match {pattern}, not {_show(value)}"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        for word, said in (
            ("minimum", "at least"),
            ("maximum", "at most"),
            ("exclusiveMinimum", "above"),
            ("exclusiveMaximum", "below"),
        ):
            limit = schema.get(word)
            if isinstance(limit, int | float) and not isinstance(limit, bool) and _beyond(value, word, limit):
                yield f"must be {said} {limit}, not {value}"
        step = schema.get("multipleOf")
        if isinstance(step, int) and step > 0 and value % step:
            yield f"must be a multiple of {step}, not {value}"


def _beyond(value: float, word: str, limit: float) -> bool:
    match word:
        case "minimum":
            return value < limit
        case "maximum":
            return value > limit
        case "exclusiveMinimum":
            return value <= limit
        case _:
            return value >= limit


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:  # JSON Schema's expressions are JavaScript's; Python does not know all of them
        return True


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: True is not 1, but 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


def _line(at: str, text: str) -> str:
    return f"{at}: {text}" if at else text


def _show(value: Any, most: int = _SHOWN) -> str:
    text = value if isinstance(value, str) and most > _SHOWN else canonical_json(value)
    return text if len(text) <= most else f"{text[:most]}..."
