"""The configuration as values: one class per table of the config file.

The attribute docstrings are the descriptions in docs/config.schema.json.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from ..errors import ConfigError
from ..spi import ProviderSettings
from ..types.capability import Feature, Support
from ..types.routing import Strategy
from ..types.settings import RetrySettings, Seconds, ShortTable, TimeoutSettings

if TYPE_CHECKING:
    from ..spi import ProviderSpec

__all__ = [
    "BudgetSettings",
    "Config",
    "CustomModel",
    "HedgeSettings",
    "ImageSettings",
    "LimitSettings",
    "PolicySettings",
    "RetrySettings",
    "RoutePolicySettings",
    "RouteSettings",
    "RouteTarget",
    "StateSettings",
    "TimeoutSettings",
]


class Table(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, defer_build=True, protected_namespaces=(), hide_input_in_errors=True
    )


Usd = Annotated[Decimal, Field(ge=0)]
"""US dollars."""
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


class BudgetSettings(Table):
    """What calls may cost. A call that could cost more than is left is not sent."""

    usd_per_call: Usd | None = None
    """US dollars that one call may cost, over retries and failover together. Default: no limit."""
    usd_per_day: Usd | None = None
    """US dollars that all calls of a day (UTC) may cost together. Default: no limit."""
    unpriced: Literal["refuse", "allow"] = "refuse"
    """What becomes of targets whose price, or longest answer, is not known. Default: refuse."""


class RoutePolicySettings(Table):
    """What holds for the calls of one route."""

    regions: Names | None = None
    """Patterns such as `us-*`: models may run there alone. Default: those of `[policy]`."""
    providers: Names | None = None
    """Your names of the accounts that may be asked. Default: those of `[policy]`."""
    budget: BudgetSettings | None = None
    """What the route's calls may cost; that of `[policy]` holds as well."""


class PolicySettings(Table):
    """The `[policy]` table: what keeps a call from being sent."""

    operator_domicile: Annotated[str, Field(pattern=r"^[A-Za-z]{2}$")] | None = None
    """Country (ISO 3166-1, two letters, or EU) in which you are domiciled or have your principal place of business.
    Default: not said, and nothing follows from it."""
    end_user: bool = False
    """Whether you are the end user of a product that another makes with the model, to whom its licence's rules for
    those who make products do not apply. Default: false."""
    monthly_active_users: Annotated[int, Field(ge=0)] | None = None
    """Users that your products, and those of your affiliates, had in the month before the model was released. Default:
    not said, and nothing follows from it."""
    own_licence: bool = False
    """Whether you have a licence of your own from the model's maker instead of the public one. Default: false."""
    regions: Names | None = None
    """Patterns such as `us-*`: models may run there alone. Default: anywhere."""
    providers: Names | None = None
    """Your names of the accounts that may be asked. Default: all."""
    budget: BudgetSettings | None = None
    """What calls may cost. Default: anything."""

    @field_validator("operator_domicile")
    @classmethod
    def _is_country(cls, code: str | None) -> str | None:
        code = code and code.upper()
        if code in _NO_COUNTRIES:
            said = {"code": code, "right": _NO_COUNTRIES[code]}
            raise PydanticCustomError("country", "{code} is no ISO 3166-1 code; did you mean {right}?", said)
        return code


_NO_COUNTRIES = {"EL": "GR", "UK": "GB", "EN": "GB"}
"""Codes that people write and that mean no country there."""


class RouteTarget(ShortTable):
    """One target of a route. A string alone means `target`."""

    short = "target"

    target: Annotated[str, Field(min_length=1)]
    """`provider:model`; `provider` alone for an account with a `model`; or a model name that some provider has."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Share of the calls, more than 0; `weighted`, `round-robin` and `least-busy` go by it. Default: 1."""


class HedgeSettings(Table):
    """A route's `hedge` table: another target is asked, too, when one is slow to begin; the first answer counts."""

    after: Annotated[str, Field(pattern=r"^p(?:[5-9][0-9])$")] | Seconds = "p95"
    """Seconds without a first token after which another is asked, more than 0, or which part of the target's latest
    calls had begun by then, from `p50` to `p99`: nothing is hedged until 50 of them are known. Default: p95."""
    max_extra: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Most that is spent on such second requests, as a part of what the route's calls cost, from 0 to 1.
    Default: 0.1."""


class RouteSettings(Table):
    """A `[routes.NAME]` table: a name that stands for one or several targets."""

    strategy: Strategy = "failover"
    """Which target is asked first: `failover` takes the first, `weighted` draws by weight, `round-robin` takes turns,
    `lowest-latency` takes the one whose first token comes soonest, `cheapest` the one with the lowest price for the
    request, `least-busy` the one with the fewest calls under way. The others follow when it fails. Default:
    failover."""
    targets: Annotated[tuple[RouteTarget, ...], Field(min_length=1)]
    """Targets in order, at least one."""
    timeout: TimeoutSettings | None = None
    """Total seconds, or a table. Default: the account's."""
    retry: RetrySettings | None = None
    """Attempts in all, or a table. Default: the account's."""
    on_break: Literal["fail", "restart", "continue"] = "fail"
    """What happens to a stream that breaks after it began: `fail` raises StreamInterruptedError, `restart` begins the
    answer anew, `continue` has it gone on with. Default: fail."""
    hedge: HedgeSettings | None = None
    """Whether another target is asked, too, when one is slow. Default: never."""
    policy: RoutePolicySettings | None = None
    """What keeps the route's calls from being sent, beside `[policy]`."""


