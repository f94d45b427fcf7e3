"""Typed functions -> tools: the schema a host gets, and what a function is called with."""

from __future__ import annotations

import copy
import datetime
import enum
import functools
import gc
import json
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, Optional, Union
from uuid import UUID

import jsonschema
import pytest
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from llamaroute.errors import InputError
from llamaroute.tools import as_tool
from llamaroute.types.tools import Tool

if TYPE_CHECKING:
    from decimal import Context  # a name that does not exist at run time


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Address(BaseModel):
    """Where somebody lives."""

    street: str = Field(description="street and number")
    city: str = "Cusco"


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    when: datetime.date


@dataclass
class Point:
    """A place on the map.

    Args:
        x: metres to the east
        y: metres to the north
    """

    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)


class Person(TypedDict):
    name: str
    age: NotRequired[int]


class Node(BaseModel):
    value: int
    children: list[Node] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """The schema, after a look at what holds for all of them."""
    schema = as_tool(function).schema
    jsonschema.Draft202012Validator.check_schema(schema)
    text = json.dumps(schema)
    assert json.loads(text) == schema
    assert schema["type"] == "object"
    assert isinstance(schema["properties"], dict)
    return dict(schema)


def bound(function: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    bind = as_tool(function).bind
    assert bind is not None
    return bind(arguments)


# -- one annotation each ----------------------------------------------------------------------------------------------

ADDRESS = {
    "type": "object",
    "description": "Where somebody lives.",
    "properties": {
        "street": {"type": "string", "description": "street and number"},
        "city": {"type": "string", "default": "Cusco"},
    },
    "required": ["street"],
}
POINT = {
    "type": "object",
    "description": "A place on the map.",
    "properties": {
        "x": {"type": "integer", "description": "metres to the east"},
        "y": {"type": "integer", "default": 0, "description": "metres to the north"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["x"],
}


@pytest.mark.parametrize(
    ("annotation", "schema", "given", "got"),
    [
        (str, {"type": "string"}, "a", "a"),
        (int, {"type": "integer"}, 3, 3),
        (float, {"type": "number"}, 3, 3.0),
        (bool, {"type": "boolean"}, True, True),
        (Any, {}, {"a": [1]}, {"a": [1]}),
        (list[int], {"type": "array", "items": {"type": "integer"}}, [1, 2], [1, 2]),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}, {"a": 1}),
        (tuple[int, str], None, [1, "a"], (1, "a")),
        (set[str], {"type": "array", "items": {"type": "string"}, "uniqueItems": True}, ["a"], {"a"}),
        (Literal["c", "f"], {"type": "string", "enum": ["c", "f"]}, "c", "c"),
        (Colour, {"type": "string", "enum": ["red", "blue"]}, "red", Colour.RED),
        (Size, {"type": "integer", "enum": [1, 2]}, 2, Size.LARGE),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, None),  # noqa: UP045
        (Union[int, str], {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "a", "a"),  # noqa: UP007
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}, 3, 3),
        (Annotated[int, Field(ge=1, le=9)], {"type": "integer", "minimum": 1, "maximum": 9}, 5, 5),
        (Annotated[int, "how many"], {"type": "integer", "description": "how many"}, 5, 5),
        (
            Annotated[str, Field(description="a name", min_length=2)],
            {"type": "string", "description": "a name", "minLength": 2},
            "ab",
            "ab",
        ),
        (Address, ADDRESS, {"street": "Sol 5"}, Address(street="Sol 5")),
        (Point, POINT, {"x": 1}, Point(1)),
        (list[Point], {"type": "array", "items": POINT}, [{"x": 1, "y": 2}], [Point(1, 2)]),
        (
            Person,
            {
                "type": "object",
                "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                "required": ["name"],
            },
            {"name": "Ana"},
            {"name": "Ana"},
        ),
        (datetime.date, {"type": "string", "format": "date"}, "2026-11-23", datetime.date(2026, 11, 23)),
        (
            UUID,
            {"type": "string", "format": "uuid"},
            "12345678123456781234567812345678",
            UUID(int=0x12345678123456781234567812345678),
        ),
        (Path, {"type": "string", "format": "path"}, "/a", Path("/a")),
        (Decimal, None, "1.5", Decimal("1.5")),
        (Strict, None, {"when": "2026-11-23"}, Strict(when=datetime.date(2026, 11, 23))),
        (
            Annotated[Cat | Dog, Field(discriminator="kind")],
            None,
            {"kind": "dog", "name": "Rex"},
            Dog(kind="dog", name="Rex"),
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_annotations(annotation: Any, schema: dict[str, Any] | None, given: Any, got: Any):
    def tool(value):
        """Does something."""

    tool.__annotations__ = {"value": annotation}
    made = parameters(tool)
    assert made["required"] == ["value"]
    if schema is not None:
        assert made["properties"] == {"value": schema}
    assert bound(tool, value=given) == {"value": got}
    assert "$ref" not in json.dumps(made)
    assert "title" not in json.dumps(made)
    jsonschema.validate({"value": given}, made)


def test_unions_by_a_tag_are_plain_ones():
    """Vendors' validators differ in `oneOf` and know no `discriminator`, which is OpenAPI's word."""

    def tool(pet: Annotated[Cat | Dog, Field(discriminator="kind")]):
        pass

    pet = parameters(tool)["properties"]["pet"]
    assert [option["properties"]["kind"]["const"] for option in pet["anyOf"]] == ["cat", "dog"]
    assert pet.keys() == {"anyOf"}


def test_types_that_hold_themselves_keep_their_definition():
    def tool(tree: Node, other: Node | None = None, place: Point | None = None):
        pass

    schema = parameters(tool)
    assert schema["properties"]["tree"] == {"$ref": "#/$defs/Node"}
    assert schema["$defs"].keys() == {"Node"}
    assert "title" not in json.dumps(schema)
    tree = {"value": 1, "children": [{"value": 2}]}
    jsonschema.validate({"tree": tree}, schema)
    assert bound(tool, tree=tree)["tree"] == Node(value=1, children=[Node(value=2)])


def test_what_would_grow_beyond_measure_keeps_its_references():
    inner: Any = Point
    for level in range(12):  # two fields of each level's type: 4096 points written out
        inner = type(f"Level{level}", (BaseModel,), {"__annotations__": {"a": inner, "b": inner}})

    def tool(value):
        pass

    tool.__annotations__ = {"value": inner}
    schema = parameters(tool)
    assert len(json.dumps(schema)) < 10_000
    assert schema["properties"]["value"] == {"$ref": "#/$defs/Level11"}


def test_a_property_called_title_is_no_title():
    class Book(BaseModel):
        title: str

    def tool(title: str, books: list[Book], properties: int = 1):
        pass

    tool.__annotations__["books"] = list[Book]
    schema = parameters(tool)
    assert list(schema["properties"]) == ["title", "books", "properties"]
    assert schema["properties"]["books"]["items"]["required"] == ["title"]
    assert schema["properties"]["books"]["items"]["properties"] == {"title": {"type": "string"}}


# -- whole functions --------------------------------------------------------------------------------------------------


def forecast(
    city: str,
    days: int = 1,
    units: Literal["c", "f"] = "c",
    since: datetime.date = datetime.date(2026, 1, 1),
    odd: Any = object(),  # noqa: B008
) -> Context:
    """Weather forecast.

    Only for Peru.

    Args:
        city: name of the city
        days: how many days ahead
        nothing: not a parameter

    Returns:
        A text.
    """
    raise NotImplementedError


def test_a_whole_function():
    tool = as_tool(forecast)
    assert (tool.name, tool.call) == ("forecast", forecast)
    assert tool.description == "Weather forecast.\n\nOnly for Peru.\n\nReturns:\n    A text."
    assert tool.schema == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "name of the city"},
            "days": {"type": "integer", "description": "how many days ahead", "default": 1},
            "units": {"type": "string", "enum": ["c", "f"], "default": "c"},
            "since": {"type": "string", "format": "date", "default": "2026-01-01"},
            "odd": {},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    assert bound(forecast, city="Cusco") == {"city": "Cusco"}, "defaults are the function's own"


def test_descriptions_nearest_to_the_parameter_win():
    def tool(
        a: Annotated[int, Field(description="field")],
        b: Annotated[int, "text"],
        c: Annotated[int, Field(ge=1)],
        d: int = Field(4, description="default", ge=1),
        e: Annotated[Address, "whose"] = None,  # type: ignore[assignment]
    ):
        """Do it.

        Args:
            a: docstring
            b: docstring
            c: docstring
            d: docstring
        """

    properties = parameters(tool)["properties"]
    assert [properties[name]["description"] for name in "abcde"] == ["field", "text", "docstring", "default", "whose"]
    assert properties["d"]["default"] == 4
    assert properties["d"]["minimum"] == 1
    assert bound(tool, a=1, b=2, c=3) == {"a": 1, "b": 2, "c": 3, "d": 4}, "not pydantic's FieldInfo"


def test_nothing_is_annotated():
    def tool(a, b=2):
        pass

    assert parameters(tool) == {
        "type": "object",
        "properties": {"a": {}, "b": {"default": 2}},
        "required": ["a"],
        "additionalProperties": False,
    }


def test_names_that_pydantic_models_do_not_take():
    def tool(schema: str, model_dump: int, _private: int, copy: bool = False, self: int = 1, json: str = ""):
        pass

    assert list(parameters(tool)["properties"]) == ["schema", "model_dump", "_private", "copy", "self", "json"]
    assert bound(tool, schema="x", model_dump=1, _private=2) == {"schema": "x", "model_dump": 1, "_private": 2}


def test_further_names():
    def tool(city: str, **limits: int):
        pass

    assert parameters(tool)["additionalProperties"] == {"type": "integer"}
    assert bound(tool, city="x", a=1, b=2) == {"city": "x", "a": 1, "b": 2}
    with pytest.raises(ValueError, match=r"\Ab: "):
        bound(tool, city="x", a=1, b="many")


class Desk:
    """A travel desk."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def book(self, city: str) -> str:
        """Book a room."""
        return f"{self.name} {city}"

    @classmethod
    def cheapest(cls, days: int) -> str:
        """Find the cheapest."""
        return f"{cls.__name__} {days}"

    @staticmethod
    def cancel(number: int) -> str:
        """Cancel it."""
        return str(number)

    def __call__(self, question: str) -> str:
        """Ask the desk."""
        return f"{self.name} {question}"


class Silent:
    """Says nothing.

    Args:
        x: what to keep from saying
    """

    async def __call__(self, x: int) -> None:
        pass


def test_methods_and_callable_objects():
    desk = Desk("Lima")
    for function, name, description, names in (
        (desk.book, "book", "Book a room.", ["city"]),
        (desk.cheapest, "cheapest", "Find the cheapest.", ["days"]),
        (Desk.cancel, "cancel", "Cancel it.", ["number"]),
        (desk, "Desk", "Ask the desk.", ["question"]),
    ):
        tool = as_tool(function)
        assert (tool.name, tool.description, list(tool.schema["properties"])) == (name, description, names)
        assert tool.call == function
    unbound = as_tool(Desk.book)
    assert list(unbound.schema["properties"]) == ["self", "city"], "not confused with the method"
    silent = as_tool(Silent())
    assert (silent.name, silent.description) == ("Silent", "Says nothing.")
    assert silent.schema["properties"]["x"]["description"] == "what to keep from saying"


def test_what_a_partial_holds_is_not_the_models_to_choose():
    made = functools.partial(forecast, "Cusco", days=3)
    tool = as_tool(made)
    assert (tool.name, tool.description.splitlines()[0]) == ("forecast", "Weather forecast.")
    assert list(tool.schema["properties"]) == ["units", "since", "odd"]
    assert tool.call is made
    assert bound(made, units="f") == {"units": "f"}


def test_a_decorated_function_is_the_one_inside():
    @functools.wraps(forecast)
    def wrapper(*args, **kwargs):
        return forecast(*args, **kwargs)

    assert as_tool(wrapper).schema == as_tool(forecast).schema
    assert as_tool(wrapper).call is wrapper


def test_classes():
    tool = as_tool(Address)
    assert (tool.name, tool.description, tool.call) == ("Address", "Where somebody lives.", Address)
    assert tool.schema == {key: value for key, value in ADDRESS.items() if key != "description"}
    assert as_tool(Node).schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}


def test_types_of_an_enclosing_function():
    class Inner(BaseModel):
        x: int

    def tool(inner: Inner) -> int:
        return Inner(x=1).x  # a name of the body is in reach, also where annotations are text

    assert parameters(tool)["properties"]["inner"]["required"] == ["x"]


def positional(a: int, /) -> None: ...


def starred(*cities: str) -> None: ...


def called(callback: Callable[[], int]) -> None: ...


def unknown(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


class Foreign:
    pass


class Holds(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    inner: Foreign


def foreign(a: Foreign) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (positional, "'a' is positional-only, and a model names its arguments"),
        (starred, r"\*cities has no name .* cities: list"),
        (called, "no schema can be made"),
        (foreign, "no schema can be made.*Foreign"),
        (Holds, "no schema can be made.*Foreign"),
        (unknown, "Nowhere.*top level"),
        (int, "object"),
        (dict.fromkeys, "positional-only|arguments of"),
        (lambda x: x, "<lambda>"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_no_model_can_call(function: Any, said: str):
    with pytest.raises(InputError, match=said) as caught:
        as_tool(function)
    assert str(caught.value).startswith("tool ")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({}, ["city: Field required"]),
        ({"city": 5, "days": "x"}, ["city: Input should be a valid string", "days: Input should be a valid integer"]),
        ({"city": "x", "units": "k"}, ["units: Input should be 'c' or 'f'"]),
    ],
)
def test_what_does_not_fit_is_said_a_line_each(given: dict[str, Any], lines: list[str]):
    with pytest.raises(ValueError, match=r"city|days|units") as caught:
        bound(forecast, **given)
    said = str(caught.value).splitlines()
    assert len(said) == len(lines)
    assert all(line.startswith(start) for line, start in zip(said, lines, strict=True))


def test_functions_are_read_once_and_not_kept_alive():
    def tool(a: int) -> None: ...

    assert as_tool(tool).schema is as_tool(tool).schema
    assert as_tool(Desk("a").book).call != as_tool(Desk("b").book).call
    owner = Desk("c")
    as_tool(owner.book)
    watched = weakref.ref(tool), weakref.ref(owner)
    del tool, owner
    gc.collect()
    assert [ref() for ref in watched] == [None, None]


def test_a_schema_of_ones_own_is_left_alone():
    schema = {
        "type": "object",
        "title": "T",
        "properties": {"x": {"$ref": "#/$defs/X"}},
        "$defs": {"X": {"title": "X"}},
    }
    before = copy.deepcopy(schema)
    assert as_tool(Tool("f", "d", schema, forecast)).schema is schema
    assert schema == before
