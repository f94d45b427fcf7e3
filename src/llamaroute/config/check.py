"""What pydantic cannot see: names that refer to other names. And what pydantic says, in words about the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from ..errors import ConfigError
from .models import Config
from .problems import KeyPath, Problem, did_you_mean, nearest
from .values import child_annotation, members

if TYPE_CHECKING:
    from ..spi import ProviderSettings, ProviderSpec

__all__ = ["cross_check", "settings_class", "validation_problems"]


def settings_class(name: str, table: Any, specs: Callable[[str], ProviderSpec]) -> type[ProviderSettings] | None:
    """The settings class of a provider's table, or None when its kind is not known."""
    kind = table.get("kind", name) if isinstance(table, Mapping) else getattr(table, "kind", None)
    try:
        return specs(kind).settings if isinstance(kind, str) else None
    except ConfigError:
        return None


# -- pydantic's errors --------------------------------------------------------------------------------------------


def validation_problems(
    error: ValidationError, data: Mapping[str, Any], specs: Callable[[str], ProviderSpec], secrets: Collection[str]
) -> list[Problem]:
    """Pydantic's errors as problems. `data` is what was validated; `secrets` are kept out of the texts."""
    problems: dict[KeyPath, Problem] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        kind, message = detail["type"], detail["msg"]
        path = _in_file(detail["loc"], data, missing=kind == "missing")
        if kind == "extra_forbidden":
            text = _unknown_key(path, data, specs)
        elif kind == "missing":
            text = "is missing"
        elif kind in ("model_type", "dict_type"):
            text = "should be a table"
        else:
            text = _WORDS.sub(lambda match: match[1] or "", message)
            for secret in secrets:
                text = text.replace(secret, "**********")
        first = problems.get(path)
        # The alternatives of a union each have their say: "should be a boolean or should be a string".
        problems[path] = Problem(path, f"{first.text} or {text}" if first and first.text != text else text, kind)
    # A list whose items are wrong is also "too short".
    return [p for p in problems.values() if p.kind != "too_short" or not any(_inside(q, p.path) for q in problems)]


_WORDS = re.compile(r"^(?:Value error, |Assertion failed, |[A-Z][a-z]+ (should ))| after validation, not \d+$")
"""What pydantic says around the thing itself."""


def _inside(path: KeyPath, outer: KeyPath) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer


def _in_file(location: tuple[str | int, ...], data: Any, *, missing: bool) -> KeyPath:
    """The part of pydantic's location that stands in the file: it also names union members and dict keys."""
    path: list[str | int] = []
    for index, step in enumerate(location):
        if step in data if isinstance(data, Mapping) else isinstance(data, (list, tuple)) and step in range(len(data)):
            data = data[step]
        elif not (missing and index == len(location) - 1):
            break
        path.append(step)
    return tuple(path)


def _unknown_key(path: KeyPath, data: Mapping[str, Any], specs: Callable[[str], ProviderSpec]) -> str:
    annotation: Any = Config
    for index, step in enumerate(path[:-1]):
        annotation = child_annotation(annotation, step)
        if index == 1 and path[0] == "providers":
            annotation = settings_class(str(step), data["providers"][step], specs) or annotation
    models = [member for member in members(annotation) if isinstance(member, type) and issubclass(member, BaseModel)]
    names = [name for model in models for name in model.model_fields]
    if len(path) == 1:
        names.append("profiles")
    return f"unknown key{did_you_mean(str(path[-1]), names)}"


# -- names ----------------------------------------------------------------------------------------------------------


