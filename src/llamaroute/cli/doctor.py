"""`llamaroute doctor`: is the configuration right, are there credentials, does each target answer?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, LlamarouteError
from .failures import DONE, FAILED, USAGE, exit_code
from .output import note, write

if TYPE_CHECKING:
    from ..client import AsyncClient
    from ..spi import Target
    from ..types.discovery import Discovery, DiscoveryProblem

__all__ = ["doctor"]


@dataclass(slots=True)
class Finding:
    """What was found out about one target, or about an account that has no model of its own."""

    target: str
    ok: bool = True
    credentials_ms: int | None = None
    """How long it took to get credentials; None when there are none."""
    answer_ms: int | None = None
    """How long the host took to answer; None when it did not."""
    problems: list[str] = field(default_factory=list)
    code: int = DONE
    """The exit code that it means."""

    def fail(self, error: LlamarouteError | DiscoveryProblem | str, code: int) -> None:
        """Write down what is wrong."""
        self.ok = False
        self.problems.append(str(error))
        self.code = max(self.code, code)


def doctor(
    config: Annotated[
        str | None, typer.Option("--config", "-c", metavar="FILE", help="Config file. Default: the one that is found.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", metavar="NAME", help="Profile of the config file.")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Ask each target for one token instead of listing its models.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Seconds for each target.")
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> int:
    """Check the config file, each target's credentials, and whether its host answers. One line per target."""
    import asyncio

    from ..client import AsyncClient

    client = AsyncClient(config, profile=profile)
    findings = asyncio.run(_examine(client, chat, timeout))
    if as_json:
        from pydantic_core import to_json

        shown = [{name: value for name, value in asdict(found).items() if name != "code"} for found in findings]
        write(to_json({"config": client.config_origin, "targets": shown}, indent=2).decode() + "\n")
    else:
        write(f"config: {client.config_origin}: ok\n")
        width = max((len(found.target) for found in findings), default=0)
        for found in findings:
            write(f"{'ok' if found.ok else 'failed':6}  {found.target:{width}}  {_said(found)}\n")
    return max((found.code for found in findings), default=DONE)


_ASK = "ask the model itself with --chat"


def _said(found: Finding) -> str:
    took = [
        "no credentials" if found.credentials_ms is None else f"credentials {found.credentials_ms} ms",
        f"answer {found.answer_ms} ms" if found.answer_ms is not None else "not asked" if found.ok else "no answer",
    ]
    if found.credentials_ms is None:
        del took[1]
    return ": ".join([", ".join(took), *(["; ".join(found.problems)] if found.problems else [])])


# -- the examination --------------------------------------------------------------------------------------------------


async def _examine(client: AsyncClient, chat: bool, timeout: float) -> list[Finding]:
    """All accounts at once, each one's targets with what is found out about the account."""
    import asyncio

    async with client:
        names = list(client.config.providers)
        targets, findings = _targets(client)
        of = {name: [target for target in targets if target.provider == name] for name in names}
        listed = await asyncio.gather(*(_account(client, name, of[name], chat, timeout) for name in names))
    return [finding for group in listed for finding in group] + findings


def _targets(client: AsyncClient) -> tuple[list[Target], list[Finding]]:
    """The targets that the configuration names, each once, and the names that lead nowhere."""
    targets: dict[str, Target] = {}
    findings: list[Finding] = []
    config = client.config
    for label, name in [
        *((f"provider {name}", name) for name in config.providers),
        *((f"route {name}", name) for name in config.routes),
        *([("default", None)] if config.default is not None else []),
    ]:
        try:
            call = client._current().prepare("Hi", {"model": name}, output=None, stream=False)
        except LlamarouteError as error:
            if isinstance(error, ConfigError) and name in config.providers:
                continue  # no model of its own, or no credentials: its account is examined all the same
            finding = Finding(label)
            finding.fail(error, exit_code(error))
            findings.append(finding)
        else:
            targets |= {candidate.target.name: candidate.target for candidate in call.candidates}
    return list(targets.values()), findings


async def _account(
    client: AsyncClient, name: str, targets: Sequence[Target], chat: bool, timeout: float
) -> list[Finding]:
    """One account: its credentials once, its listing once, and a line for each of its targets."""
    import asyncio

    account = Finding(name)
    await _credentials(client, account, timeout)
    if account.ok and chat and targets:
        return list(await asyncio.gather(*(_chat(client, target, account, timeout) for target in targets)))
    result = await _listing(client, account, timeout) if account.ok else None
    return [_judged(account, target, result) for target in targets] or [account]


async def _credentials(client: AsyncClient, account: Finding, timeout: float) -> None:
    """Get a token, or see that the key is there."""
    began = time.monotonic()
    plan, ledger = client._current().credentials(account.target, timeout)
    from ..drivers import AsyncDriver

    problem = await AsyncDriver(client._transport, ledger).run(plan)
    if problem is None:
        account.credentials_ms = _ms(began)
    else:
        account.fail(problem, _code(problem))


async def _listing(client: AsyncClient, account: Finding, timeout: float) -> Discovery:
    """Ask the host what the account can call."""
    began = time.monotonic()
    result = await client.discover(account.target, timeout=timeout)
    if result.answered:
        account.answer_ms = _ms(began)
    for problem in result.problems:
        if problem.code == "unsupported":
            note("warning", f"{account.target}: {problem}; {_ASK}")
        elif not result.answered and problem.code in ("permission", "not-installed"):
            account.fail(f"{problem}; or {_ASK}", _code(problem))  # what may not list may still be able to call
        elif not result.answered or problem.code == "credentials":
            account.fail(problem, _code(problem))
        elif problem.code not in ("settings", "nothing-found"):  # these are about listing, not about calling
            note("warning", f"{account.target}: {problem}")
    return result


def _code(problem: DiscoveryProblem) -> int:
    return USAGE if problem.code in ("settings", "not-installed") else FAILED


def _judged(account: Finding, target: Target, result: Discovery | None) -> Finding:
    """What the account's listing says about one target."""
    from .. import catalog

    finding = replace(account, target=target.name, problems=list(account.problems))
    if result is None or not result.answered:
        return finding
    model = catalog.identify(target.model) or target.model
    same = [found for found in result.found if found.id == target.model_id]
    same = same or [found for found in result.found if found.model == model]
    if same and all(found.callable is False for found in same):
        states = ", ".join(dict.fromkeys(filter(None, (found.status or found.note for found in same))))
        finding.fail(f"the host lists it as not ready{f': {states}' if states else ''}", FAILED)
    elif not same:
        note("warning", f"{target.name}: the host's listing does not have {target.model_id}; {_ASK}")
    return finding


async def _chat(client: AsyncClient, target: Target, account: Finding, timeout: float) -> Finding:
    """Ask the target for one token."""
    finding = replace(account, target=target.name, problems=list(account.problems))
    began = time.monotonic()
    try:
        await client.chat("Hi", model=target.name, max_tokens=1, retry=1, timeout=timeout)
    except LlamarouteError as error:
        finding.fail(error, exit_code(error))
    else:
        finding.answer_ms = _ms(began)
    return finding


def _ms(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
