"""What a target can do: one catalogue row, as values.

A row says for every feature whether the host does it by itself (`native`), whether the library makes it up
(`emulate`), or whether the request is refused before it is sent (`refuse`).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import field, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from .dataclass import dataclass

__all__ = ["FEATURES", "EndOfLife", "Feature", "ImageRule", "ModelRow", "ParameterRule", "Support"]

Support: TypeAlias = Literal["native", "emulate", "refuse"]
Feature: TypeAlias = Literal[
    "stream", "tools", "stream_tools", "forced_tools", "json_schema", "stream_json_schema", "images", "image_url"
]
FEATURES: tuple[Feature, ...] = (
    "stream",
    "tools",
    "stream_tools",
    "forced_tools",
    "json_schema",
    "stream_json_schema",
    "images",
    "image_url",
)


@dataclass(frozen=True, slots=True)
class ParameterRule:
    """What a host takes for one knob. Ends are included unless `open_ended`."""

    supported: bool = True
    minimum: float | None = None
    maximum: float | None = None
    open_ended: bool = False
    note: str = ""

    def refusal(self, value: float) -> str | None:
        """Why `value` cannot be sent, or None."""
        low, high = self.minimum, self.maximum
        if not self.supported:
            return self.note or "the host does not know it"
        if value != value:
            return "not a number is no value"
        below = low is not None and (value <= low if self.open_ended else value < low)
        above = high is not None and (value >= high if self.open_ended else value > high)
        if not below and not above:
            return None
        between = f"between {'-inf' if low is None else f'{low:g}'} and {'inf' if high is None else f'{high:g}'}"
        why = f"the host takes values {'strictly ' if self.open_ended else ''}{between}"
        return f"{why} ({self.note})" if self.note else why


@dataclass(frozen=True, slots=True)
class ImageRule:
    """What a host takes as images; None means unknown or unlimited."""

    max_count: int | None = None
    max_bytes: int | None = None
    max_pixels: int | None = None
    media_types: tuple[str, ...] = ("image/png", "image/jpeg", "image/gif", "image/webp")
    storage: tuple[str, ...] = ()
    """Object storage (`gs`, `s3`) that the host reads by itself."""


@dataclass(frozen=True, slots=True)
class EndOfLife:
    """The day from which a host does not serve a model any more, and who says so.

    `sure` is False for a date that is only claimed, by a third party say: it warns, and keeps nothing from being sent.
    """

    day: datetime.date
    sure: bool
    source: str


_NATIVE: Mapping[Feature, Support] = MappingProxyType(dict.fromkeys(FEATURES, "native"))


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model at a provider, as the catalogue knows it.

    Prices are US dollars per million tokens. `context_window` and `max_output` are tokens; only a window that is sure
    (recorded, documented or configured, not inferred) keeps a request from being sent. `default_max_tokens` is
    always sent when the caller names none, where the host's own default is too small to be what anybody wants.
    """

    model: str
    model_id: str
    features: Mapping[Feature, Support] = field(default_factory=lambda: _NATIVE)
    parameters: Mapping[str, ParameterRule] = field(default_factory=dict)
    image: ImageRule = ImageRule()
    context_window: int | None = None
    window_sure: bool = False
    max_output: int | None = None
    default_max_tokens: int | None = None
    input_price: Decimal | None = None
    output_price: Decimal | None = None
    end_of_life: EndOfLife | None = None
    regions: tuple[str, ...] = ()
    """Where the host may serve it, when the account's `region` does not say that."""
    unavailable: str = ""
    """Why an account cannot have the model (its region, say), as a sentence; empty when it can."""
    known: bool = True
    """False when the catalogue has no such row and the id is passed through as it is."""

    def evolve(self, **changes: Any) -> ModelRow:
        """A copy with some fields changed."""
        return replace(self, **changes)
