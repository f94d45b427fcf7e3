"""`model=` -> the targets it means. Pure: configuration and catalogue in, targets out.

In this order: a route's name; `provider:rest`, cut at the first colon when the left side is a configured provider; a
configured provider's name alone; a canonical model name, at every configured provider that has it, in the file's
order; an id that exactly one configured provider lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from ..config.models import Config, CustomModel, RouteSettings
from ..errors import CapabilityError, ConfigError, InputError, LlamarouteError
from ..spi import ProviderSettings, ProviderSpec, Target
from ..types.capability import EndOfLife, ModelRow
from ..types.dataclass import dataclass
from ..types.response import Notice

__all__ = ["Account", "Resolution", "make_account", "resolve"]


Released = Callable[[], Mapping[str, bool]]
"""Canonical model names -> whether each was ever released; asked only when a name leads nowhere nearer."""


@dataclass(slots=True, eq=False)
class Account:
    """A configured provider with the rows of its models, as its own settings and `[models]` make them."""

    name: str
    spec: ProviderSpec
    options: ProviderSettings
    rows: tuple[ModelRow, ...]
    catalogued: bool
    """Whether the catalogue lists what this kind of host offers; a server of one's own offers what it is given."""

    def target(self, row: ModelRow) -> Target:
        """A target of this account."""
        if self.spec.refine is not None:
            row = self.spec.refine(row, self.options)
        if self.options.features:
            row = row.evolve(features={**row.features, **self.options.features})
        return Target(self.name, self.spec.name, row.model, row.model_id, self.options, row, self.spec.transport)


