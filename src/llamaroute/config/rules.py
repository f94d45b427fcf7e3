"""The `[policy]` table as what the layers go by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..layers.spending import Limit, Spending
from ..routing.policy import Allowed, Rules
from .models import BudgetSettings, Config

if TYPE_CHECKING:
    from ..state.base import Counter

__all__ = ["rules_of", "spending_of"]


def rules_of(config: Config, route: str | None) -> Rules | None:
    """The rules for calls of a route, or of none; None when nothing is forbidden."""
    policy = config.policy
    allowed: dict[str, Allowed] = {}
    for key, table in _tables(config, route):
        for name in ("regions", "providers"):
            if (names := getattr(table, name)) is not None:
                allowed[name] = Allowed(names, f"{key}.{name}")
    rules = Rules(
        domicile=policy.operator_domicile,
        end_user=policy.end_user,
        own_licence=policy.own_licence,
        monthly_users=policy.monthly_active_users,
        **allowed,
    )
    bound = rules.domicile is not None or rules.monthly_users is not None or allowed
    return rules if bound else None


def spending_of(config: Config, route: str | None, counter: Counter) -> Spending | None:
    """The budgets for calls of a route, or of none: the route's and those of all calls. None when there are none."""
    limits: list[Limit] = []
    unpriced = ""
    for key, table in _tables(config, route):
        budget: BudgetSettings | None = table.budget
        if budget is None or (budget.usd_per_call is None and budget.usd_per_day is None):
            continue
        if budget.usd_per_call is not None:
            limits.append(Limit(f"{key}.budget.usd_per_call", budget.usd_per_call))
        if budget.usd_per_day is not None:
            name = "spent" if key == "policy" else f"spent:{route}"
            limits.append(Limit(f"{key}.budget.usd_per_day", budget.usd_per_day, name))
        if budget.unpriced == "refuse":
            unpriced = unpriced or f"{key}.budget.unpriced"
    return Spending(tuple(limits), counter, unpriced) if limits else None


def _tables(config: Config, route: str | None) -> Iterator[tuple[str, Any]]:
    """What holds, with its key, outermost first."""
    yield "policy", config.policy
    own = config.routes[route].policy if route is not None else None
    if own is not None:
        yield f"routes.{route}.policy", own
