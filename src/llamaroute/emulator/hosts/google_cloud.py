"""What the emulated Google hosts share: the project they know, who may come in, and the error bodies of Google's APIs.

Error model and reasons: https://google.aip.dev/193 and
https://github.com/googleapis/googleapis/blob/master/google/api/error_reason.proto; the 401 for API keys, the 404 of an
unknown model and the response headers follow recordings
(newrelic/newrelic-python-agent:tests/mlmodel_gemini/cassette.yaml).
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest
from .base import Host
from .google_jwt import read_assertion
from .openai_checks import RefusedError

__all__ = ["CLOUD_PLATFORM", "ENDPOINT_ID", "VERTEX_TOKEN", "GoogleHost"]

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
ENDPOINT_ID = "1234567890123456789"
VERTEX_TOKEN = "ya29.emulator-vertex-access-token"
_STATUSES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED",
    429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 500: "INTERNAL", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}  # fmt: skip
_MESSAGES = {
    400: "Request contains an invalid argument.",
    401: "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
    403: "The caller does not have permission",
    404: "Requested entity was not found.",
    429: "Resource exhausted. Please try again later. Please refer to "
    "https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details.",
    500: "Internal error encountered.",
    503: "The service is currently unavailable.",
    504: "Deadline expired before operation could complete.",
}
_NO_CREDENTIALS = (
    "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
_API_KEY = (
    "API keys are not supported by this API. Expected OAuth2 access token or other authentication credentials that "
    "assert a principal. See https://cloud.google.com/docs/authentication"
)


class GoogleHost(Host):
    """The front end of a Google API. Settings of all Google hosts stand under `google`:

    project, project_number: the project that exists.   region: where its models and endpoints are.
    endpoints: endpoint id -> fields that its resource has instead of the usual ones.
    dedicated_dns: the name of a dedicated endpoint's host; `{host}` is the address the emulator was called at,
      `{endpoint}` the endpoint's id. The default has a scheme and a path, for the lack of a DNS of one's own.
    quota_projects: projects that requests may be billed to (`x-goog-user-project`); None = any.
    service_accounts: e-mail -> public key (PEM; None = not checked) of the accounts that exist; empty = any account.
    locked_accounts: e-mails that nobody may impersonate.   refresh_token: the one that a user's sign-in left.
    metadata_account: who the machine is (metadata server).
    """

    service: ClassVar[str] = "aiplatform.googleapis.com"
    scopes: ClassVar[Sequence[str]] = (CLOUD_PLATFORM,)
    settings_host = "google"
    known_settings: ClassVar[Mapping[str, Any]] = {
        "project": "emulated-project",
        "project_number": "123456789012",
        "region": "us-east5",
        "endpoints": {ENDPOINT_ID: {}},
        "dedicated_dns": "http://{host}/vertex-endpoint",
        "quota_projects": None,
        "service_accounts": {},
        "locked_accounts": (),
        "refresh_token": "1//emulator-refresh-token",
        "metadata_account": "emulator@emulated-project.iam.gserviceaccount.com",
    }

    # ── the project ──

    def is_project(self, name: str) -> bool:
        return name in (self.setting("project"), self.setting("project_number"))

    def endpoint_name(self, endpoint: str) -> str:
        """The resource name as the service writes it: with the project's number."""
        return f"projects/{self.setting('project_number')}/locations/{self.setting('region')}/endpoints/{endpoint}"

    def dedicated_dns(self, request: RecordedRequest, endpoint: str) -> str:
        address = request.headers.get("host", "localhost")
        return str(self.setting("dedicated_dns")).format(host=address, endpoint=endpoint)

    # ── who may come in ──

    def authenticate(self, request: RecordedRequest) -> None:
        """Raises RefusedError unless the request carries a token that is good for the service."""
        if self.key is None:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if token == self.key and scheme.lower() == "bearer":
            return
        if scheme.lower() != "bearer" or not token:
            api_key = "x-goog-api-key" in request.headers or "key" in request.query
            raise self._unknown_caller(request, 401, "CREDENTIALS_MISSING", _API_KEY if api_key else _NO_CREDENTIALS)
        states = [self.options.tokens.state(token, scope) for scope in self.scopes]
        match "valid" if "valid" in states else states[0]:
            case "wrong-audience":
                text = "Request had insufficient authentication scopes."
                raise self._unknown_caller(request, 403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT", text)
            case "expired" | "revoked":
                raise self._unknown_caller(request, 401, "ACCESS_TOKEN_EXPIRED")
            case "unknown":
                if not self._self_signed(token):
                    raise self._unknown_caller(request, 401, "ACCESS_TOKEN_TYPE_UNSUPPORTED")

    def rpc(self, request: RecordedRequest) -> str:
        """The full name of the method that the path stands for, as errors tell it."""
        raise NotImplementedError

    def _unknown_caller(
        self, request: RecordedRequest, status: int, reason: str, text: str | None = None
    ) -> RefusedError:
        return RefusedError(self.google_error(request, status, text, reason=reason, method=self.rpc(request)))

    def _self_signed(self, token: str) -> bool:
        """Service accounts may sign their own bearer token (https://google.aip.dev/auth/4111)."""
        assertion = read_assertion(token)
        if assertion is None or assertion.time_problem() is not None:
            return False
        accounts: Mapping[str, str | None] = self.setting("service_accounts")
        if accounts and assertion.issuer not in accounts:
            return False
        audience = str(assertion.claims.get("aud", "")).rstrip("/")
        meant = audience.endswith(self.service) or CLOUD_PLATFORM in assertion.scopes
        return meant and assertion.signed_by(accounts.get(assertion.issuer))

    def check_quota_project(self, request: RecordedRequest) -> None:
        payer = request.headers.get("x-goog-user-project")
        allowed = self.setting("quota_projects")
        if payer is None or allowed is None or payer in allowed:
            return
        text = (
            f"Caller does not have required permission to use project {payer}. Grant the caller the "
            "roles/serviceusage.serviceUsageConsumer role, or a custom role with the serviceusage.services.use "
            "permission, by visiting "
            f"https://console.developers.google.com/iam-admin/iam/project?project={payer} and then retry. Propagation "
            "of the new permission may take a few minutes."
        )
        raise RefusedError(
            self.google_error(request, 403, text, reason="USER_PROJECT_DENIED", consumer=f"projects/{payer}")
        )

    def denied(self, request: RecordedRequest, permission: str, resource: str) -> RefusedError:
        """Nothing tells a project that does not exist from one that is somebody else's."""
        text = f"Permission '{permission}' denied on resource '//{self.service}/{resource}' (or it may not exist)."
        return RefusedError(
            self.google_error(
                request, 403, text, reason="IAM_PERMISSION_DENIED", domain=self.service, permission=permission,
                resource=resource,
            )
        )  # fmt: skip

    # ── errors ──

    def google_headers(self) -> dict[str, str]:
        return {
            "vary": "Origin, X-Origin, Referer", "server": "scaffolding on HTTPServer2", "x-xss-protection": "0",
            "x-frame-options": "SAMEORIGIN", "x-content-type-options": "nosniff",
        }  # fmt: skip

    def wraps_errors(self, request: RecordedRequest) -> bool:
        """Whether an error comes inside an array, as on routes whose answer is a stream of messages."""
        return False

    def google_error(
        self, request: RecordedRequest, status: int, message: str | None = None, *, name: str | None = None,
        reason: str | None = None, domain: str = "googleapis.com", details: Sequence[Mapping[str, Any]] = (),
        **metadata: str,
    ) -> Answer:  # fmt: skip
        """`google.rpc.Status` as JSON; `reason` and `metadata` make an `ErrorInfo` among its details."""
        error: dict[str, Any] = {
            "code": status,
            "message": _MESSAGES.get(status, f"HTTP {status}") if message is None else message,
            "status": name or _STATUSES.get(status, "UNKNOWN"),
        }
        if reason is not None:
            info = {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": domain,
                "metadata": {"service": self.service, **metadata},
            }  # fmt: skip
            details = [info, *details]
        if details:
            error["details"] = list(details)
        headers = {"content-type": "application/json; charset=UTF-8", **self.google_headers()}
        if status == 401:
            bad = ', error="invalid_token"' if "authorization" in request.headers else ""
            headers["www-authenticate"] = f'Bearer realm="https://accounts.google.com/"{bad}'
        body = json.dumps({"error": error}, indent=2, ensure_ascii=False) + "\n"
        shown = f"[{body}]" if self.wraps_errors(request) else body
        return Answer(status, headers, shown.encode())

    def no_such_page(self, request: RecordedRequest) -> Answer:
        """The front end's own page, for paths that no API has: HTML, not JSON."""
        path = html.escape(request.path)
        page = (
            "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n  <title>Error 404 (Not Found)!!1</title>\n"
            "  <p><b>404.</b> <ins>That&rsquo;s an error.</ins>\n"
            f"  <p>The requested URL <code>{path}</code> was not found on this server.  "
            "<ins>That&rsquo;s all we know.</ins>\n"
        )
        headers = {"content-type": "text/html; charset=UTF-8", "referrer-policy": "no-referrer"}
        return Answer(404, headers, page.encode())
