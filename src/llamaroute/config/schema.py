"""JSON Schemas (draft 2020-12) of the config file and of the response.

`python -m llamaroute.config.schema docs` writes docs/config.schema.json and docs/response.schema.json.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
import textwrap
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from pydantic import BaseModel

from .models import Config, registry_specs

if TYPE_CHECKING:
    from ..spi import ProviderSpec

__all__ = ["config_schema", "render", "response_schema"]

JsonSchema: TypeAlias = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

VARIABLE = {
    "type": "string",
    "pattern": r"\$\{",
    "description": "`${VAR}` or `${VAR:-default}`: the value comes from the environment.",
}
SECRET = {
    "description": "The value comes from a file (relative to this one) or from a command's output (no shell, 10 s).",
    "oneOf": [
        {
            "type": "object",
            "properties": {"file": {"type": "string", "description": "Path of a file that holds the value."}},
            "required": ["file"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "command": {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": 1,
                    "description": 'Program and arguments, such as ["pass", "show", "x"].',
                }
            },
            "required": ["command"],
            "additionalProperties": False,
        },
    ],
}


def config_schema(
    kinds: Iterable[str] | None = None, specs: Callable[[str], ProviderSpec] = registry_specs
) -> JsonSchema:
    """The schema of the config file, before variables and secrets are resolved.

    Args:
        kinds: kinds of providers it knows. Default: all that are installed, other packages' too.
        specs: kind -> its spec. Default: the registry.
    """
    if kinds is None:
        from ..registry import known_kinds

        kinds = known_kinds()
    _describe(Config)
    schema = _plain(Config.model_json_schema())
    definitions: JsonSchema = schema.pop("$defs")
    definitions.pop("ProviderSettings", None)
    kinds = sorted(kinds)
    for kind in kinds:
        table, helpers = _settings_schema(specs(kind))
        if any(definitions.get(name, helper) != helper for name, helper in helpers.items()):
            # Another kind has a different table of the same name.
            table, helpers = _settings_schema(specs(kind), prefix=f"{kind}.")
        definitions |= helpers
        table["properties"]["kind"] = {"const": kind, "description": "Kind of provider; defaults to the table's name."}
        # A key that a profile or the name of the table supplies is missing nowhere; the loader sees the whole.
        table["required"] = sorted(set(table.get("required", ())) - {"kind"})
        definitions[f"provider.{kind}"] = table
    definitions["StateSettings"] = _with_secrets(definitions["StateSettings"])
    anything = {"oneOf": [{"$ref": f"#/$defs/provider.{kind}", "required": ["kind"]} for kind in kinds]}
    definitions["provider"] = anything
    properties: JsonSchema = schema["properties"]
    properties["providers"] = {
        "description": properties["providers"]["description"],
        "type": "object",
        "properties": {
            kind: {"anyOf": [{"$ref": f"#/$defs/provider.{kind}"}, {"$ref": "#/$defs/provider"}]} for kind in kinds
        },
        "propertyNames": {"pattern": "^[^:]+$"},
        "additionalProperties": {"$ref": "#/$defs/provider"},
    }
    definitions = {name: _with_variables(value) for name, value in definitions.items()}
    properties = {name: _with_variables(value) for name, value in properties.items()}
    properties["version"] = {"const": 1, "default": 1, "description": properties["version"]["description"]}
    properties["profiles"] = {
        "description": "Name -> keys that are merged over the rest with LLAMAROUTE_PROFILE or `profile=`.",
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "properties": {name: _partial(name) for name in properties if name not in ("version", "profiles")},
            "additionalProperties": False,
        },
    }
    definitions |= {"variable": VARIABLE, "secret": SECRET}
    return {
        "$schema": DIALECT,
        "$id": "urn:llamaroute:config:1",
        "title": "llamaroute config file",
        "description": "How llamaroute reaches its providers. Found as llamaroute.toml, .yaml or .json.",
        "type": "object",
        "properties": {"$schema": {"type": "string", "description": "For editors; ignored."}, **properties},
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


def response_schema() -> JsonSchema:
    """The schema of `ChatResponse` as `model_dump_json()` writes it, the same for every provider."""
    from ..types.response import SCHEMA_VERSION, ChatResponse

    model = ChatResponse[Any]
    _describe(ChatResponse)
    for name, field in model.model_fields.items():
        field.description = ChatResponse.model_fields[name].description
    model.model_rebuild(force=True)
    schema = model.model_json_schema(mode="serialization")
    definitions = dict(sorted(schema.pop("$defs").items()))
    head = {"$schema": DIALECT, "$id": f"urn:llamaroute:response:{SCHEMA_VERSION}", "title": "llamaroute ChatResponse"}
    return {**schema, **head, "required": sorted(schema.get("required", ())), "$defs": definitions}


def _describe(model: type[BaseModel]) -> None:
    """Make the docstrings under a model's attributes the descriptions in its schema, and in those of models in it.

    Done here and not by pydantic's `use_attribute_docstrings`, which reads every model's source whenever it is
    imported: about a tenth of what a program pays to start.
    """
    for field in model.model_fields.values():
        for inner in _models_in(field.annotation):
            _describe(inner)
    texts: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls is not BaseModel:
            texts |= _attribute_docs(cls)
    for name, field in model.model_fields.items():
        field.description = field.description or texts.get(name)
    model.model_rebuild(force=True)


def _attribute_docs(cls: type) -> dict[str, str]:
    """Attribute name -> the text that stands under it."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError, SyntaxError):
        return {}  # made at run time: it has no source
    found: dict[str, str] = {}
    if isinstance(body, ast.ClassDef):
        for above, below in itertools.pairwise(body.body):
            if isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name) and isinstance(below, ast.Expr):
                if isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
                    found[above.target.id] = inspect.cleandoc(below.value.value)
    return found


