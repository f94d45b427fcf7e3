"""Google's token services: the OAuth token endpoint, IAM credentials, and the metadata server of a cloud machine.

https://developers.google.com/identity/protocols/oauth2/service-account,
https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken and
https://cloud.google.com/compute/docs/metadata/overview; what clients ask for was read off google-auth.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from ..answer import Answer, RecordedRequest, json_answer
from .base import Call, Event
from .google_cloud import CLOUD_PLATFORM, VERTEX_TOKEN, GoogleHost
from .google_jwt import read_assertion
from .openai_checks import RefusedError

__all__ = ["Google"]

_IMPERSONATE = re.compile(r"/v1/projects/[^/]+/serviceAccounts/(?P<email>[^/:]+):generateAccessToken")
_METADATA = "/computeMetadata/v1/"
_ACCOUNT = re.compile(r"instance/service-accounts/(?P<account>[^/]+)/(?P<what>email|scopes|token)?")
_TOKEN_URIS = (
    "https://oauth2.googleapis.com/token",
    "https://www.googleapis.com/oauth2/v4/token",
    "https://accounts.google.com/o/oauth2/token",
)
_JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LONGEST = 3600.0
_DURATION = re.compile(r"(?P<seconds>\d+(?:\.\d+)?)s")


class Google(GoogleHost):
    """`oauth2.googleapis.com` and `iamcredentials.googleapis.com` under `/google`; the metadata server at the root of
    the emulator, because its clients are told an address and nothing else (`GCE_METADATA_HOST`)."""

    name = "google"
    default_key = VERTEX_TOKEN
    root_paths = ("", "computeMetadata")
    service: ClassVar[str] = "iamcredentials.googleapis.com"
    scopes = (CLOUD_PLATFORM, "https://www.googleapis.com/auth/iam")

    def rpc(self, request: RecordedRequest) -> str:
        return "google.iam.credentials.v1.IAMCredentials.GenerateAccessToken"

    def is_inference(self, request: RecordedRequest) -> bool:
        return False

    async def handle(self, call: Call) -> Answer:
        request = call.request
        path = request.path
        if request.method == "GET" and (path == "/" or path.startswith("/computeMetadata")):
            return self._metadata(request)
        if request.method == "POST" and path == "/token":
            return self._token(request)
        match = _IMPERSONATE.fullmatch(path)
        if request.method != "POST" or match is None:
            return self.no_such_page(request)
        try:
            return self._impersonate(request, match["email"])
        except RefusedError as refused:
            return refused.answer

    # ── the token endpoint ──

    def _refuse(self, error: str, description: str, status: int = 400) -> Answer:
        return self._oauth(status, {"error": error, "error_description": description})

    def _oauth(self, status: int, body: Mapping[str, Any]) -> Answer:
        headers = {"content-type": "application/json; charset=utf-8", "cache-control": "no-cache, no-store, max-age=0"}
        return json_answer(status, body, {**self.google_headers(), **headers, "pragma": "no-cache"})

    def _issue(self, scopes: list[str], subject: str, prefix: str) -> dict[str, Any]:
        token = self.options.tokens.issue(scopes, subject=subject, prefix=prefix)
        # One second less than was issued, as the service counts.
        return {"access_token": token.text, "expires_in": max(0, int(token.life) - 1), "token_type": "Bearer"}

    def _token(self, request: RecordedRequest) -> Answer:
        form = dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
        grant = form.get("grant_type", "")
        if grant == _JWT_GRANT:
            return self._service_account(request, form.get("assertion", ""))
        if grant == "refresh_token":
            return self._user(form)
        return self._refuse("unsupported_grant_type", f"Invalid grant_type: {grant}")

    def _service_account(self, request: RecordedRequest, text: str) -> Answer:
        assertion = read_assertion(text)
        accounts: Mapping[str, str | None] = self.setting("service_accounts")
        if assertion is None:
            return self._refuse("invalid_grant", "Invalid JWT Signature.")
        if accounts and assertion.issuer not in accounts:
            return self._refuse("invalid_grant", "Invalid grant: account not found")
        if not assertion.signed_by(accounts.get(assertion.issuer)):
            return self._refuse("invalid_grant", "Invalid JWT Signature.")
        if (problem := assertion.time_problem()) is not None:
            return self._refuse("invalid_grant", problem)
        if assertion.claims.get("aud") not in (*_TOKEN_URIS, f"http://{request.headers.get('host')}/google/token"):
            return self._refuse("invalid_grant", "Invalid JWT: Failed audience check.")
        if "@" not in assertion.issuer:
            return self._refuse("invalid_grant", "Invalid email or User ID.")
        if not assertion.scopes:
            return self._refuse("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return self._oauth(200, self._issue(assertion.scopes, assertion.issuer, "ya29.c."))

    def _user(self, form: Mapping[str, str]) -> Answer:
        if not form.get("client_id") or not form.get("client_secret"):
            return self._refuse("invalid_request", "Could not determine client ID from request.")
        if form.get("refresh_token") != self.setting("refresh_token"):
            return self._refuse("invalid_grant", "Token has been expired or revoked.")
        scopes = form.get("scope", "").split() or [CLOUD_PLATFORM]
        return self._oauth(200, {**self._issue(scopes, "user", "ya29.a."), "scope": " ".join(scopes)})

    # ── impersonation ──

    def _impersonate(self, request: RecordedRequest, email: str) -> Answer:
        self.authenticate(request)
        self.check_quota_project(request)
        body = request.json
        scopes = body.get("scope") if isinstance(body, dict) else None
        if not isinstance(scopes, list) or not scopes or not all(isinstance(scope, str) for scope in scopes):
            return self.google_error(request, 400)
        life = _DURATION.fullmatch(str(body.get("lifetime") or "3600s"))
        if life is None or not 0 < float(life["seconds"]) <= _LONGEST:
            return self.google_error(request, 400)
        accounts = self.setting("service_accounts")
        if "@" not in email or (accounts and email not in accounts):
            return self.google_error(request, 404, f"Not found; Gaia id not found for email {email}")
        if email in self.setting("locked_accounts"):
            permission = "iam.serviceAccounts.getAccessToken"
            text = f"Permission '{permission}' denied on resource (or it may not exist)."
            reason = "IAM_PERMISSION_DENIED"
            return self.google_error(request, 403, text, reason=reason, domain="iam.googleapis.com",
                                     permission=permission)  # fmt: skip
        seconds = min(float(life["seconds"]), self.options.tokens.life)
        token = self.options.tokens.issue(scopes, life=seconds, subject=email, prefix="ya29.c.")
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(token.expires))
        headers = {**self.google_headers(), "content-type": "application/json; charset=UTF-8"}
        return json_answer(200, {"accessToken": token.text, "expireTime": expires}, headers)

    # ── the metadata server ──

    def _metadata(self, request: RecordedRequest) -> Answer:
        path = request.path
        if path == "/":  # the one page that needs no header: clients look for a machine in the cloud here
            return self._text("computeMetadata/\n")
        if request.headers.get("metadata-flavor") != "Google":
            text = f"Your client does not have permission to get URL {path} from this server."
            return self._text(f"{text} Missing Metadata-Flavor:Google header.", 403)
        rest = path.removeprefix(_METADATA)
        account: str = self.setting("metadata_account")
        texts = {
            "project/project-id": self.setting("project"),
            "project/numeric-project-id": self.setting("project_number"),
            "instance/zone": f"projects/{self.setting('project_number')}/zones/{self.setting('region')}-a",
            "instance/service-accounts/": f"default/\n{account}/\n",
            "universe/universe-domain": "googleapis.com",
        }
        if rest in texts:
            return self._text(texts[rest])
        match = _ACCOUNT.fullmatch(rest)
        if match is None or match["account"] not in ("default", account):
            return self._text("Not Found", 404)
        match match["what"]:
            case "email":
                return self._text(account)
            case "scopes":
                return self._text(f"{CLOUD_PLATFORM}\n")
            case "token":
                scopes = [scope for scope in request.query.get("scopes", "").split(",") if scope] or [CLOUD_PLATFORM]
                return self._flavoured(json_answer(200, self._issue(scopes, account, "ya29.d.")))
        if request.query.get("recursive", "").lower() != "true":
            return self._text("aliases\nemail\nidentity\nscopes\ntoken\n")
        about = {"aliases": ["default"], "email": account, "scopes": [CLOUD_PLATFORM]}
        return self._flavoured(json_answer(200, about))

    def _text(self, text: str, status: int = 200) -> Answer:
        return self._flavoured(Answer(status, {"content-type": "application/text"}, text.encode()))

    def _flavoured(self, answer: Answer) -> Answer:
        answer.headers |= {
            "metadata-flavor": "Google",
            "server": "Metadata Server for VM",
            "x-xss-protection": "0",
            "x-frame-options": "SAMEORIGIN",
        }
        return answer

    # ── errors ──

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        if request.path == "/token":
            usual = "invalid_grant" if status < 500 else "internal_failure"
            return self._refuse(str(code or usual), message or "Bad Request", status)
        if request.path.startswith("/computeMetadata"):
            return self._text(message or "The service is unavailable", status)
        return self.google_error(request, status, message)

    def stream_error(
        self, request: RecordedRequest, status: int, message: str | None, code: int | str | None
    ) -> list[Event]:
        return []
