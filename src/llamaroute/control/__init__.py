"""Which models, deployments, profiles and endpoints an account can call, asked of the host's control plane.

Hosts that list with a plain GET are asked over the account's own transport; for AWS and Google, boto3 and
google-cloud-aiplatform ask, imported when needed, and a missing one is a problem that says which extra brings it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from ..errors import LlamarouteError, ProviderError
from ..pipeline.core import Call, Candidate, Ledger, Timeout
from ..pipeline.exchange import redact
from ..pipeline.ops import Blocking, Plan
from ..routing.resolve import Account
from ..spi import Auth, Target
from ..types.capability import ModelRow
from ..types.discovery import Discovery, DiscoveryProblem
from ..types.request import ChatRequest
from .base import Survey, problem_of

__all__ = ["credentials", "discover"]

_MODULES = {
    "cloudflare": "cloudflare",
    "huggingface": "huggingface",
    "openai-compatible": "openai_compatible",
    "local": "local",
    "azure": "azure",
    "databricks": "databricks",
    "vertex": "vertex",
    "bedrock": "bedrock",
}
"""Kind -> the module here that asks its control plane."""


def discover(
    account: Account, auth: Callable[[], Auth], limits: Timeout, ledger: Ledger, env: Mapping[str, str]
) -> Plan[Discovery]:
    """Ask what the account can call.

    Args:
        account: the account.
        auth: gives its credentials; what that raises is a problem of the result.
        limits: seconds for each question, and in all.
        ledger: the clock; set by the driver.
        env: the environment.
    """
    name, kind = account.name, account.spec.name
    call = _frame(account, auth, limits, ledger)
    if isinstance(call, DiscoveryProblem):
        return Discovery(name, kind, problems=(call,))
    module = _MODULES.get(kind)
    if module is None:
        text = f"providers.{name}: accounts of the kind {kind!r} cannot be asked what they have"
        return Discovery(name, kind, problems=(DiscoveryProblem("unsupported", text),))
    survey = Survey(account, call, env)
    ask: Callable[[Survey], Plan[None]] = importlib.import_module(f".{module}", __name__).discover
    try:
        yield from ask(survey)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        what = f"{type(error).__name__} at {error}" if isinstance(error, KeyError) else type(error).__name__
        survey.problem("failed", f"a listing has a form that is not known here ({what})")
    return survey.result()


def credentials(
    account: Account, auth: Callable[[], Auth], limits: Timeout, ledger: Ledger
) -> Plan[DiscoveryProblem | None]:
    """Get the account's credentials ready, as a call would; gives the problem, if there is one."""
    call = _frame(account, auth, limits, ledger)
    if isinstance(call, DiscoveryProblem):
        return call
    signer = call.candidate.auth
    try:
        if signer.stale(ledger.wall):
            yield Blocking(signer.refresh, call.deadline)
    except LlamarouteError as error:
        if isinstance(error, ProviderError):
            redact(error, call.candidate)
        return problem_of(error, _CREDENTIALS, "", f"providers.{account.name}")
    return None


_CREDENTIALS = "the credentials"


def _frame(account: Account, auth: Callable[[], Auth], limits: Timeout, ledger: Ledger) -> Call | DiscoveryProblem:
    """What requests of the account move in."""
    try:
        signer = auth()
    except LlamarouteError as error:
        return problem_of(error, _CREDENTIALS, "", f"providers.{account.name}")
    # No model yet: it is what is asked for.
    spec = account.spec
    target = Target(account.name, spec.name, "", "", account.options, ModelRow("", ""), spec.transport)
    candidate = Candidate(target, spec.adapter, signer, limits)
    return Call(
        request=ChatRequest(()),
        stream=False,
        candidates=(candidate,),
        candidate=candidate,
        deadline=None if limits.total is None else ledger.now + limits.total,
        ledger=ledger,
        timeout=limits,
    )
