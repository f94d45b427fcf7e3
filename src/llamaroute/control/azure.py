"""What an Azure account has: deployments, from the Foundry project or from Azure Resource Manager, and models.

Models: https://learn.microsoft.com/azure/foundry/openai/latest#list-models
Project: https://learn.microsoft.com/rest/api/aifoundry/aiproject/deployments/list
Resource Manager: https://learn.microsoft.com/rest/api/aiservices/accountmanagement/deployments/list
Serverless and managed endpoints: https://learn.microsoft.com/rest/api/aifoundry/modelinference/get-model-info
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ..auth.azure import entra_token
from ..pipeline.ops import Plan
from ..spi import Auth, AuthSettings
from .base import Survey, with_path
from .openai_compatible import ids

__all__ = ["discover"]

ARM = "https://management.azure.com"
ARM_VARIABLE = "ARM_ENDPOINT"
"""Terraform's name for the address of another Azure Resource Manager."""
ARM_VERSION = "2024-10-01"
ARM_SCOPE = "https://management.azure.com/.default"
PROJECT_SCOPE = "https://ai.azure.com/.default"
PAGES = 20
USER = "the role Foundry User (formerly Azure AI User)"
"""https://learn.microsoft.com/azure/foundry/concepts/rbac-foundry ; renamed in May 2026."""

_ROUTE = re.compile(r"(/api/projects/[^/]+)?(/openai(/v1)?|/models|/v1)?(/chat/completions)?$")
"""What may follow a resource's own URL, or an endpoint's."""
_PROJECT = re.compile(r"/api/projects/([^/]+)")


def discover(survey: Survey) -> Plan[None]:
    """Ask all of them that are configured."""
    options: Any = survey.account.options
    root, route = _split(options.url)
    # A whole address without /models is that of a serverless endpoint behind a name of one's own.
    if options.hosting != "resource" or (options.api == "models" and route == "/chat/completions"):
        yield from _endpoint(survey, root)
        return
    project = _PROJECT.match(route)
    deployments = 0
    if options.subscription_id and options.resource_group:
        deployments += yield from _resource_manager(survey)
    name: str | None = options.project or (project[1] if project else None)
    if name:
        deployments += yield from _project(survey, root, name)
    listing = yield from survey.get(
        with_path(root, "openai/v1/models"),
        "the models",
        may=f"give the identity {USER} on the resource",
        missing_ok=options.api == "models",
    )
    if deployments:
        return  # models that are deployed nowhere say nothing more
    for id, item in ids(listing).items():
        note = "a model that can be deployed: requests name a deployment"
        survey.add(id, status=item.get("lifecycle_status") or item.get("status") or "", note=note)
    if not (options.subscription_id and options.resource_group) and not name:
        survey.problem(
            "settings",
            "the deployments were not asked for: a resource's own list has models alone",
            f"set {survey.key}.project, or subscription_id and resource_group, with credential = 'entra'",
        )


