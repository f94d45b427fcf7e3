"""The `[policy]` table: what it may say, and what the layers get of it."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest

from llamaroute.config.rules import rules_of, spending_of
from llamaroute.layers.spending import Limit
from llamaroute.routing.policy import Allowed, Rules
from llamaroute.state.memory import MemoryCounter

BOX = {"base_url": "http://x"}
BASE = {"providers": {"box": BOX, "hub": {}}, "routes": {"r": {"targets": ["box:m"]}, "s": {"targets": ["box:m"]}}}


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"operator_domicile": "UK"}, "operator_domicile: UK is no ISO 3166-1 code; did you mean GB?"),
        ({"operator_domicile": "el"}, "operator_domicile: EL is no ISO 3166-1 code; did you mean GR?"),
        ({"operator_domicile": "Germany"}, "operator_domicile: "),
        ({"operator_domicil": "DE"}, "operator_domicil: unknown key; did you mean 'operator_domicile'?"),
        ({"monthly_active_users": -1}, "monthly_active_users: should be greater than or equal to 0"),
        ({"regions": []}, "regions: "),
        ({"regions": "us-*"}, "regions: "),
        ({"regions": [""]}, "regions[0]: "),
        ({"providers": ["bix"]}, "providers[0]: 'bix' is no configured provider; did you mean 'box'?"),
        ({"budget": {"usd_per_day": -1}}, "budget.usd_per_day: should be greater than or equal to 0"),
        ({"budget": {"usd_per_month": 1}}, "budget.usd_per_month: unknown key"),
        ({"budget": {"unpriced": "ignore"}}, "budget.unpriced: should be 'refuse' or 'allow'"),
    ],
)
def test_what_is_refused(fails, policy, message) -> None:
    error = fails({**BASE, "policy": policy})
    assert str(error).splitlines()[0].startswith(f"config: policy.{message}"), str(error)


def test_a_route_may_say_less(fails) -> None:
    """Facts about you are the same whichever route is taken."""
    for key in ("operator_domicile", "end_user", "monthly_active_users", "own_licence"):
        route = {"targets": ["box:m"], "policy": {key: None}}
        assert f"routes.r.policy.{key}: unknown key" in str(fails({**BASE, "routes": {"r": route}}))
    route = {"targets": ["box:m"], "policy": {"providers": ["box", "hob"]}}
    assert "routes.r.policy.providers[1]: 'hob' is no configured provider; did you mean 'hub'?" in str(
        fails({**BASE, "routes": {"r": route}})
    )


def test_nothing_said_forbids_nothing(load) -> None:
    config = load(BASE).config
    assert rules_of(config, None) is rules_of(config, "r") is None
    assert spending_of(config, "r", MemoryCounter()) is None
    config = load({**BASE, "policy": {"end_user": True, "budget": {"unpriced": "allow"}}}).config
    assert rules_of(config, None) is None
    assert spending_of(config, None, MemoryCounter()) is None


def test_rules(load) -> None:
    policy = {"operator_domicile": "de", "monthly_active_users": 5, "regions": ["us-*"], "providers": ["box"]}
    data = {**BASE, "policy": policy, "routes": {"r": {"targets": ["box:m"], "policy": {"regions": ["eu-*", "x"]}}}}
    config = load(data).config
    assert rules_of(config, None) == Rules(
        domicile="DE",
        monthly_users=5,
        regions=Allowed(("us-*",), "policy.regions"),
        providers=Allowed(("box",), "policy.providers"),
    )
    assert rules_of(config, "r") == Rules(
        domicile="DE",
        monthly_users=5,
        regions=Allowed(("eu-*", "x"), "routes.r.policy.regions"),
        providers=Allowed(("box",), "policy.providers"),
    )


def test_budgets_of_a_route_come_on_top(load) -> None:
    route = {"targets": ["box:m"], "policy": {"budget": {"usd_per_day": 0.1, "unpriced": "allow"}}}
    policy = {"budget": {"usd_per_call": "0.25", "usd_per_day": 50}}
    counter = MemoryCounter()
    config = load({**BASE, "policy": policy, "routes": {"r": route, "s": {"targets": ["box:m"]}}}).config
    common = (
        Limit("policy.budget.usd_per_call", Decimal("0.25")),
        Limit("policy.budget.usd_per_day", Decimal(50), "spent"),
    )
    for name in (None, "s"):
        spending = spending_of(config, name, counter)
        assert spending is not None
        assert (spending.limits, spending.counter, spending.unpriced) == (common, counter, "policy.budget.unpriced")
    spending = spending_of(config, "r", counter)
    assert spending is not None
    own = Limit("routes.r.policy.budget.usd_per_day", Decimal("0.1"), "spent:r")
    assert spending.limits == (*common, own), "in decimal, as written"
    assert spending.unpriced == "policy.budget.unpriced"


@pytest.mark.parametrize(
    ("given", "known"),
    [
        (datetime.date(2027, 1, 31), datetime.date(2027, 1, 31)),
        ("2027-01-31", datetime.date(2027, 1, 31)),
        ({"box": "2027-01-31"}, {"box": datetime.date(2027, 1, 31)}),
    ],
)
def test_ends_of_models(load, given, known) -> None:
    """TOML has days of its own; JSON writes them as text."""
    assert load({**BASE, "models": {"m": {"end_of_life": given}}}).config.models["m"].end_of_life == known


def test_wrong_ends_of_models(fails) -> None:
    error = fails({**BASE, "models": {"m": {"end_of_life": {"bix": "2027-01-31"}}}})
    assert "models.m.end_of_life.bix: neither a kind of provider nor a provider; did you mean 'box'?" in str(error)
    assert "models.m.end_of_life: " in str(fails({**BASE, "models": {"m": {"end_of_life": "soon"}}}))
