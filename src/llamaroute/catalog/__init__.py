"""What is known about models and about models at providers, each fact with its source.

    facts = llamaroute.catalog.facts("cloudflare", "llama-4-scout")
    facts["context_window"]      # Fact(value=131000, source=..., checked=..., evidence="documented")

The files under data/ are the catalogue; docs/catalog.md says how to read and extend them. `evidence` is `recorded`
(an answer of the real host shows it), `documented` (its documentation or published schema says so), or `inferred`.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, Literal

from ..types.capability import FEATURES, EndOfLife, Feature, ImageRule, ModelRow, ParameterRule, Support
from ..types.dataclass import dataclass

__all__ = [
    "Fact",
    "Licence",
    "Model",
    "facts",
    "identify",
    "is_llama_4",
    "licence",
    "models",
    "parse",
    "places",
    "released",
    "rows",
    "stale",
]

_DATA = os.path.join(os.path.dirname(__file__), "data")

_FAMILY = re.compile(r"llama[ ._-]?4(?![0-9b])", re.IGNORECASE)
"""`Llama 4`, and neither a Llama of 4 or 405 billion parameters nor Llama Guard 4."""

Evidence = Literal["recorded", "documented", "inferred"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: its value, where it is from (a URL or a citation), the day it was checked, and how sure it is."""

    value: Any
    source: str
    checked: datetime.date
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Model:
    """A canonical model. `released` is False for a model that was announced and never published."""

    name: str
    facts: Mapping[str, Fact]

    @property
    def released(self) -> bool:
        """Whether the model can be had anywhere."""
        fact = self.facts.get("released")
        return fact is None or bool(fact.value)


@cache
def models() -> Mapping[str, Model]:
    """All canonical models by name."""
    data = _read("models")
    return {name: Model(name, _facts(table, data["sources"])) for name, table in data["models"].items()}


@cache
def released() -> Mapping[str, bool]:
    """Names of all canonical models, and whether each can be had anywhere."""
    return {name: model.released for name, model in models().items()}


def identify(model_id: str) -> str | None:
    """The canonical model that a host's id (`us.meta.llama4-scout-17b-instruct-v1:0`) or a name a person gave it means,
    or None: the one whose name is in it, whatever stands between the letters and digits."""
    letters = _letters(model_id)
    return next((name for name in models() if _letters(name) in letters), None)


def is_llama_4(model_id: str) -> bool:
    """Whether an id or a name means a Llama 4 model, even if it does not say which: `llama4`."""
    return identify(model_id) is not None or _FAMILY.search(model_id) is not None