def cross_check(config: Any, kinds: Callable[[], Iterable[str]]) -> Iterator[Problem]:
    """Problems with names that refer to other names. `config` is a table as read, or a `Config`.

    Whether a model's name means anything is decided when it is used: that needs the catalogue.
    """
    providers, routes, models = (_table(config, key) for key in ("providers", "routes", "models"))
    if _get(config, "providers") in (None, {}):
        yield Problem(("providers",), "no provider is configured; add a table [providers.NAME]")
    for name in providers:
        if ":" in str(name) or not str(name).strip():
            yield Problem(("providers", name), "a provider's name may not be empty or contain ':'")
    for name in _table(config, "limits"):
        if name not in providers:
            yield Problem(("limits", name), f"names no configured provider{did_you_mean(str(name), providers)}")
    for name, route in routes.items():
        if name in providers:
            yield Problem(("routes", name), "is also the name of a provider; rename one of them")
        elif str(name).partition(":")[0] in providers:
            yield Problem(("routes", name), "would hide a model of a provider; a route needs another name")
        yield from _check_targets(name, route, providers, routes)
    if isinstance(default := _get(config, "default"), str):
        yield from _check_default(default, providers, routes, models)
    for name, model in models.items():
        for key in ("ids", "end_of_life"):
            for owner in _table(model, key):
                if owner not in providers and owner not in (names := [*kinds(), *providers]):
                    hint = did_you_mean(str(owner), names)
                    yield Problem(("models", name, key, owner), f"neither a kind of provider nor a provider{hint}")
    yield from _check_allowed(("policy",), _get(config, "policy"), providers)
    for name, route in routes.items():
        yield from _check_allowed(("routes", name, "policy"), _get(route, "policy"), providers)


def _check_allowed(path: KeyPath, policy: Any, providers: Mapping[str, Any]) -> Iterator[Problem]:
    """A misspelt name would forbid what was meant to be allowed."""
    allowed = _get(policy, "providers")
    for index, name in enumerate(allowed if isinstance(allowed, (list, tuple)) else ()):
        if isinstance(name, str) and name not in providers:
            hint = did_you_mean(name, providers)
            yield Problem((*path, "providers", index), f"{name!r} is no configured provider{hint}")


def _check_targets(name: str, route: Any, providers: Mapping[str, Any], routes: Mapping[str, Any]) -> Iterator[Problem]:
    targets = _get(route, "targets")
    for index, item in enumerate(targets if isinstance(targets, (list, tuple)) else ()):
        target = item if isinstance(item, str) else _get(item, "target")
        if not isinstance(target, str):
            continue
        path: KeyPath = ("routes", name, "targets", index)
        if not isinstance(item, str):
            path = (*path, "target")
        provider, colon, model = target.partition(":")
        if colon and provider not in providers:
            yield Problem(path, f"{target!r} names no configured provider{did_you_mean(provider, providers)}")
        elif colon and not model:
            yield Problem(path, f"{target!r} names no model")
        elif target in routes and target not in providers:
            yield Problem(path, f"{target!r} is a route; a route leads to targets (provider:model) only")


def _check_default(
    default: str, providers: Mapping[str, Any], routes: Mapping[str, Any], models: Mapping[str, Any]
) -> Iterator[Problem]:
    known = {*routes, *providers, *models}
    for table in (*providers.values(), *models.values()):
        names = {**_table(table, "models"), **_table(table, "ids")}
        known |= {*names, *(name for name in names.values() if isinstance(name, str)), str(_get(table, "model"))}
    provider, colon, model = default.partition(":")
    if default in known:
        return
    if not default.strip() or (colon and not model):
        yield Problem(("default",), f"{default!r} names no model")
    elif colon and provider not in providers:
        # An id may have a colon of its own (`us.meta...-v1:0`), and a left side that is no provider is no prefix.
        if not re.search(r"[./]", provider):
            yield Problem(("default",), f"{default!r} names no configured provider{did_you_mean(provider, providers)}")
    elif not colon and not re.search(r"\d", default) and (close := nearest(default, [*routes, *providers], 0.75)):
        # Models have a number in their names. Other names are let through unless they look like one of the file's.
        yield Problem(("default",), f"{default!r} is neither a route nor a provider; did you mean {close!r}?")


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)


def _table(value: Any, key: str) -> Mapping[str, Any]:
    table = _get(value, key)
    return table if isinstance(table, Mapping) else {}
