"""A typed function -> a `Tool`: its name, what its docstring says, the JSON Schema of its arguments, and what turns
JSON into the types it wants.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, Required, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from pydantic_core import PydanticUndefined, SchemaError, from_json, to_json
from typing_extensions import TypedDict  # before Python 3.12, pydantic takes no other

from ..errors import InputError
from ..types.dataclass import dataclass
from ..types.tools import Tool
from .docstrings import read_docstring

if TYPE_CHECKING:
    from inspect import Parameter

__all__ = ["tool_from_function"]

_LARGEST = 5000
"""Places of a schema with its references written out; beyond, they stay references."""

_known: WeakKeyDictionary[Any, dict[bool, Tool]] = WeakKeyDictionary()
"""Functions that were read before, without `call`, so that nothing here keeps a function alive; apart as methods."""


def tool_from_function(function: Callable[..., Any]) -> Tool:
    """The tool that a function, a method, a partial, a class or an object with `__call__` makes.

    Raises:
        InputError: it cannot be called with named JSON arguments.
    """
    plain = function.__func__ if isinstance(function, types.MethodType) else function
    if not isinstance(plain, types.FunctionType):
        return replace(_read(function), call=function)
    bound = plain is not function
    known = _known.setdefault(plain, {})
    tool = known.get(bound)
    if tool is None:
        tool = known[bound] = _read(function)
    return replace(tool, call=function)


def _read(function: Callable[..., Any]) -> Tool:
    """The tool, yet without `call`."""
    inner: Any = function
    given: set[str] = set()
    while isinstance(inner, functools.partial):
        given |= inner.keywords.keys()
        inner = inner.func
    name = getattr(inner, "__name__", type(inner).__name__)
    if isinstance(inner, type):
        return _of_class(name, inner)
    home = inner if inspect.isroutine(inner) else type(inner).__call__
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise InputError(f"tool {name!r}: Python does not know the arguments of {function!r}") from None
    description, said = read_docstring((inspect.getdoc(inner) if home is inner else home.__doc__) or "")
    if home is not inner:  # an object: its class says what it is for, unless its __call__ does
        about, also = read_docstring(inspect.getdoc(type(inner)) or "")
        description, said = description or about, {**also, **said}
    fields: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    rest: TypeAdapter[Any] | None = None
    try:
        hints = _hints(home, signature.parameters)
        for parameter in signature.parameters.values():
            if parameter.name in given:
                continue
            _refuse(name, parameter)
            hint = hints.get(parameter.name, Any)
            if parameter.kind is parameter.VAR_KEYWORD:
                rest = TypeAdapter(hint)
                continue
            hint, default = _field(hint, parameter.default, said.get(parameter.name))
            fields[parameter.name] = Required[hint] if default is PydanticUndefined else NotRequired[hint]
            if default is not PydanticUndefined:
                defaults[parameter.name] = default
        arguments: TypeAdapter[Any] = TypeAdapter(TypedDict(name, fields))  # type: ignore[operator]
        schema = arguments.json_schema(schema_generator=_Generator)
        for key, default in defaults.items():
            _note_default(schema["properties"].get(key), default)
        schema["additionalProperties"] = False if rest is None else rest.json_schema(schema_generator=_Generator)
    except (PydanticUserError, SchemaError, NameError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"tool {name!r}: no schema can be made of its arguments: {_first_line(error)}") from None
    schema.setdefault("properties", {})  # Cloudflare refuses a schema without it
    inserted = {
        key: default for key, default in defaults.items() if isinstance(signature.parameters[key].default, FieldInfo)
    }
    return Tool(name, description, tidy(schema), bind=_Binder(arguments, rest, frozenset(fields), inserted))


def _of_class(name: str, cls: type) -> Tool:
    """A class whose constructor takes what its schema says: a pydantic model, a dataclass."""
    try:
        schema = TypeAdapter[Any](cls).json_schema(schema_generator=_Generator)
    except (PydanticUserError, SchemaError, NameError, TypeError, ValueError) as error:
        raise InputError(f"tool {name!r}: no schema can be made of its arguments: {_first_line(error)}") from None
    definitions = schema.get("$defs", {})
    if isinstance(reference := schema.get("$ref"), str):  # of a class that refers to itself
        schema = {**definitions[reference.rpartition("/")[2]], "$defs": definitions}
    schema.setdefault("properties", {})
    schema = tidy(schema)
    description = schema.pop("description", "")
    return Tool(name, description, schema)


def _first_line(error: Exception) -> str:
    text = next(iter(str(error).splitlines()), type(error).__name__)
    if isinstance(error, NameError):
        return f"{text} (types that annotations name as text must stand at the module's top level)"
    return text.split(". ")[0]  # pydantic goes on with what its own users would do


def _refuse(name: str, parameter: Parameter) -> None:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise InputError(f"tool {name!r}: {parameter.name!r} is positional-only, and a model names its arguments")
    if parameter.kind is parameter.VAR_POSITIONAL:
        raise InputError(
            f"tool {name!r}: *{parameter.name} has no name a model could use; take a list instead, "
            f"{parameter.name}: list[...]"
        )


def _hints(home: Any, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """The parameters' annotations as types. What the function returns is not looked at: it may be named for type
    checkers alone."""
    written = {
        parameter.name: parameter.annotation
        for parameter in parameters.values()
        if parameter.annotation is not parameter.empty
    }
    plain = inspect.unwrap(getattr(home, "__func__", home))
    cells = zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True) if hasattr(plain, "__code__") else ()
    enclosed: dict[str, Any] = {}
    for key, cell in cells:
        try:
            enclosed[key] = cell.cell_contents
        except ValueError:  # not set yet
            continue
    scope = types.SimpleNamespace(__annotations__=written)
    return get_type_hints(scope, getattr(plain, "__globals__", {}), enclosed, include_extras=True)


def _field(hint: Any, default: Any, said: str | None) -> tuple[Any, Any]:
    """The annotation with its description, and the default (`PydanticUndefined` for none).

    Descriptions come from `Field(description=...)`, else from a text in `Annotated`, else from the docstring.
    """
    extra: list[Any] = []
    description: str | None = None
    if isinstance(default, FieldInfo):
        extra += default.metadata
        description = default.description
        default = default.get_default(call_default_factory=True, validated_data={})
    elif default is inspect.Parameter.empty:
        default = PydanticUndefined
    if get_origin(hint) is Annotated:
        inner, *metadata = get_args(hint)
        for item in metadata:
            if isinstance(item, str):
                description = description or item
            elif isinstance(item, FieldInfo):
                description = description or item.description
        kept = [item for item in metadata if not isinstance(item, str)]
        hint = Annotated[inner, *kept] if kept else inner
    description = description or said
    if description:
        extra.append(FieldInfo(description=description))
    return (Annotated[hint, *extra] if extra else hint), default


def _note_default(schema: Any, default: Any) -> None:
    """Tell the model what happens when it leaves the argument out, where JSON can say it."""
    if not isinstance(schema, dict):
        return
    try:
        schema["default"] = from_json(to_json(default))
    except ValueError:
        schema.pop("default", None)


class _Generator(GenerateJsonSchema):
    """pydantic's, without its warnings: a nested default that JSON cannot say is left out of the schema."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012


