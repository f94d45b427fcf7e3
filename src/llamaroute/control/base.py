"""One look at what an account can call: questions to its control plane, and what came of them.

A module per kind has a function `discover(survey) -> Plan[None]`. It asks, over the account's own transport and
credentials (`Survey.get`) or through a vendor's SDK (`Survey.blocking`), and adds what it finds. What goes wrong on the
way becomes a problem with its remedy and never an exception: an account that may not list may still be able to call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

from .. import catalog
from ..dialects.json_body import loads
from ..errors import (
    AuthenticationError,
    ConfigError,
    ConnectionError,
    LlamarouteError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    TimeoutError,
)
from ..pipeline.core import Call
from ..pipeline.exchange import read_body, redact, send_signed
from ..pipeline.ops import Blocking, Op, Plan
from ..routing.resolve import Account
from ..spi import Auth, WireRequest, WireResponse
from ..types.discovery import Discovered, Discovery, DiscoveryProblem, FoundKind, ProblemCode

__all__ = ["Survey", "problem_of", "with_path"]

T = TypeVar("T")

MAX_BODY = 16 << 20
"""Bytes of one listing."""


class Survey:
    """What has been asked about one account, and found.

    Args:
        account: the account.
        call: frame for the requests: the account's transport, limits and one deadline for all questions.
        env: the environment variables that credentials are read from.
    """

    def __init__(self, account: Account, call: Call, env: Mapping[str, str]) -> None:
        self.account = account
        self.call = call
        self.env = env
        self.answered = False
        self._found: dict[tuple[FoundKind, str], Discovered] = {}
        self._problems: list[DiscoveryProblem] = []
        self._named = {name: row.model for row in account.rows for name in (row.model, row.model_id)}

    @property
    def key(self) -> str:
        """`providers.<name>`, for messages."""
        return f"providers.{self.account.name}"

    def result(self) -> Discovery:
        """All of it."""
        if self.answered and not self._found and not self._problems:
            self.problem(
                "nothing-found",
                "the host lists no model of the catalogue, and none that the account's table names",
                f"name what you call in {self.key}.models",
            )
        name, kind = self.account.name, self.account.spec.name
        return Discovery(name, kind, tuple(self._found.values()), tuple(self._problems), self.answered)

    # -- what is found ------------------------------------------------------------------------------------------------

    def add(
        self,
        id: str,
        *,
        names: tuple[str, ...] = (),
        what: FoundKind = "model",
        region: str | None = None,
        status: str = "",
        callable: bool | None = None,
        note: str = "",
    ) -> None:
        """Keep something the host lists, if it is a model of the catalogue or one that the account's table names.

        Args:
            id: what a request names.
            names: other names that tell which model it is: the model behind a deployment, say.
        """
        model = next((self._named[name] for name in (id, *names) if name in self._named), None)
        known = next((match for name in (model or "", *names, id) if (match := catalog.identify(name))), model)
        if known is None and not any(map(catalog.is_llama_4, (id, *names))):
            return
        found = Discovered(self.account.name, self.account.spec.name, id, known, what, region, status, callable, note)
        if (earlier := self._found.get((what, id))) is not None:  # another listing has it, too
            found = replace(
                earlier,
                region=earlier.region or region,
                status=earlier.status or status,
                callable=callable if earlier.callable is None else earlier.callable,
                note=earlier.note or note,
            )
        self._found[what, id] = found

    def found(self) -> tuple[Discovered, ...]:
        """What has been found so far."""
        return tuple(self._found.values())

    def change(self, found: Discovered) -> None:
        """Say more about something that was found: a later answer knows it."""
        self._found[found.what, found.id] = found

    def headers(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Mapping[str, str]:
        """The headers of a vendor's SDK with the account's credentials among them. Blocks where a token is due."""
        return self.signed(WireRequest(method, url, headers, body)).headers

    def signed(self, request: WireRequest) -> WireRequest:
        """A request with the account's credentials. Blocks where a token is due."""
        auth = self.call.candidate.auth
        if auth.stale(time.time()):
            auth.refresh()
        return auth.sign(request, time.time())

    @property
    def refused(self) -> bool:
        """Whether the host has refused the credentials, or something to them."""
        return any(problem.code in ("credentials", "permission") for problem in self._problems)

    def expect(self, listed: Collection[str], where: str) -> None:
        """Say which ids of the account's table a complete listing does not have."""
        options = self.account.options
        for name, model_id in {**({options.model: options.model} if options.model else {}), **options.models}.items():
            model_id = options.models.get(name, model_id)
            if model_id not in listed and name not in listed:
                key = f"{self.key}.models" if name in options.models else f"{self.key}.model"
                near = f" (it has {', '.join(sorted(listed)[:10])})" if listed else ""
                self.problem("not-found", f"{key}: {model_id!r} is not among {where}{near}", "correct the id")

    # -- what is asked ------------------------------------------------------------------------------------------------

    def get(self, url: str, what: str, *, may: str, auth: Auth | None = None, missing_ok: bool = False) -> Plan[Any]:
        """The JSON that a GET gives, or None after a problem was written down.

        Args:
            url: the URL.
            what: what it lists, for messages: `the deployments`.
            may: what the credentials need to be allowed, as a remedy.
            auth: other credentials than the account's.
            missing_ok: a 404 is no problem.
        """
        call = self.call
        if auth is not None:
            call = call.evolve(candidate=replace(call.candidate, auth=auth))

        def ask() -> Plan[Any]:
            try:
                head = yield from send_signed(call, WireRequest("GET", url, {"accept": "application/json"}))
            except NotFoundError:
                if missing_ok:
                    return None
                raise
            body = yield from read_body(call, MAX_BODY)
            response = WireResponse(head.status, head.headers, body)
            value = loads(response.body, what)
            if isinstance(value, dict) and value.get("success") is False:  # Cloudflare's 200 that is an error
                raise call.candidate.adapter.map_error(response, call.target)
            return value

        return self.attempt(ask(), what, may=may, auth=auth)

    def blocking(self, work: Callable[[], T], what: str, *, may: str) -> Plan[T | None]:
        """What `work` gives, which may block (a vendor's SDK), or None after a problem was written down.

        `work` raises errors of ours alone.
        """

        def ask() -> Generator[Op, Any, T]:
            value: T = yield Blocking(work, self.call.deadline)
            return value

        return self.attempt(ask(), what, may=may)

    def attempt(self, plan: Plan[T], what: str, *, may: str, auth: Auth | None = None) -> Plan[T | None]:
        """What `plan` gives, or None after a problem was written down."""
        try:
            value = yield from plan
        except LlamarouteError as error:
            if isinstance(error, ProviderError):
                redact(error, self.call.candidate if auth is None else replace(self.call.candidate, auth=auth))
            self.failed(error, what, may)
            return None
        self.answered = True
        return value

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    def problem(self, code: ProblemCode, message: str, remedy: str = "") -> None:
        """Write down a problem, once."""
        problem = DiscoveryProblem(code, message, remedy)
        if problem not in self._problems:
            self._problems.append(problem)

    def failed(self, error: LlamarouteError, what: str, may: str) -> None:
        """Write down an error as the problem it means for a listing."""
        problem = problem_of(error, what, may, self.key)
        self.problem(problem.code, problem.message, problem.remedy)


