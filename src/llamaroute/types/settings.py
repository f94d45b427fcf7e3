"""Settings that an account and a route both have. None always means: not said here, the next one outwards decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError

__all__ = ["RetrySettings", "Seconds", "ShortTable", "TimeoutSettings", "Wait"]

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A duration; more than 0."""

Wait = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A pause; 0 or more."""


class ShortTable(BaseModel):
    """A table that may be written as one value: that of its key `short`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, defer_build=True, protected_namespaces=(), hide_input_in_errors=True
    )

    short: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _widen(cls, value: Any) -> Any:
        if isinstance(value, (Mapping, cls)):
            return value
        if isinstance(value, bool):  # lax validation would take `true` for 1
            raise PydanticCustomError(
                "short_table", "should be a value for `{short}`, or a table", {"short": cls.short}
            )
        return {cls.short: value}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        table = handler(core_schema)
        value = handler.resolve_ref_schema(table)["properties"][cls.short]
        options = [option for option in value.get("anyOf", [value]) if option.get("type") != "null"]
        return {"anyOf": [*({k: v for k, v in option.items() if k != "title"} for option in options), table]}


class TimeoutSettings(ShortTable):
    """Seconds a call may take. A number alone means `total`."""

    short = "total"

    connect: Seconds | None = None
    """Seconds for DNS, TCP and TLS together, more than 0. Default: 5."""
    first_token: Seconds | None = None
    """Seconds from sending the request to the first piece of the answer, more than 0. Default: 60 for streams, and
    `total` for plain calls, whose headers come when the whole answer is ready."""
    idle: Seconds | None = None
    """Seconds between two pieces of the answer, more than 0. Default: 60."""
    total: Seconds | None = None
    """Seconds for everything, over retries and failover together, more than 0. Default: 600."""


class RetrySettings(ShortTable):
    """How often the same target is asked. A number alone means `attempts`."""

    short = "attempts"

    attempts: Annotated[int, Field(ge=1)] | None = None
    """Attempts in all, at least 1; 1 means no retry. Default: 3."""
    base: Wait | None = None
    """Seconds the first wait may last, at least 0; each further one may last twice as long. Default: 0.5."""
    max: Wait | None = None
    """Seconds no wait exceeds, at least 0 and not less than `base`. Default: 20."""

    @model_validator(mode="after")
    def _ordered(self) -> RetrySettings:
        if self.base is not None and self.max is not None and self.base > self.max:
            raise PydanticCustomError("retry_order", "`base` should not be more than `max`")
        return self