@dataclass(slots=True, eq=False)
class Resolution:
    """The targets in order, the route they are from (if any), and what the caller should know."""

    targets: tuple[Target, ...]
    route: RouteSettings | None = None
    notices: tuple[Notice, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    """Target -> its share, where a route says so."""


def make_account(
    name: str,
    spec: ProviderSpec,
    options: ProviderSettings,
    rows: Sequence[ModelRow],
    models: Mapping[str, CustomModel],
) -> Account:
    """An account from its table, the catalogue's rows for its kind, and the file's own `[models]`."""
    known: dict[str, ModelRow] = {row.model: row for row in rows}
    for canonical, model_id in options.models.items():
        base = known.get(canonical) or ModelRow(canonical, model_id)
        known[canonical] = base.evolve(model_id=model_id)
    own = options.model
    if own is not None and not any(own in (row.model, row.model_id) for row in known.values()):
        known[own] = ModelRow(own, own)
    for canonical, custom in models.items():
        own_id = custom.ids.get(name) or custom.ids.get(spec.name)
        if canonical not in known:
            if own_id is None:
                continue
            known[canonical] = ModelRow(canonical, own_id)
        elif own_id is not None:
            known[canonical] = known[canonical].evolve(model_id=own_id)
        known[canonical] = _overridden(known[canonical], custom, (name, spec.name))
    refined = tuple(known.values()) if spec.refine is None else tuple(spec.refine(r, options) for r in known.values())
    return Account(name, spec, options, refined, catalogued=bool(rows))


def _overridden(row: ModelRow, custom: CustomModel, owners: tuple[str, str]) -> ModelRow:
    names = ("context_window", "max_output", "default_max_tokens", "input_price", "output_price")
    changes = {name: getattr(custom, name) for name in names if getattr(custom, name) is not None}
    if "context_window" in changes:
        changes["window_sure"] = True
    end = custom.end_of_life
    if isinstance(end, Mapping):
        end = next((end[owner] for owner in owners if owner in end), None)
    if end is not None:
        changes["end_of_life"] = EndOfLife(end, True, f'[models."{row.model}"]')
    return row.evolve(features={**row.features, **custom.features}, **changes)


def resolve(model: str | None, config: Config, accounts: Mapping[str, Account], canonical: Released) -> Resolution:
    """The targets of a call.

    Args:
        model: what the caller named, or None for the configured default.
        config: the configuration.
        accounts: account name -> account, in the file's order.
        canonical: gives the catalogue's model names -> whether the model was ever released.

    Raises:
        ConfigError: nothing was named and there is no default, or the configuration's own name leads nowhere.
        InputError: the caller's name leads nowhere.
        CapabilityError: the model exists and no configured provider has it, or it was never released.
    """
    if model is None:
        if config.default is not None:
            return _configured(config.default, "default", config, accounts, canonical)
        if len(accounts) == 1:
            account = next(iter(accounts.values()))
            return Resolution((_default_target(account),))
        raise ConfigError(
            "no model was named and the configuration has no 'default'; set default to a route or provider:model, "
            f"or pass model= (providers: {', '.join(accounts) or 'none'})",
            key="default",
        )
    route = config.routes.get(model)
    if route is not None:
        parts = [
            _configured(target.target, f"routes.{model}.targets", config, accounts, canonical)
            for target in route.targets
        ]
        return Resolution(
            tuple({target.name: target for part in parts for target in part.targets}.values()),
            route,
            tuple(notice for part in parts for notice in part.notices),
            _weights(route, parts),
        )
    return _named(model, config, accounts, canonical)


def _weights(route: RouteSettings, parts: Sequence[Resolution]) -> dict[str, float]:
    """A model's name that stands for several targets gives each of them the weight beside it."""
    weights: dict[str, float] = {}
    for settings, part in zip(route.targets, parts, strict=True):
        for target in part.targets:
            weights.setdefault(target.name, settings.weight)
    return weights


def _configured(
    name: str, key: str, config: Config, accounts: Mapping[str, Account], canonical: Released
) -> Resolution:
    try:
        if key == "default" and name in config.routes:
            return resolve(name, config, accounts, canonical)
        return _named(name, config, accounts, canonical)
    except InputError as error:
        raise ConfigError(f"{key}: {error}", key=key) from None


def _named(name: str, config: Config, accounts: Mapping[str, Account], canonical: Released) -> Resolution:
    left, colon, rest = name.partition(":")
    if colon and left in accounts:
        return _at(accounts[left], rest, canonical)
    if name in accounts:
        return Resolution((_default_target(accounts[name]),))
    found = [account.target(row) for account in accounts.values() for row in account.rows if row.model == name]
    if found:
        return Resolution(tuple(found))
    if canonical().get(name) is False:
        raise _never_released(name)
    listed = [target for account in accounts.values() if (target := _listed(account, name)) is not None]
    if len(listed) == 1:
        return Resolution((listed[0],))
    if len(listed) > 1:
        raise InputError(
            f"model {name!r} is listed by several providers; name one: {', '.join(t.name for t in listed)}"
        )
    if name in canonical():
        raise CapabilityError(
            f"no configured provider has {name} (providers: {', '.join(accounts) or 'none'})",
            missing=dict.fromkeys(accounts, name),
        )
    raise _unknown(name, config, accounts, canonical)


def _listed(account: Account, model_id: str) -> Target | None:
    """The target of an id that an account's rows name."""
    return next((account.target(row) for row in account.rows if row.model_id == model_id), None)


def _at(account: Account, rest: str, canonical: Released) -> Resolution:
    """`rest` at one account: a canonical name, an id it lists, or any id at all."""
    if not rest:
        return Resolution((_default_target(account),))
    for row in account.rows:
        if rest in (row.model, row.model_id):
            return Resolution((account.target(row),))
    if canonical().get(rest) is False:
        raise _never_released(rest)
    if account.catalogued and rest in canonical():
        offers = ", ".join(row.model for row in account.rows)
        raise CapabilityError(
            f"{account.name} does not offer {rest} (it has {offers}); give its id in "
            f"providers.{account.name}.models if your account does",
            missing={f"{account.name}:{rest}": rest},
        )
    notice = Notice(
        "unknown_model",
        f"the catalogue does not know {rest!r} at {account.name}; the name was sent as it is",
        "model",
    )
    return Resolution((account.target(ModelRow(rest, rest, known=False)),), notices=(notice,))


def _default_target(account: Account) -> Target:
    """What an account's name alone means."""
    name = account.options.model
    if name is None and len(account.options.models) == 1:
        name = next(iter(account.options.models))
    name = name or account.spec.default_model
    if name is None:
        raise ConfigError(
            f"providers.{account.name}: which model? set providers.{account.name}.model, or name "
            f"{account.name}:<model> in the call",
            key=f"providers.{account.name}.model",
        )
    for row in account.rows:
        if name in (row.model, row.model_id):
            return account.target(row)
    return account.target(ModelRow(name, name))


def _never_released(name: str) -> LlamarouteError:
    return CapabilityError(f"{name} was announced and never released: no provider has it", missing={"*": name})


def _unknown(name: str, config: Config, accounts: Mapping[str, Account], canonical: Released) -> InputError:
    import difflib

    names = [*config.routes, *accounts, *canonical(), *(row.model for a in accounts.values() for row in a.rows)]
    near = difflib.get_close_matches(name, names, 1, cutoff=0.7)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    left, colon, _ = name.partition(":")
    if colon and (close := difflib.get_close_matches(left, accounts, 1)):
        hint = f"; did you mean the provider {close[0]!r}?"
    return InputError(
        f"no route, provider or model is called {name!r}{hint} (routes: {', '.join(config.routes) or 'none'}; "
        f"providers: {', '.join(accounts) or 'none'}). An id the catalogue does not know is passed through when it "
        "is written provider:id"
    )
