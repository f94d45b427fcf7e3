"""`output=`: a Python type -> the JSON Schema to ask for, and the model's text -> a value of that type. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import PydanticUserError, ValidationError
from pydantic_core import from_json

from .errors import InputError, OutputValidationError
from .types.dataclass import dataclass
from .types.response import ChatResponse
from .types.tools import JsonSchema

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["OutputSpec", "output_spec"]

_FENCE = r"(?s)```[a-zA-Z]*[ \t]*\n(.*?)\n?[ \t]*```"


Check: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[dict[str, Any], tuple[str, ...]]]


@dataclass(slots=True, eq=False)
class OutputSpec:
    """What `output=` asked for.

    `wrapped` is True when the type is no JSON object by itself (a list, a union, a number): hosts want an object at
    the root, so the value travels as `{"value": ...}`.
    """

    schema: JsonSchema
    adapter: TypeAdapter[Any] | None
    wrapped: bool
    check: Check | None = None
    """Holds a value against a JSON Schema that is no type: the value as the schema wants it, and what is wrong."""

    def read(self, response: ChatResponse[Any]) -> Any:
        """The validated value of an answer.

        Raises:
            OutputValidationError: the text is no JSON, or does not fit the type.
        """
        try:
            value = _json_in(response.text)
        except ValueError as error:
            cut = " (it was cut off at max_tokens)" if response.finish_reason == "length" else ""
            raise OutputValidationError(
                f"the answer is not JSON{cut}: {error}", reply=response, errors=[f"not JSON: {error}"]
            ) from None
        if self.wrapped and isinstance(value, dict) and value.keys() == {"value"}:
            value = value["value"]
        if self.adapter is None:
            return value if self.check is None else self._checked(value, response, self.check)
        try:
            return self.adapter.validate_python(value)
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors(include_url=False)]
            raise OutputValidationError(
                f"the answer does not fit {self.schema.name}: {'; '.join(lines)}", reply=response, errors=lines
            ) from None

    def _checked(self, value: Any, response: ChatResponse[Any], check: Check) -> Any:
        schema = self.schema.schema
        errors: tuple[str, ...] = ()
        if isinstance(value, dict):
            value, errors = check(value, schema)
        elif schema.get("type") == "object":
            errors = (f"must be an object, not {type(value).__name__}",)
        if errors:
            raise OutputValidationError(
                f"the answer does not fit {self.schema.name}: {'; '.join(errors)}", reply=response, errors=list(errors)
            )
        return value

    def partial(self, text: str) -> Any:
        """What the text so far holds, as plain JSON data; None before anything can be read."""
        begins = min((at for mark in "{[" if (at := text.find(mark)) >= 0), default=0)
        try:
            value = from_json(text[begins:], allow_partial="trailing-strings")
        except ValueError:
            return None
        return value.get("value") if self.wrapped and isinstance(value, dict) else value


def _json_in(text: str) -> Any:
    """The JSON of an answer: all of it, else what stands in its one code fence, else from its first brace to its last.

    Models that were asked in words put words around it all the same.

    Raises:
        ValueError: there is none.
    """
    try:
        return from_json(text)
    except ValueError:
        fences = re.findall(_FENCE, text)
        braces = re.search(r"(?s)\{.*\}", text)
        for found in (*fences[:1], *([braces[0]] if braces else [])):
            try:
                return from_json(found)
            except ValueError:
                pass
        raise


def output_spec(output: Any) -> OutputSpec:
    """From a pydantic model, dataclass, TypedDict, any other type, or a JSON Schema as a dict.

    Raises:
        InputError: no JSON Schema can be made of it.
    """
    if isinstance(output, JsonSchema):
        return OutputSpec(output, None, wrapped=False)
    if isinstance(output, Mapping):
        name = str(output.get("title") or "output")
        return OutputSpec(JsonSchema(_name(name), output), None, wrapped=False)
    if isinstance(output, FunctionType | BuiltinFunctionType | MethodType | partial):
        # pydantic would take it for a type whose values are made by calling it, with what the model wrote.
        raise InputError("output= takes a type or a JSON Schema, not a function; functions go into tools=")
    try:
        return _of_type(output)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _of_type.__wrapped__(output)


@lru_cache(maxsize=256)
def _of_type(output: Any) -> OutputSpec:
    """A type's schema and validator, made once: building them takes longer than a call's other work together."""
    from pydantic import TypeAdapter

    try:
        adapter = TypeAdapter[Any](output)
        schema = adapter.json_schema()
    except (PydanticUserError, TypeError, ValueError) as error:
        raise InputError(
            f"output= must be a type that pydantic knows, or a JSON Schema: {str(error).splitlines()[0]}"
        ) from None
    name = _name(str(schema.get("title") or getattr(output, "__name__", "output")))
    wrapped = schema.get("type") != "object"
    if wrapped:
        definitions = schema.pop("$defs", None)
        schema = {
            "type": "object",
            "properties": {"value": schema},
            "required": ["value"],
            "additionalProperties": False,
        }
        if definitions:
            schema["$defs"] = definitions
    return OutputSpec(JsonSchema(name, schema), adapter, wrapped)


def _name(title: str) -> str:
    """A name hosts take: letters, digits, `_` and `-`, at most 64."""
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", title)[:64] or "output"