def problem_of(error: LlamarouteError, what: str, may: str, key: str) -> DiscoveryProblem:
    """An error as the problem it means for a listing.

    Args:
        error: the error.
        what: what was asked for.
        may: what the credentials need to be allowed.
        key: `providers.<name>`.
    """
    text = str(error.args[0]) if error.args else type(error).__name__
    status = getattr(error, "status", None)
    said = f"{what}: {text}" if status is None else f"{what}: {text} (status {status})"
    match error:
        case ConfigError():
            return DiscoveryProblem("not-installed" if "pip install" in text else "settings", text)
        case PermissionDeniedError():
            return DiscoveryProblem("permission", said, may)
        case AuthenticationError():
            return DiscoveryProblem("credentials", said, f"check the credentials of {key}")
        case TimeoutError() | ConnectionError():
            return DiscoveryProblem("unreachable", said, f"check the network, the proxy and the address in {key}")
        case NotFoundError():
            return DiscoveryProblem("not-found", said, f"check the names and the address in {key}")
    return DiscoveryProblem("failed", said)


def with_path(base: str, path: str, **query: str) -> str:
    """`base` with `path` after its own and `query` added to its own."""
    parts = urlsplit(base)
    joined = "&".join(filter(None, (parts.query, urlencode(query))))
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path.lstrip('/')}", query=joined))
