"""`@dataclass` as in the standard library, made in a fourth of the time.

`dataclasses` writes the source of up to six methods for every class and compiles each by itself, which for this
package's classes took a tenth of a program's start. Here only `__init__` is compiled, which calls run; the others
are the same functions for all classes. The fields themselves, slots and `__match_args__` are the standard library's, so
that `fields`, `replace`, `asdict`, `match`, pickle and pydantic find what they know. `__init__` of frozen classes
writes through the slots, which is faster than `object.__setattr__`.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, FrozenInstanceError, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses

    def dataclass(cls: Any = None, /, *, eq: bool = True, frozen: bool = False, slots: bool = False) -> Any:
        """See `dataclasses.dataclass`; of its options, those that are used here."""

        def make(cls: Any) -> Any:
            own = vars(cls)
            keeps = {name for name in ("__repr__", "__eq__", "__hash__", "__getstate__", "__setstate__") if name in own}
            if cls.__doc__ is None:
                cls.__doc__ = cls.__name__  # else the standard library writes one, from the signature
            # What would be compiled is switched off; `eq` and `frozen` are told below.
            cls = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(cls)
            methods = _methods(cls, eq, frozen, slots)
            for name, method in methods.items():
                if name not in keeps:
                    setattr(cls, name, method)
            return cls

        return make if cls is None else make(cls)


def _methods(cls: type[Any], eq: bool, frozen: bool, slots: bool) -> dict[str, Any]:
    """Methods by name."""
    held = fields(cls)
    methods: dict[str, Any] = {"__init__": _init(cls, held, frozen, slots), "__repr__": _repr}
    if eq:
        cls._compared = attrgetter(*[field.name for field in held if field.compare] or ["__class__"])
        methods |= {"__eq__": _equal, "__hash__": _hash if frozen else None}
    if frozen:
        methods |= {"__setattr__": _frozen_set, "__delattr__": _frozen_delete}
        if slots:
            methods |= {"__getstate__": _get_state, "__setstate__": _set_state}
    return methods


def _init(cls: type[Any], held: tuple[Field[Any], ...], frozen: bool, slots: bool) -> Any:
    """`__init__`, compiled."""
    space: dict[str, Any] = {"_MISSING": MISSING}
    parameters, body = ["self"], []
    for field in held:
        name, value = field.name, field.name
        if field.default is not MISSING:
            space[f"_default_{name}"] = field.default
            default = f"_default_{name}"
        elif field.default_factory is not MISSING:
            space[f"_factory_{name}"] = field.default_factory
            default, value = "_MISSING", f"_factory_{name}() if {name} is _MISSING else {name}"
        else:
            default = ""
        if field.init:
            parameters.append(f"{name}={default}" if default else name)
        elif default == "_MISSING":
            value = f"_factory_{name}()"
        elif default:
            value = default
        else:
            continue  # `__post_init__` sets it
        if not frozen:
            body.append(f" self.{name} = {value}")
        elif slots:
            space[f"_set_{name}"] = getattr(cls, name).__set__
            body.append(f" _set_{name}(self, {value})")
        else:
            space["_set"] = object.__setattr__
            body.append(f" _set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append(" self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n" + ("\n".join(body) or " pass"), space)
    made = space["__init__"]
    made.__module__, made.__qualname__ = cls.__module__, f"{cls.__qualname__}.__init__"
    made.__annotations__ = {field.name: field.type for field in held if field.init} | {"return": None}
    return made


def _equal(self: Any, other: Any) -> Any:
    return self._compared(self) == self._compared(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(self._compared(self))


@recursive_repr()
def _repr(self: Any) -> str:
    shown = ", ".join([f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if field.repr])
    return f"{type(self).__qualname__}({shown})"


def _frozen_set(self: Any, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _frozen_delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
