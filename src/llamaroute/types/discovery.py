"""What an account can call, as its host lists it: the result of `client.discover`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from .dataclass import dataclass

__all__ = ["Discovered", "Discovery", "DiscoveryProblem", "FoundKind", "ProblemCode"]

FoundKind: TypeAlias = Literal["model", "deployment", "inference-profile", "endpoint"]
ProblemCode: TypeAlias = Literal[
    "credentials",
    "permission",
    "not-installed",
    "unreachable",
    "settings",
    "not-found",
    "nothing-found",
    "unsupported",
    "failed",
]


@dataclass(frozen=True, slots=True)
class Discovered:
    """One thing a host lists for an account.

    Attributes:
        provider: account name, with `kind` its kind.
        id: what a request names: `provider:id` is a valid `model=`.
        model: canonical name, or the name that the account's table gives it; None when the id says Llama 4 and not
            which.
        what: what the host calls it.
        region: where it is, when the listing says so.
        status: the host's own word for its state; empty when it has none.
        callable: whether the host lists it as ready for this account; None when the listing does not tell. Only a call
            proves that it answers.
        note: what else is worth knowing, as a sentence.
    """

    provider: str
    kind: str
    id: str
    model: str | None
    what: FoundKind = "model"
    region: str | None = None
    status: str = ""
    callable: bool | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class DiscoveryProblem:
    """Why a listing is missing or not the whole story: a permission, an extra, a setting.

    Attributes:
        code: what kind of problem it is.
        message: what happened.
        remedy: what mends it: the permission, the setting, the `pip install`.
    """

    code: ProblemCode
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


@dataclass(frozen=True, slots=True)
class Discovery:
    """What an account can call.

    Attributes:
        provider: account name, with `kind` its kind.
        found: Llama 4 models, deployments, profiles and endpoints, and whatever the account's table names.
        problems: what could not be asked, and why.
        answered: whether the host answered at least one question. With False, `problems` says why.
    """

    provider: str
    kind: str
    found: tuple[Discovered, ...] = ()
    problems: tuple[DiscoveryProblem, ...] = ()
    answered: bool = False