@dataclass(frozen=True, slots=True)
class _Binder:
    """JSON arguments -> the function's own types."""

    arguments: TypeAdapter[Any]
    rest: TypeAdapter[Any] | None
    names: frozenset[str]
    inserted: Mapping[str, Any]
    """Defaults that the function itself does not know: those of `= Field(default=...)`."""

    def __call__(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        extra = {} if self.rest is None else {k: v for k, v in arguments.items() if k not in self.names}
        known = {key: value for key, value in arguments.items() if key not in extra}
        wrong: list[str] = []
        # JSON text, not Python values: what strict types take depends on where the value is from.
        made: dict[str, Any] = dict(self.inserted)
        try:
            made |= self.arguments.validate_json(to_json(known))
        except ValidationError as error:
            wrong += _complaints(error, ())
        for key, value in extra.items():
            assert self.rest is not None
            try:
                made[key] = self.rest.validate_json(to_json(value))
            except ValidationError as error:
                wrong += _complaints(error, (key,))
        if wrong:
            raise ValueError("\n".join(wrong))
        return made


def _complaints(error: ValidationError, place: tuple[str, ...]) -> Iterator[str]:
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(map(str, (*place, *item["loc"])))
        yield f"{where}: {item['msg']}" if where else item["msg"]


# -- schemas as hosts like them ---------------------------------------------------------------------------------------


def tidy(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without titles, and with its references written out but for those of types that hold themselves:
    hosts differ in what they make of `$defs`, and small models read them badly."""
    definitions: dict[str, Any] = schema.get("$defs", {})
    kept = {name for name in definitions if _reaches(name, name, definitions)}
    out: dict[str, Any]
    try:
        out = _Tidy(definitions, kept)(schema)
    except OverflowError:
        kept = set(definitions)
        out = _Tidy(definitions, kept)(schema)
    out.pop("$defs", None)
    used: dict[str, Any] = {}
    todo = list(_references(out))
    while todo:
        name = todo.pop()
        if name not in used and name in definitions:
            used[name] = _Tidy(definitions, kept)(definitions[name])
            todo += _references(used[name])
    if used:
        out["$defs"] = used
    return out


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference.rpartition("/")[2]
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _reaches(start: str, goal: str, definitions: Mapping[str, Any]) -> bool:
    seen: set[str] = set()
    todo = [start]
    while todo:
        for name in _references(definitions.get(todo.pop())):
            if name == goal:
                return True
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return False


class _Tidy:
    """Copies a schema; see `tidy`."""

    def __init__(self, definitions: Mapping[str, Any], kept: set[str]) -> None:
        self._definitions = definitions
        self._kept = kept
        self._places = 0

    def __call__(self, schema: Any) -> Any:
        if isinstance(schema, list):
            return [self(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        self._places += 1
        if self._places > _LARGEST and len(self._kept) < len(self._definitions):
            raise OverflowError
        reference = schema.get("$ref")
        if isinstance(reference, str) and (name := reference.rpartition("/")[2]) not in self._kept:
            return self({**self._definitions[name], **{k: v for k, v in schema.items() if k != "$ref"}})
        out: dict[str, Any] = {}
        for key, value in schema.items():
            match key:
                case "title" | "discriminator":
                    continue
                case "$defs":
                    continue
                case "properties" | "patternProperties":
                    out[key] = {name: self(item) for name, item in value.items()}
                case "default" | "const" | "enum" | "examples":
                    out[key] = value
                case "oneOf" if "discriminator" in schema:  # the options exclude each other anyway
                    out["anyOf"] = self(value)
                case _:
                    out[key] = self(value)
        if isinstance(out.get("description"), str) and isinstance(out.get("properties"), dict):
            _spread(out)
        return out


def _spread(schema: dict[str, Any]) -> None:
    """What a nested class's docstring says about its fields, at the fields."""
    description, said = read_docstring(schema["description"])
    for name, text in said.items():
        if isinstance(field := schema["properties"].get(name), dict):
            field.setdefault("description", text)
    if description:
        schema["description"] = description
    else:
        del schema["description"]