class ImageSettings(Table):
    """The `[images]` table: how images are read and fetched, and what is made of them before they are sent."""

    max_bytes: Annotated[int, Field(ge=1)] = 20_000_000
    """Largest image that is read or fetched, in bytes, at least 1. Default: 20000000."""
    max_pixels: Annotated[int, Field(ge=1)] = 80_000_000
    """Most pixels of an image or a video's frame that is decoded, at least 1. Default: 80000000."""
    max_tokens: Annotated[int, Field(ge=147)] = 1300
    """Input tokens that an image may cost with `detail` None or "auto", at least 147 (one tile). Default: 1300."""
    max_sent: Annotated[int, Field(ge=10_000)] = 1_000_000
    """Bytes that an image may have as it is sent, in base64, unless its `detail` is "high"; at least 10000.
    Default: 1000000."""
    merge: bool = True
    """Whether images are merged into numbered sheets where a host takes fewer than there are. Default: true."""
    max_file_bytes: Annotated[int, Field(ge=1)] = 200_000_000
    """Largest document or video that is read, in bytes, at least 1. Default: 200000000."""
    max_pages: Annotated[int, Field(ge=1)] = 20
    """Most pages of one document, at least 1. Default: 20."""
    dpi: Annotated[float, Field(ge=10, le=1200)] = 150.0
    """Pixels an inch at which a document's pages are drawn, from 10 to 1200; fewer where a page would have more pixels
    than its `detail` lets through. Default: 150."""
    timeout: Seconds = 10.0
    """Seconds for fetching one image, more than 0. Default: 10."""
    redirects: Annotated[int, Field(ge=0)] = 3
    """Redirects that are followed, at least 0. Default: 3."""
    allow_private: bool = False
    """Whether image URLs may point at private, loopback and link-local addresses. Default: false."""
    allow_files: bool = True
    """Whether local paths may be read; those in message dicts never are. Default: true."""


class LimitSettings(Table):
    """A `[limits.NAME]` table: how much is sent to the account of that name. Calls beyond it wait, or are refused."""

    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Requests a minute, at least 1; a tenth of it may go out at once. Default: no limit."""
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Tokens of requests and answers a minute, at least 1; a tenth of it may go out at once. Default: no limit."""
    concurrency: Annotated[int, Field(ge=1)] | None = None
    """Requests under way at the same time, at least 1. Default: no limit."""
    queue: Annotated[int, Field(ge=0, le=10_000)] = 1000
    """Calls that may wait, from 0 to 10000; a further one is refused at once. Default: 1000."""
    max_wait: Seconds | None = None
    """Seconds that a call may wait, more than 0. Default: until its timeout."""
    reserve_max_tokens: bool = True
    """Whether a call that names `max_tokens` sets all of them aside until its answer is there, as Azure and Bedrock
    count; else what answers usually have. Default: true."""
    adaptive: bool = True
    """Whether what the host says counts besides: a 429, Retry-After, what it says is left. Default: true."""


class StateSettings(Table):
    """The `[state]` table: where limits, cooldowns and budgets are kept that several processes share."""

    url: SecretStr | None = None
    """Redis server, such as `redis://localhost:6379/0`, `rediss://...` or `unix:///path`. Default: none, everything
    lives in the process."""
    prefix: Annotated[str, Field(min_length=1)] = "llamaroute"
    """What the names of all keys there begin with. Default: llamaroute."""

    @field_validator("url")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            # The value is not shown: it may hold a password.
            raise PydanticCustomError("redis_url", "should be redis://host:port/number, rediss://... or unix:///path")
        return url