def _models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _settings_schema(spec: ProviderSpec, prefix: str = "") -> tuple[JsonSchema, JsonSchema]:
    """The schema of a kind's table, and those of the tables in it."""
    _describe(spec.settings)
    schema = spec.settings.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}")
    schema = _with_secrets(_plain(schema))
    return schema, {f"{prefix}{name}": _with_secrets(value) for name, value in schema.pop("$defs", {}).items()}


def _partial(name: str) -> JsonSchema:
    # A profile's tables are pieces: what they must hold may stand in the rest of the file.
    if name == "default":
        return {"type": "string"}
    return {"type": "object"}


def _plain(schema: Any) -> Any:
    """Without the titles pydantic makes up from names, and without `null`, which TOML cannot say."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # Inside `properties` the keys are names, so that one called `title` stays.
    plain = {
        key: {name: _plain(item) for name, item in value.items()} if key in ("properties", "$defs") else _plain(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
    if isinstance(text := plain.get("description"), str):
        plain["description"] = "\n\n".join(" ".join(piece.split()) for piece in text.split("\n\n"))
    for word in ("anyOf", "oneOf"):
        options = [option for option in plain.get(word, ()) if option != {"type": "null"}]
        if len(options) == 1:
            plain = {**options[0], **{key: value for key, value in plain.items() if key != word}}
        elif options:
            plain[word] = _flat(options)
    return plain


def _flat(options: list[JsonSchema]) -> list[JsonSchema]:
    """Alternatives without alternatives inside them, each once."""
    flat: list[JsonSchema] = []
    for option in options:
        flat += [piece for piece in (option["anyOf"] if [*option] == ["anyOf"] else [option]) if piece not in flat]
    return flat


_ABOUT = ("description", "default")


def _or(schema: JsonSchema, other: str) -> JsonSchema:
    """`schema` or the definition `other`; what is said about it stays outside."""
    about = {key: value for key, value in schema.items() if key in _ABOUT}
    rest = {key: value for key, value in schema.items() if key not in _ABOUT}
    return {**about, "anyOf": _flat([rest, {"$ref": f"#/$defs/{other}"}])}


def _inside(schema: JsonSchema, change: Callable[[Any], Any]) -> JsonSchema:
    """`schema` with `change` made to each schema in it."""
    result = dict(schema)
    for key, value in schema.items():
        if key == "properties":
            result[key] = {name: change(item) for name, item in value.items()}
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            result[key] = [change(item) for item in value]
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            result[key] = change(value)
    if "anyOf" in result:
        result["anyOf"] = _flat(result["anyOf"])
    return result


def _with_secrets(schema: JsonSchema) -> JsonSchema:
    """A provider's table, where any free string may come from a file or a command."""
    schema = _inside(schema, _with_secrets)
    free = schema.get("type") == "string" and not schema.keys() & {"enum", "const"}
    return _or(schema, "secret") if free else schema


def _with_variables(schema: JsonSchema) -> JsonSchema:
    """The same, with `${VAR}` wherever something else than any string is wanted."""
    schema = _inside(schema, _with_variables)
    choice = schema.get("type") in ("integer", "number", "boolean") or schema.keys() & {"enum", "pattern"}
    return _or(schema, "variable") if choice else schema


def render(schema: JsonSchema) -> str:
    """The schema as the text of its file."""
    import json

    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write both schemas into the folder named by the only argument."""
    from pathlib import Path

    from ..registry import builtin_specs

    if len(arguments) != 1:
        print("usage: python -m llamaroute.config.schema FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    kinds = [spec.name for spec in builtin_specs()]
    for name, schema in (("config", config_schema(kinds)), ("response", response_schema())):
        (folder / f"{name}.schema.json").write_text(render(schema), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