def _split(url: str) -> tuple[str, str]:
    """A resource's own URL, and the route that the configured one has after it."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    route = _ROUTE.search(path)
    assert route is not None
    return urlunsplit((parts.scheme, parts.netloc, path[: route.start()], "", "")), route[0]


def _endpoint(survey: Survey, base: str) -> Plan[None]:
    """The one model behind a serverless or managed endpoint."""
    options: Any = survey.account.options
    managed = options.hosting == "managed"  # what runs there may be a scoring script that knows no /info
    url = with_path(base.removesuffix("/score"), "info", **{"api-version": options.api_version})
    info = yield from survey.get(url, "the endpoint's model", may="use the endpoint's own key", missing_ok=managed)
    if isinstance(info, dict) and (name := info.get("model_name")):
        survey.add(name, what="endpoint", callable=True, note=str(info.get("model_type") or ""))


# -- deployments ------------------------------------------------------------------------------------------------------


def _project(survey: Survey, root: str, project: str) -> Plan[int]:
    """The deployments that a Foundry project can use; how many they are."""
    auth = _entra(survey, PROJECT_SCOPE, f"the deployments of the project {project}")
    if auth is None:
        return 0
    url = with_path(root, f"api/projects/{project}/deployments", **{"api-version": "v1"})
    items = yield from _pages(survey, url, f"the deployments of the project {project}", f"{USER} on the project", auth)
    for item in items or ():
        if item.get("type", "ModelDeployment") == "ModelDeployment":
            model = str(item.get("modelName") or "")
            note = _note(item.get("modelPublisher"), model, item.get("modelVersion"))
            survey.add(item["name"], names=(model,), what="deployment", callable=True, note=note)
    if items is not None:
        survey.expect({item["name"] for item in items}, f"the deployments of the project {project}")
    return len(items or ())


def _resource_manager(survey: Survey) -> Plan[int]:
    """The deployments of the resource, or of all resources of the group when none has the configured name."""
    options: Any = survey.account.options
    what = f"the deployments in the resource group {options.resource_group}"
    auth = _entra(survey, ARM_SCOPE, what)
    if auth is None:
        return 0
    base = with_path(
        survey.env.get(ARM_VARIABLE) or ARM,
        f"subscriptions/{options.subscription_id}/resourceGroups/{options.resource_group}"
        "/providers/Microsoft.CognitiveServices/accounts",
        **{"api-version": ARM_VERSION},
    )
    role = (
        "the role Reader on the resource group (Microsoft.CognitiveServices/accounts/read and "
        "accounts/deployments/read)"
    )
    accounts = yield from _pages(survey, base, f"the resources of the group {options.resource_group}", role, auth)
    label = (urlsplit(options.endpoint or options.url).hostname or "").partition(".")[0]
    own = [account for account in accounts or () if label in (account["name"], _domain(account))]
    found: set[str] = set()
    whole = accounts is not None
    for account in own or accounts or ():
        head, _, query = base.partition("?")
        url = f"{head}/{account['name']}/deployments?{query}"
        items = yield from _pages(survey, url, f"the deployments of {account['name']}", role, auth)
        whole = whole and items is not None
        for item in items or ():
            found.add(item["name"])
            _add_deployment(survey, item, account)
    if whole:
        survey.expect(found, what)
    return len(found)


def _add_deployment(survey: Survey, item: dict[str, Any], account: dict[str, Any]) -> None:
    about = item.get("properties") or {}
    model = about.get("model") or {}
    state = about.get("provisioningState", "")
    survey.add(
        item["name"],
        names=(str(model.get("name") or ""),),
        what="deployment",
        region=account.get("location"),
        status=state,
        callable=state == "Succeeded" if state else None,
        note=_note(model.get("format"), model.get("name"), model.get("version"), account["name"]),
    )


def _domain(account: dict[str, Any]) -> str | None:
    domain: str | None = (account.get("properties") or {}).get("customSubDomainName")
    return domain


def _note(maker: Any, model: Any, version: Any, resource: str = "") -> str:
    said = " ".join(str(word) for word in (maker, model, version) if word)
    return f"{said} at {resource}" if resource else said


def _entra(survey: Survey, scope: str, what: str) -> Auth | None:
    """Tokens for another service than the account's own; None for an account that has a key alone."""
    options: Any = survey.account.options
    live = options.live_credential is not None and not isinstance(getattr(options.live_credential, "key", None), str)
    if not live and options.credential is None and options.client_secret is None:
        survey.problem(
            "settings",
            f"{what}: a key is not taken there",
            f"set {survey.key}.credential = 'entra' in the place of the key",
        )
        return None
    return entra_token(AuthSettings(survey.account.name, options, survey.env), scope)


def _pages(survey: Survey, url: str, what: str, role: str, auth: Auth) -> Plan[list[dict[str, Any]] | None]:
    """All pages of a list; None when one of them failed."""
    items: list[dict[str, Any]] = []
    for _ in range(PAGES):
        answer = yield from survey.get(url, what, may=f"give the identity {role}", auth=auth)
        if not isinstance(answer, dict):
            return None
        items += answer.get("value") or ()
        following = answer.get("nextLink")
        # Credentials go nowhere but where they were sent first.
        if not following or urlsplit(following).netloc != urlsplit(url).netloc:
            break
        url = following
    return items