class CustomModel(Table):
    """A `[models."NAME"]` table: a model the catalogue lacks, or facts that replace what the catalogue says.

    What is not given stays as the catalogue has it, or unknown."""

    ids: dict[str, str] = Field(default_factory=dict)
    """Kind of provider, or your name of an account -> the id of the model there. Default: none, which means that the
    facts below go for the ids the catalogue has."""
    context_window: Annotated[int, Field(ge=1)] | None = None
    """Tokens of request and answer together, at least 1."""
    max_output: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of an answer, at least 1."""
    default_max_tokens: Annotated[int, Field(ge=1)] | None = None
    """`max_tokens` that is sent when a call names none, at least 1."""
    features: dict[Feature, Support] = Field(default_factory=dict)
    """Feature -> `native`, `emulate` or `refuse`."""
    input_price: Annotated[Decimal, Field(ge=0)] | None = None
    """US dollars per million input tokens, at least 0."""
    output_price: Annotated[Decimal, Field(ge=0)] | None = None
    """US dollars per million output tokens, at least 0."""
    end_of_life: datetime.date | dict[str, datetime.date] | None = None
    """Day from which the model is not served any more, or a table: kind of provider, or your name of an account -> the
    day there."""


class Config(Table):
    """A whole configuration, as it is in force: variables and secrets resolved, the profile merged in."""

    version: Literal[1] = 1
    """Version of the file's format. Default: 1."""
    default: str | None = None
    """What a call uses that names no model: a route, `provider:model`, or a model name. Default: the only provider."""
    providers: dict[str, SerializeAsAny[ProviderSettings]] = Field(default_factory=dict)
    """Your name of an account (no `:` in it) -> its table. `kind` defaults to the name."""
    routes: dict[str, RouteSettings] = Field(default_factory=dict)
    """Your name of a route (not that of a provider) -> its table."""
    limits: dict[str, LimitSettings] = Field(default_factory=dict)
    """Your name of an account -> how much is sent to it."""
    state: StateSettings = Field(default_factory=StateSettings.model_construct)
    """Where limits, cooldowns and budgets are kept that several processes share."""
    images: ImageSettings = Field(default_factory=ImageSettings.model_construct)
    """How images are read and fetched, and what is made of them before they are sent."""
    models: dict[str, CustomModel] = Field(default_factory=dict)
    """Model name -> catalogue row added or overridden."""
    policy: PolicySettings = Field(default_factory=PolicySettings.model_construct)
    """What keeps a call from being sent: licence, regions, accounts, budgets."""

    @field_validator("providers", mode="before")
    @classmethod
    def _by_kind(cls, tables: Any, info: ValidationInfo) -> Any:
        """Each table as its kind's own settings. `info.context["specs"]` stands in for the registry."""
        if not isinstance(tables, Mapping):
            return tables
        specs = (info.context or {}).get("specs") or registry_specs
        settings, errors = {}, list[InitErrorDetails]()
        for name, table in tables.items():
            if not isinstance(name, str):  # possible in YAML; pydantic says so
                settings[name] = table
                continue
            try:
                settings[name] = provider_settings(name, table, specs)
            except ConfigError as error:
                text = str(error).removeprefix(f"{error.key}: ")
                if "kind" not in table:
                    text += "; a table whose name is no kind needs the key `kind`"
                problem = PydanticCustomError("unknown_kind", "{text}", {"text": text})
                errors.append({"type": problem, "loc": (name, "kind"), "input": None})
            except ValidationError as error:
                for detail in error.errors(include_url=False, include_context=False):
                    # Input is left out: it may be a secret.
                    problem = PydanticCustomError(detail["type"], "{text}", {"text": detail["msg"]})
                    errors.append({"type": problem, "loc": (name, *detail["loc"]), "input": None})
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors, hide_input=True)
        return settings

    @field_serializer("providers")
    def _dump_providers(self, providers: dict[str, ProviderSettings]) -> dict[str, dict[str, Any]]:
        return {name: settings.model_dump(mode="json") for name, settings in providers.items()}

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        # Provider tables hold tokens in plain strings too (headers, a proxy's password): names and kinds only.
        yield "default", self.default
        yield "providers", {name: settings.kind for name, settings in self.providers.items()}
        yield "routes", {name: [target.target for target in route.targets] for name, route in self.routes.items()}
        yield "models", list(self.models)


def registry_specs(kind: str) -> ProviderSpec:
    """The registry's spec of a kind.

    Raises:
        ConfigError: no such kind, or its extra is not installed.
    """
    from ..registry import provider_spec

    return provider_spec(kind)


def provider_settings(name: str, table: Any, specs: Callable[[str], ProviderSpec]) -> Any:
    """A provider's table as the settings class of its kind. What is no table is left for pydantic to refuse.

    Raises:
        ConfigError: unknown kind.
        ValidationError: the table does not fit.
    """
    if isinstance(table, ProviderSettings) or not isinstance(table, Mapping):
        return table
    kind = table.get("kind", name)
    settings = specs(kind).settings if isinstance(kind, str) else ProviderSettings
    return settings.model_validate({**table, "kind": kind})
