"""Azure's lists of deployments: a Foundry project's own, and Azure Resource Manager's.

https://learn.microsoft.com/rest/api/aifoundry/aiproject/deployments/list (api-version v1) and
https://learn.microsoft.com/rest/api/aiservices/accountmanagement/deployments/list. The account's resource ids are made
up; every subscription, group and account exists.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest, json_answer
from .azure_shapes import MAVERICK, SCOUT, base_model, basic_headers
from .base import Call, Event, Host, request_uuid
from .entra import sent_bearer

__all__ = ["AzureArm", "project_deployments"]

_ACCOUNTS = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)(?:/resourceGroups/(?P<group>[^/]+))?"
    r"/providers/Microsoft\.CognitiveServices/accounts(?:/(?P<account>[^/]+)(?P<deployments>/deployments)?"
    r"(?:/(?P<deployment>[^/]+))?)?",
    re.IGNORECASE,
)
_AUDIENCES = ("https://management.azure.com", "https://management.core.windows.net")
_OTHER = "gpt-4o-mini"  # accounts hold deployments of other models, too


def project_deployments(
    request: RecordedRequest, project: str, name: str | None, models: Sequence[str]
) -> Answer:  # fmt: skip
    """`GET /api/projects/{project}/deployments[/{name}]`; the caller has checked the token."""
    if request.query.get("api-version") != "v1":
        error = {"code": "UnsupportedApiVersion", "message": "The api-version is missing or not supported."}
        return json_answer(400, {"error": error}, basic_headers())
    items = [_project_item(model) for model in (*models, _OTHER)]
    if name is not None:
        found = [item for item in items if item["name"] == name]
        error = {"code": "NotFound", "message": f"Deployment {name} was not found in project {project}."}
        return json_answer(200, found[0], basic_headers()) if found else json_answer(404, {"error": error})
    wanted = {"modelPublisher": "modelPublisher", "modelName": "modelName", "deploymentType": "type"}
    for asked, key in wanted.items():
        if asked in request.query:
            items = [item for item in items if item[key] == request.query[asked]]
    return json_answer(200, {"value": items}, basic_headers())


def _project_item(deployment: str) -> dict[str, Any]:
    model = base_model(deployment)
    return {
        "name": deployment, "type": "ModelDeployment", "modelName": model, "modelVersion": "1",
        "modelPublisher": "OpenAI" if model.startswith("gpt") else "Meta", "capabilities": {"chat_completion": "true"},
        "sku": {"name": "GlobalStandard", "capacity": 1},
    }  # fmt: skip


class AzureArm(Host):
    """`management.azure.com`, under `/azure-arm`: the accounts of a subscription and their deployments."""

    name = "azure-arm"
    known_quirks: ClassVar[dict[str, bool]] = {"azure-arm-pages": False}
    known_settings: ClassVar[dict[str, Any]] = {"accounts": ("emulated-foundry",), "deployments": None}

    def is_inference(self, request: RecordedRequest) -> bool:
        return False

    async def handle(self, call: Call) -> Answer:
        request = call.request
        token = sent_bearer(request)
        if token is None:
            text = "Authentication failed. The 'Authorization' header is missing."
            return self._refuse(401, "AuthenticationFailed", text)
        states = [self.options.tokens.state(token, audience) for audience in _AUDIENCES]
        if "valid" not in states:
            return self._wrong_token(states)
        asked = _ACCOUNTS.fullmatch(request.path)
        if asked is None or request.method != "GET":
            text = f"No HTTP resource was found that matches the request URI '{request.path}'."
            return self._refuse(404, "NotFound", text)
        if "api-version" not in request.query:
            text = "The api-version query parameter (?api-version=) is required for all requests."
            return self._refuse(400, "MissingApiVersionParameter", text)
        subscription, group, account = asked["subscription"], asked["group"], asked["account"]
        if account is None:
            found = [self._account(subscription, group or "emulated", name) for name in self.setting("accounts")]
            return self._list(request, found)
        if not asked["deployments"]:
            return json_answer(200, self._account(subscription, group or "emulated", account), self._headers())
        items = [self._deployment(subscription, group or "emulated", account, name) for name in self._names()]
        if (name := asked["deployment"]) is None:
            return self._list(request, items)
        for item in items:
            if item["name"] == name:
                return json_answer(200, item, self._headers())
        text = f"The resource '{request.path}' could not be found."
        return self._refuse(404, "DeploymentNotFound", text)

    def _names(self) -> Sequence[str]:
        """The deployments of every account: those that the host `azure` serves, unless others were set."""
        given: Sequence[str] | None = self.setting("deployments")
        return given if given is not None else (*self.options.models.get("azure", (MAVERICK, SCOUT)), _OTHER)

    def _list(self, request: RecordedRequest, items: list[dict[str, Any]]) -> Answer:
        if not self.quirk("azure-arm-pages"):
            return json_answer(200, {"value": items}, self._headers())
        token = request.query.get("$skipToken", "0")
        at = int(token) if token.isdecimal() else 0
        page: dict[str, Any] = {"value": items[at : at + 1]}
        if at + 1 < len(items):
            version = request.query["api-version"]
            base = f"http://{request.headers.get('host')}/{self.name}{request.path}"
            page["nextLink"] = f"{base}?api-version={version}&$skipToken={at + 1}"
        return json_answer(200, page, self._headers())

    def _account(self, subscription: str, group: str, account: str) -> dict[str, Any]:
        base = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices/accounts"
        domain = f"https://{account}.cognitiveservices.azure.com/"
        return {
            "id": f"{base}/{account}", "name": account, "type": "Microsoft.CognitiveServices/accounts",
            "location": "eastus2", "kind": "AIServices", "sku": {"name": "S0"},
            "properties": {
                "endpoint": domain, "provisioningState": "Succeeded", "customSubDomainName": account,
                "endpoints": {"AI Foundry API": f"https://{account}.services.ai.azure.com/"},
            },
        }  # fmt: skip

    def _deployment(self, subscription: str, group: str, account: str, name: str) -> dict[str, Any]:
        model = base_model(name)
        maker = "OpenAI" if model.startswith("gpt") else "Meta"
        return {
            "id": f"{self._account(subscription, group, account)['id']}/deployments/{name}",
            "type": "Microsoft.CognitiveServices/accounts/deployments", "name": name,
            "sku": {"name": "GlobalStandard", "capacity": 1}, "etag": f'"{request_uuid()}"',
            "properties": {
                "model": {"format": maker, "name": model, "version": "1"}, "capabilities": {"chatCompletion": "true"},
                "versionUpgradeOption": "OnceNewDefaultVersionAvailable", "raiPolicyName": "Microsoft.DefaultV2",
                "provisioningState": "Succeeded",
                "rateLimits": [{"key": "request", "renewalPeriod": 60, "count": 1000}],
            },
        }  # fmt: skip

    # ── errors ──

    def _headers(self) -> dict[str, str]:
        found = request_uuid()
        return {"x-ms-request-id": found, "x-ms-correlation-request-id": found, "cache-control": "no-cache"}

    def _refuse(self, status: int, code: str, message: str) -> Answer:
        headers = self._headers()
        if status == 401:
            headers["www-authenticate"] = 'Bearer authorization_uri="https://login.microsoftonline.com/common"'
        return json_answer(status, {"error": {"code": code, "message": message}}, headers)

    def _wrong_token(self, states: Sequence[str]) -> Answer:
        if "expired" in states or "revoked" in states:
            text = "The access token expiry UTC time is earlier than current UTC time."
            return self._refuse(401, "ExpiredAuthenticationToken", text)
        if "wrong-audience" in states:
            text = f"The access token has been obtained for wrong audience or resource. It should exactly match with one of the allowed audiences '{_AUDIENCES[1]}/','{_AUDIENCES[0]}/'."  # noqa: E501
            return self._refuse(401, "InvalidAuthenticationTokenAudience", text)
        return self._refuse(401, "InvalidAuthenticationToken", "The access token is invalid.")

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        usual = {
            403: ("AuthorizationFailed", "The client does not have authorization to perform action 'Microsoft.CognitiveServices/accounts/deployments/read' over scope, or the scope is invalid."),  # noqa: E501
            404: ("ResourceNotFound", "The Resource was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"),
            429: ("TooManyRequests", "The request is being throttled as the limit has been reached."),
        }  # fmt: skip
        kind, text = usual.get(status, ("InternalServerError", f"HTTP {status}"))
        return self._refuse(status, str(kind if code is None else code), message or text)

    def stream_error(
        self, request: RecordedRequest, status: int, message: str | None, code: int | str | None
    ) -> list[Event]:
        return []  # nothing streams here
