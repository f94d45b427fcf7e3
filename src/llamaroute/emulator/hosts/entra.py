"""Microsoft Entra ID: client credentials by scope (v2.0) and by resource (v1), the documents that MSAL
asks for first, and what a machine or an app with a managed identity asks instead.

Shapes and error numbers: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow,
https://learn.microsoft.com/entra/identity-platform/reference-error-codes (the texts behind the numbers are shortened);
https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token and
https://learn.microsoft.com/azure/app-service/overview-managed-identity for managed identities.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote

from ..answer import Answer, RecordedRequest, dumps, json_answer
from .base import Call, Event, Host, new_id, request_uuid

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "DATABRICKS", "IDENTITY_HEADER", "TENANT", "Entra", "form_of", "sent_bearer"]

TENANT = "00000000-aaaa-bbbb-cccc-000000000001"
CLIENT_ID = "00000000-aaaa-bbbb-cccc-000000000002"
CLIENT_SECRET = "emulator~client.secret_0000000000000000"
IDENTITY_HEADER = "emulator-identity-header"
"""What an app's environment holds in IDENTITY_HEADER beside IDENTITY_ENDPOINT."""
DATABRICKS = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"
"""The application id of Azure Databricks, the same in every tenant."""

# What tokens can be asked for; ARM has two names.
_RESOURCES = (
    "https://cognitiveservices.azure.com",
    "https://ai.azure.com",
    "https://ml.azure.com",
    "https://management.azure.com",
    "https://management.core.windows.net",
    DATABRICKS,
)
_TOKEN = re.compile(r"/(?P<tenant>[^/]+)/oauth2(?P<v2>/v2\.0)?/token")
_METADATA = re.compile(r"/(?P<tenant>[^/]+)(?:/v2\.0)?/\.well-known/openid-configuration")
_LOGIN = "https://login.microsoftonline.com"