def _letters(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


@dataclass(frozen=True, slots=True)
class Licence:
    """What a model's licence asks of those who use it.

    Attributes:
        name: the licence's name.
        source: where it can be read.
        attribution: what a product made with the model has to show; empty when nothing is asked.
        no_images_from: countries, and the name of their union, whose operators have no rights in what the model does
            with images.
        images_source: where that can be read.
        most_users: monthly users above which the licence grants nothing; None for no limit.
    """

    name: str
    source: str
    attribution: str = ""
    no_images_from: frozenset[str] = frozenset()
    images_source: str = ""
    most_users: int | None = None


@lru_cache(maxsize=1024)
def licence(model: str, model_id: str = "") -> Licence | None:
    """The licence of a model by its canonical name or a host's id, or None when the catalogue knows none."""
    name = model if model in models() else identify(model) or identify(model_id)
    if name is None and not (is_llama_4(model) or is_llama_4(model_id)):
        return None
    # An id that says `llama4` and not which: one licence holds for the whole family.
    known = models()[name].facts if name else next(m.facts for m in models().values() if "licence" in m.facts)
    if "licence" not in known:
        return None
    images, users, shown = (known.get(f"licence.{key}") for key in ("no_images_from", "most_users", "attribution"))
    withheld = images.value if images else []
    withheld = [*withheld, *(code for name in withheld for code in places()[name].value)]
    return Licence(
        name=known["licence"].value,
        source=known["licence"].source,
        attribution=shown.value if shown else "",
        no_images_from=frozenset(withheld),
        images_source=images.source if images else "",
        most_users=users.value if users else None,
    )


@cache
def places() -> Mapping[str, Fact]:
    """Name of a union of countries -> their ISO 3166-1 codes."""
    data = _read("models")
    return _facts(data["places"], data["sources"])


def stale(day: datetime.date, days: int = 180) -> tuple[tuple[str, str, Fact], ...]:
    """Facts that were last checked more than `days` before `day`.

    Returns:
        For each, the `provider:model` or model it is about, its name, and the fact.
    """
    oldest = day - datetime.timedelta(days=days)
    known = {name: model.facts for name, model in models().items()} | {"places": places()}
    for file in sorted(os.listdir(_DATA)):
        kind = file.removesuffix(".toml").replace("_", "-")
        known |= {f"{kind}:{row.model}": facts(kind, row.model) for row in rows(kind)} if kind != "models" else {}
    return tuple(
        (owner, name, fact) for owner, found in known.items() for name, fact in found.items() if fact.checked < oldest
    )


@cache
def rows(kind: str) -> tuple[ModelRow, ...]:
    """The rows of a provider kind of this library, in the order of preference; empty when it has no file."""
    data = _read(kind)
    return parse(data) if data else ()


def facts(kind: str, model: str) -> Mapping[str, Fact]:
    """The facts behind the row of a canonical model at a provider kind.

    Raises:
        KeyError: there is no such row.
    """
    data = _read(kind)
    for table in data.get("model", ()):
        if table["model"] == model:
            return _facts(table["facts"], data["sources"])
    raise KeyError(f"{kind}:{model}")


def parse(data: Mapping[str, Any]) -> tuple[ModelRow, ...]:
    """Rows from a catalogue file's content (see docs/catalog.md for its form)."""
    return tuple(
        _row(table["model"], table["id"], _facts(table.get("facts", {}), data.get("sources", {})))
        for table in data.get("model", ())
    )


def _row(model: str, model_id: str, known: Mapping[str, Fact]) -> ModelRow:
    features: dict[Feature, Support] = dict.fromkeys(FEATURES, "native")
    parameters: dict[str, ParameterRule] = {}
    for name, fact in known.items():
        head, _, rest = name.partition(".")
        if head == "features":
            features[rest] = fact.value  # type: ignore[index]
        elif head == "parameters":
            parameters[rest] = ParameterRule(**fact.value)
    value = {name: fact.value for name, fact in known.items()}
    return ModelRow(
        model=model,
        model_id=model_id,
        features=features,
        parameters=parameters,
        image=ImageRule(
            max_count=value.get("image.max_count"),
            max_bytes=value.get("image.max_bytes"),
            max_pixels=value.get("image.max_pixels"),
            storage=tuple(value.get("image.storage", ())),
            **({"media_types": tuple(value["image.media_types"])} if "image.media_types" in value else {}),
        ),
        context_window=value.get("context_window"),
        window_sure="context_window" in known and known["context_window"].evidence != "inferred",
        max_output=value.get("max_output"),
        default_max_tokens=value.get("default_max_tokens"),
        input_price=_price(value.get("price.input")),
        output_price=_price(value.get("price.output")),
        end_of_life=_end(known.get("end_of_life")),
        regions=tuple(value.get("regions", ())),
    )


def _end(fact: Fact | None) -> EndOfLife | None:
    return None if fact is None else EndOfLife(fact.value, fact.evidence != "inferred", fact.source)


def _price(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _facts(table: Mapping[str, Any], sources: Mapping[str, str]) -> dict[str, Fact]:
    known: dict[str, Fact] = {}
    for name, fact in table.items():
        source = fact["source"]
        known[name] = Fact(fact["value"], sources.get(source, source), fact["checked"], fact["evidence"])
    return known


@cache
def _read(name: str) -> dict[str, Any]:
    try:
        with open(os.path.join(_DATA, f"{name.replace('-', '_')}.toml"), "rb") as file:
            import tomllib

            return tomllib.load(file)
    except FileNotFoundError:
        return {}
