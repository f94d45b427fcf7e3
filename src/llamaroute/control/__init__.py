"""Which models, deployments, profiles and endpoints an account can call, asked of the host's control plane.

Hosts that list with a plain GET are asked over the account's own transport; where a vendor's SDK knows more (boto3,
google-cloud-aiplatform, databricks-sdk) it is imported when needed, and a missing one is a problem that says which
extra brings it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from ..errors import LlamarouteError
from ..pipeline.core import Call, Candidate, Ledger, Timeout
from ..pipeline.ops import Plan
from ..routing.resolve import Account
from ..spi import Auth, Target
from ..types.capability import ModelRow
from ..types.discovery import Discovery, DiscoveryProblem
from ..types.request import ChatRequest
from .base import Survey, problem_of

__all__ = ["discover"]

_MODULES = {
    "cloudflare": "cloudflare",
    "huggingface": "huggingface",
    "openai-compatible": "openai_compatible",
    "local": "local",
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
    try:
        signer = auth()
    except LlamarouteError as error:
        problem = problem_of(error, "the credentials", "", f"providers.{name}")
        return Discovery(name, kind, problems=(problem,))
    module = _MODULES.get(kind)
    if module is None:
        problem = DiscoveryProblem("settings", f"providers.{name}: accounts of the kind {kind!r} cannot be listed")
        return Discovery(name, kind, problems=(problem,))
    # No model yet: it is what is asked for.
    target = Target(name, kind, "", "", account.options, ModelRow("", ""), account.spec.transport)
    candidate = Candidate(target, account.spec.adapter, signer, limits)
    call = Call(
        request=ChatRequest(()),
        stream=False,
        candidates=(candidate,),
        candidate=candidate,
        deadline=None if limits.total is None else ledger.now + limits.total,
        ledger=ledger,
        timeout=limits,
    )
    survey = Survey(account, call, env)
    ask: Callable[[Survey], Plan[None]] = importlib.import_module(f".{module}", __name__).discover
    yield from ask(survey)
    return survey.result()
