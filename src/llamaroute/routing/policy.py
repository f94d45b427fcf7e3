"""What keeps a target from being asked: licence, regions, accounts, and the end of a model's life. Pure.

Failover asks before each target, and `client.explain` asks the same. Budgets are in `layers/spending.py`: they count.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from fnmatch import fnmatchcase

from ..catalog import licence
from ..errors import ModelRetiredError, PolicyError
from ..spi import Target
from ..types.capability import EndOfLife
from ..types.dataclass import dataclass
from ..types.parts import Document, Image, Video
from ..types.request import ChatRequest
from ..types.response import Notice

__all__ = ["NOTICE_DAYS", "Allowed", "Rules", "attribution", "check", "ending", "regions_of", "retired"]

NOTICE_DAYS = 90
"""Days before a model's end from which calls say so."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be used, and the key of the configuration that says so."""

    names: tuple[str, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Rules:
    """The `[policy]` table with what a route changes of it."""

    domicile: str | None = None
    end_user: bool = False
    own_licence: bool = False
    monthly_users: int | None = None
    regions: Allowed | None = None
    providers: Allowed | None = None


def check(request: ChatRequest, target: Target, rules: Rules) -> None:
    """Whether the rules let the target be asked.

    Raises:
        PolicyError: they do not.
    """
    if rules.providers is not None and target.provider not in rules.providers.names:
        allowed = ", ".join(rules.providers.names)
        raise _forbidden(target, rules.providers.key, f"{target.provider} is not among the accounts allowed: {allowed}")
    if rules.regions is not None:
        _check_region(target, rules.regions)
    if not (rules.own_licence or rules.end_user):
        _check_licence(request, target, rules)


def regions_of(target: Target) -> tuple[str, ...]:
    """Where the target's model may run; empty when that is not known."""
    return target.row.regions or ((target.options.region,) if target.options.region else ())


def _check_region(target: Target, allowed: Allowed) -> None:
    if target.transport == "local":
        return  # what is asked stays in this process
    regions = regions_of(target)
    patterns = ", ".join(allowed.names)
    if not regions:
        raise _forbidden(
            target,
            allowed.key,
            f"where {target.provider} runs the model is not known, and only {patterns} are allowed; if you know it, "
            f"set providers.{target.provider}.region",
        )
    outside = [name for name in regions if not any(fnmatchcase(name.lower(), p.lower()) for p in allowed.names)]
    if outside:
        raise _forbidden(
            target, allowed.key, f"the model may run in {', '.join(outside)}, and only {patterns} are allowed"
        )


def _check_licence(request: ChatRequest, target: Target, rules: Rules) -> None:
    found = licence(target.model, target.model_id)
    if found is None:
        return
    domicile, users = rules.domicile, rules.monthly_users
    if domicile is not None and domicile in found.no_images_from and _has_pictures(request):
        raise _forbidden(
            target,
            "policy.operator_domicile",
            f"the {found.name} gives operators domiciled in {domicile} no rights in what the model does with images "
            f"({found.images_source}); leave the images out, or set policy.end_user or policy.own_licence if that is "
            "what you are or have",
        )
    if users is not None and found.most_users is not None and users > found.most_users:
        raise _forbidden(
            target,
            "policy.monthly_active_users",
            f"the {found.name} grants nothing above {found.most_users:,} monthly users ({found.source}); a licence "
            "from its maker is needed: set policy.own_licence once you have it",
        )


def _has_pictures(request: ChatRequest) -> bool:
    return any(isinstance(part, Image | Document | Video) for message in request.messages for part in message.parts)


def _forbidden(target: Target, rule: str, why: str) -> PolicyError:
    return PolicyError(f"{target.name} is forbidden by {rule}: {why}; nothing was sent", rule=rule, target=target.name)


# -- the end of a model's life ----------------------------------------------------------------------------------------


def retired(target: Target, today: datetime.date) -> ModelRetiredError | None:
    """The error that the target means from the day on which its model ends. A claimed day means none."""
    end = target.row.end_of_life
    if end is None or not end.sure or today < end.day:
        return None
    return ModelRetiredError(
        f"the model is not served there since {end.day} ({end.source}); ask another target, or set "
        f'[models."{target.model}"] end_of_life if that is wrong; nothing was sent',
        provider=target.provider,
        target=target.name,
        model=target.model,
    )


def ending(target: Target, today: datetime.date) -> Notice | None:
    """What a caller is told from 90 days before the end."""
    end = target.row.end_of_life
    if end is None or (end.day - today).days > NOTICE_DAYS:
        return None
    return Notice("model_ending", f"{target.name} {_when(end, today)} ({end.source})", "lifecycle")


def _when(end: EndOfLife, today: datetime.date) -> str:
    if not end.sure:
        return f"is said to {'have ended' if end.day <= today else 'end'} on {end.day}"
    days = (end.day - today).days
    return f"ends on {end.day}, in {days} day{'' if days == 1 else 's'}"


# -- attribution ------------------------------------------------------------------------------------------------------


def attribution(targets: Iterable[Target]) -> str:
    """What the licences of these models want to be shown, each text once."""
    found = (licence(target.model, target.model_id) for target in targets)
    return ", ".join(dict.fromkeys(item.attribution for item in found if item is not None and item.attribution))
