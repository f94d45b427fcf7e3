"""Our `@dataclass` against the standard library's."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter

from llamaroute.types.dataclass import dataclass

OPTIONS: list[dict[str, bool]] = [
    {},
    {"slots": True},
    {"frozen": True},
    {"frozen": True, "slots": True},
    {"slots": True, "eq": False},
]


class Body:
    """The class as it is written."""

    a: int
    b: str = "b"
    c: list[int] = dataclasses.field(default_factory=list)
    d: float = dataclasses.field(default=1.0, repr=False, compare=False)
    e: int = dataclasses.field(default=7, init=False)
    f: dict[str, int] = dataclasses.field(default_factory=dict, init=False, repr=False)
    g: Any = None

    def double(self) -> int:
        """Twice `a`."""
        return self.a * 2


def both(options: dict[str, bool]) -> list[Any]:
    """Ours and the standard library's, of the same body."""
    space = {name: value for name, value in vars(Body).items() if name not in ("__dict__", "__weakref__")}
    return [make(**options)(type("Body", (), dict(space))) for make in (dataclass, dataclasses.dataclass)]


def same(options: dict[str, bool], use: Callable[[Any], Any]) -> Any:
    """What `use` makes of either class; errors by type and text."""
    results = []
    for cls in both(options):
        try:
            results.append(use(cls))
        except Exception as error:
            results.append((type(error), str(error)))
    assert results[0] == results[1]
    return results[0]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_is_the_standard_library_s_dataclass(options: dict[str, bool]) -> None:
    def shape(cls: Any) -> Any:
        fields = [(field.name, field.type, field.init, field.repr, field.compare) for field in dataclasses.fields(cls)]
        parameters = list(inspect.signature(cls).parameters.values())
        kinds = [(parameter.name, parameter.kind, parameter.annotation) for parameter in parameters]
        return fields, kinds, cls.__match_args__, getattr(cls, "__slots__", None), cls.__doc__

    same(options, shape)
    assert same(options, lambda cls: repr(cls(1, c=[2], g="x"))).startswith("Body(a=1, b='b', c=[2], e=7, g='x')")
    same(options, lambda cls: dataclasses.asdict(cls(1, "x", [3])))
    same(options, lambda cls: dataclasses.asdict(dataclasses.replace(cls(1, "x", [3]), a=5)))
    same(options, lambda cls: (cls(1).double(), cls(1).c is cls(1).c, cls(g=2, a=1).g))
    same(options, lambda cls: TypeAdapter(cls).dump_python(TypeAdapter(cls).validate_python({"a": 1, "c": ["2"]})))
    assert isinstance(same(options, lambda cls: cls())[1], str)
    same(options, lambda cls: repr(cls(1, "b", [], 1.0, 7)))  # the last is `g`: `e` has init=False
    same(options, lambda cls: cls(1, "b", [], 1.0, 7, 8))
    same(options, lambda cls: cls(1, z=2))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equality_and_hash(options: dict[str, bool]) -> None:
    assert same(options, lambda cls: [cls(1) == cls(1), cls(1) == cls(2), cls(1) == 1, cls(1, d=1) == cls(1, d=2)])
    same(options, lambda cls: cls(1).__eq__(1) is NotImplemented)
    if options.get("eq", True):
        same(options, lambda cls: hash(cls(1, c=())) == hash(cls(1, c=(), d=3)))
        same(options, lambda cls: hash(cls(1)))  # it holds a list

    def nan(cls: Any) -> bool:
        one = cls(math.nan)
        return one == one

    same(options, nan)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_setting_and_deleting(options: dict[str, bool]) -> None:
    def change(cls: Any) -> None:
        cls(1).a = 2

    def add(cls: Any) -> None:
        cls(1).z = 2

    def delete(cls: Any) -> None:
        one = cls(1)
        del one.a

    said = same(options, change)
    assert (said is None) != options.get("frozen", False)
    same(options, delete)
    if options != {"frozen": True, "slots": True}:  # there the standard library's own message is an accident
        same(options, add)


@pytest.mark.parametrize("slots", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_what_its_class_writes_itself_stays(slots: bool, frozen: bool) -> None:
    @dataclass(frozen=frozen, slots=slots)
    class Own:
        a: int

        def __post_init__(self) -> None:
            object.__setattr__(self, "a", self.a + 1)

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 3

    assert (repr(Own(1)), Own(1) == 5, hash(Own(1)), Own(1).a) == ("own", True, 3, 2)
    assert Own.__doc__ == "Own"


@dataclass(frozen=True, slots=True)
class Frozen:
    """Pickled by its name."""

    a: int
    b: Any = dataclasses.field(default=None, init=False)


def test_copies_of_frozen_ones_with_slots() -> None:
    one = Frozen(3)
    for other in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert other == one
        assert other is not one


@pytest.mark.parametrize("slots", [True, False])
def test_a_field_that_is_made_of_others(slots: bool) -> None:
    @dataclass(frozen=True, slots=slots)
    class Made:
        a: str
        b: str = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "b", self.a * 2)

    assert repr(Made("x")).endswith("Made(a='x', b='xx')")
    assert dataclasses.replace(Made("x"), a="y").b == "yy"


def test_one_that_holds_itself() -> None:
    @dataclass(slots=True)
    class Loop:
        inner: Any = None

    loop = Loop()
    loop.inner = [loop]
    assert repr(loop).endswith("Loop(inner=[...])")