def sent_bearer(request: RecordedRequest) -> str | None:
    """The bearer token of a request; None if there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def form_of(request: RecordedRequest) -> dict[str, str]:
    """The fields of a form; a client's id and secret may stand in a Basic header instead."""
    fields = {name: values[-1] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
    scheme, _, packed = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, secret = base64.b64decode(packed, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return fields
        fields |= {"client_id": unquote(name), "client_secret": unquote(secret)}
    return fields


class Entra(Host):
    """`login.microsoftonline.com`, under `/entra`. Every tenant exists, and one application with one secret, which is
    the machine's identity, too."""

    name = "entra"
    root_paths = ("metadata",)
    known_settings: ClassVar[Mapping[str, Any]] = {
        "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "identity_header": IDENTITY_HEADER,
    }  # fmt: skip

    def is_inference(self, request: RecordedRequest) -> bool:
        return False

    async def handle(self, call: Call) -> Answer:
        request = call.request
        if request.method == "POST" and (asked := _TOKEN.fullmatch(request.path)):
            return self._token(request, asked["tenant"], v2=asked["v2"] is not None)
        if request.method == "GET" and request.path == "/common/discovery/instance":
            return self._instances(request)
        if request.method == "GET" and (asked := _METADATA.fullmatch(request.path)):
            return json_answer(200, self._metadata(asked["tenant"]), self._headers())
        if request.method == "GET" and request.path in ("/metadata/identity/oauth2/token", "/msi/token"):
            return self._managed(request)
        return Answer(404, self._headers())

    # ── tokens ──

    def _managed(self, request: RecordedRequest) -> Answer:
        """The token of a machine's own identity (/metadata), or of an app's (/msi, IDENTITY_ENDPOINT)."""
        machine = request.path.startswith("/metadata")
        wanted = ("metadata", "true") if machine else ("x-identity-header", self.setting("identity_header"))
        if request.headers.get(wanted[0], "").lower() != wanted[1]:
            text = "Required metadata header not specified" if machine else "The header X-IDENTITY-HEADER is wrong."
            return self._identity_error(400 if machine else 401, "invalid_request", text)
        asked = request.query.get("client_id", self.setting("client_id"))
        if asked != self.setting("client_id"):
            return self._identity_error(400, "invalid_request", "Identity not found")
        resource = request.query.get("resource", "")
        if resource.rstrip("/") not in _RESOURCES:
            text = f"AADSTS500011: The resource principal named {resource} was not found in the tenant."
            return self._identity_error(400, "invalid_resource", text)
        token = self.options.tokens.issue(
            resource.rstrip("/"), subject=asked, text=self._jwt(resource.rstrip("/"), TENANT)
        )  # fmt: skip
        answer = {"access_token": token.text, "client_id": asked, "expires_on": str(int(token.expires)),
                  "resource": resource, "token_type": "Bearer"}  # fmt: skip
        more = {"expires_in": str(int(token.life)), "ext_expires_in": str(int(token.life))} if machine else {}
        return json_answer(200, {**answer, **more}, self._headers())

    def _identity_error(self, status: int, error: str, text: str) -> Answer:
        return json_answer(status, {"error": error, "error_description": text}, self._headers())

    def _token(self, request: RecordedRequest, tenant: str, *, v2: bool) -> Answer:
        form = form_of(request)
        if form.get("grant_type") != "client_credentials":
            grant = form.get("grant_type")
            if not grant:
                text = "The request body must contain the following parameter: 'grant_type'."
                return self._refuse(400, "invalid_request", 900144, text)
            return self._refuse(
                400, "unsupported_grant_type", 70003, f"The app requested an unsupported grant '{grant}'."
            )
        if form.get("client_id") != self.setting("client_id"):
            text = f"Application with identifier '{form.get('client_id')}' was not found in the directory '{tenant}'."
            return self._refuse(400, "unauthorized_client", 700016, text)
        if form.get("client_secret") != self.setting("client_secret"):
            text = f"Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{form['client_id']}'."  # noqa: E501
            return self._refuse(401, "invalid_client", 7000215, text)
        asked = form.get("scope" if v2 else "resource", "")
        if v2 and not asked.endswith("/.default"):
            text = f"The provided value for scope {asked} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."  # noqa: E501
            return self._refuse(400, "invalid_scope", 1002012, text)
        resource = asked.removesuffix("/.default").rstrip("/")
        if resource not in _RESOURCES:
            text = f"The resource principal named {resource} was not found in the tenant named {tenant}."
            return self._refuse(400, "invalid_resource", 500011, text)
        token = self.options.tokens.issue(resource, subject=form["client_id"], text=self._jwt(resource, tenant))
        # A life is cut to whole seconds and one is taken off, as the real service does (3599).
        seconds = max(0, int(token.life) - 1)
        answer: dict[str, Any] = {"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds}
        if not v2:  # v1 writes its numbers as text and repeats the resource
            now = int(time.time())
            answer = {key: str(value) for key, value in answer.items()}
            answer |= {"expires_on": str(now + seconds), "not_before": str(now), "resource": asked}
        return json_answer(200, {**answer, "access_token": token.text}, self._headers())

    def _jwt(self, resource: str, tenant: str) -> str:
        """A token of the real one's form: nobody but its resource may rely on what is in it, yet clients look."""
        now = int(time.time())
        claims = {
            "aud": resource, "iss": f"https://sts.windows.net/{tenant}/", "iat": now, "nbf": now,
            "exp": now + round(self.options.tokens.life), "appid": self.setting("client_id"), "tid": tenant,
            "uti": new_id(22), "ver": "1.0",
        }  # fmt: skip
        parts = (dumps({"typ": "JWT", "alg": "RS256", "kid": "emulator"}), dumps(claims), b"emulated signature")
        return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)

    # ── discovery ──

    def _instances(self, request: RecordedRequest) -> Answer:
        wanted = request.query.get("authorization_endpoint", "")
        tenant = wanted.removeprefix(_LOGIN).strip("/").partition("/")[0] or "common"
        names = ["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"]
        metadata = [{"preferred_network": names[0], "preferred_cache": names[1], "aliases": names}]
        answer = {
            "tenant_discovery_endpoint": f"{_LOGIN}/{tenant}/v2.0/.well-known/openid-configuration",
            "api-version": "1.1", "metadata": metadata,
        }  # fmt: skip
        return json_answer(200, answer, self._headers())

    def _metadata(self, tenant: str) -> dict[str, Any]:
        # The real addresses: MSAL refuses any that is not https, so whoever asks here is redirected below it anyway.
        base = f"{_LOGIN}/{tenant}"
        return {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": f"{_LOGIN}/{tenant}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
        }

    # ── errors ──

    def _headers(self) -> dict[str, str]:
        return {"cache-control": "no-store, no-cache", "pragma": "no-cache", "x-ms-request-id": request_uuid()}

    def _refuse(self, status: int, error: str, number: int, text: str) -> Answer:
        trace, correlation, now = request_uuid(), request_uuid(), time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
        described = f"AADSTS{number}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {now}"
        body = {
            "error": error, "error_description": described, "error_codes": [number], "timestamp": now,
            "trace_id": trace, "correlation_id": correlation, "error_uri": f"{_LOGIN}/error?code={number}",
        }  # fmt: skip
        return json_answer(status, body, self._headers())

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        number = code if isinstance(code, int) else 90033
        name = "temporarily_unavailable" if status >= 500 or status == 429 else "invalid_request"
        text = message or "A transient error has occurred. Please try again."
        return self._refuse(status, code if isinstance(code, str) else name, number, text)

    def stream_error(
        self, request: RecordedRequest, status: int, message: str | None, code: int | str | None
    ) -> list[Event]:
        return []  # nothing streams here
