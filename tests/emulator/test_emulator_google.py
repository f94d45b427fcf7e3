"""Google's token services, with google-auth as the client: what it obtains opens the emulated Vertex AI."""

from __future__ import annotations

import base64
import datetime
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping

import httpx
import pytest

from llamaroute.emulator import Emulator, Fault

service_account = importlib.import_module("google.oauth2.service_account")
user = importlib.import_module("google.oauth2.credentials")
impersonated = importlib.import_module("google.auth.impersonated_credentials")
requests_transport = importlib.import_module("google.auth.transport.requests")
exceptions = importlib.import_module("google.auth.exceptions")
google_auth = importlib.import_module("google.auth")

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
EMAIL = "caller@emulated-project.iam.gserviceaccount.com"
TARGET = "target@emulated-project.iam.gserviceaccount.com"
ENDPOINTS = "/vertex/v1/projects/emulated-project/locations/us-east5/endpoints"


@pytest.fixture(scope="module")
def keys() -> tuple[str, str]:
    """A private key and its public half, as PEM."""
    serialization = importlib.import_module("cryptography.hazmat.primitives.serialization")
    rsa = importlib.import_module("cryptography.hazmat.primitives.asymmetric.rsa")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@pytest.fixture
def request_():
    with requests_transport.requests.Session() as session:
        yield requests_transport.Request(session)


def key_file(emu: Emulator, private: str, email: str = EMAIL) -> dict[str, str]:
    return {
        "type": "service_account", "project_id": "emulated-project", "private_key_id": "abc", "private_key": private,
        "client_email": email, "client_id": "1", "token_uri": emu.url + "/google/token",
    }  # fmt: skip


def account(emu: Emulator, private: str, email: str = EMAIL, scopes: tuple[str, ...] = (SCOPE,)):
    return service_account.Credentials.from_service_account_info(key_file(emu, private, email), scopes=scopes)


def call(emu: Emulator, credentials, **headers: str) -> httpx.Response:
    """List endpoints with what the credentials put on a request."""
    sent = dict(headers)
    credentials.apply(sent)
    return httpx.get(emu.url + ENDPOINTS, headers=sent)


# ── service accounts ──


def test_service_account(emu: Emulator, keys, request_) -> None:
    credentials = account(emu, keys[0])
    credentials.refresh(request_)
    left = (credentials.expiry - datetime.datetime.now(datetime.UTC).replace(tzinfo=None)).total_seconds()
    assert 3590 < left <= 3599
    assert emu.tokens.find(credentials.token).subject == EMAIL
    assert call(emu, credentials).status_code == 200
    emu.revoke_tokens()
    assert call(emu, credentials).status_code == 401
    credentials.refresh(request_)
    assert call(emu, credentials).status_code == 200
    assert [request.host for request in emu.requests].count("google") == 2


def test_key_file_of_the_environment(emu: Emulator, keys, request_, tmp_path, monkeypatch) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key_file(emu, keys[0])))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "payer")
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    credentials, project = google_auth.default(scopes=[SCOPE], request=request_)
    assert project == "emulated-project"
    credentials.refresh(request_)
    assert call(emu, credentials).status_code == 200
    assert emu.requests[-1].headers["x-goog-user-project"] == "payer"


def test_registered_keys_are_checked(keys, request_) -> None:
    other = importlib.import_module("cryptography.hazmat.primitives.asymmetric.rsa")
    serialization = importlib.import_module("cryptography.hazmat.primitives.serialization")
    wrong = other.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with Emulator(settings={"google": {"service_accounts": {EMAIL: keys[1], TARGET: None}}}) as emu:
        account(emu, keys[0]).refresh(request_)
        with pytest.raises(exceptions.RefreshError, match=r"invalid_grant: Invalid JWT Signature\."):
            account(emu, wrong.decode()).refresh(request_)
        account(emu, wrong.decode(), TARGET).refresh(request_)
        with pytest.raises(exceptions.RefreshError, match="invalid_grant: Invalid grant: account not found"):
            account(emu, keys[0], "nobody@emulated-project.iam.gserviceaccount.com").refresh(request_)


def test_without_cryptography_any_signature_will_do(keys, monkeypatch) -> None:
    jwt_bearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    now = int(time.time())
    claims = {"iss": EMAIL, "scope": SCOPE, "aud": "https://oauth2.googleapis.com/token", "iat": now, "exp": now + 60}
    head, body, _ = signed(keys[0], claims).split(".")
    form = {"grant_type": jwt_bearer, "assertion": f"{head}.{body}.AAAA"}
    with Emulator(settings={"google": {"service_accounts": {EMAIL: keys[1]}}}) as emu:
        assert httpx.post(emu.url + "/google/token", data=form).status_code == 400
        monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
        assert httpx.post(emu.url + "/google/token", data=form).status_code == 200


@pytest.mark.parametrize(("minutes", "accepted"), [(0, True), (4, True), (-4, True), (10, False), (-70, False)])
def test_clock(emu: Emulator, keys, request_, monkeypatch, minutes: int, accepted: bool) -> None:
    helpers = importlib.import_module("google.auth._helpers")
    shown = helpers.utcnow() + datetime.timedelta(minutes=minutes)
    credentials = account(emu, keys[0])
    with monkeypatch.context() as patch:
        patch.setattr(helpers, "utcnow", lambda: shown)
        if accepted:
            credentials.refresh(request_)
        else:
            text = r"Token must be a short-lived token \(60 minutes\) and in a reasonable timeframe\. Check your iat"
            with pytest.raises(exceptions.RefreshError, match=text):
                credentials.refresh(request_)
    assert (credentials.token is not None) is accepted


def test_scopes(emu: Emulator, keys, request_) -> None:
    with pytest.raises(exceptions.RefreshError, match="invalid_scope: Invalid OAuth scope or ID token audience"):
        account(emu, keys[0], scopes=()).refresh(request_)
    narrow = account(emu, keys[0], scopes=("https://www.googleapis.com/auth/drive",))
    narrow.refresh(request_)
    refused = call(emu, narrow)
    assert refused.status_code == 403
    assert refused.json()["error"]["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"


def test_a_busy_token_endpoint_is_asked_again(emu: Emulator, keys, request_, monkeypatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    emu.fault(Fault(status=503), host="google", path="/token")
    credentials = account(emu, keys[0])
    credentials.refresh(request_)
    assert [request.status for request in emu.requests] == [503, 200]
    emu.fault(Fault(status=400, message="Token has been expired or revoked."), host="google", path="/token")
    with pytest.raises(exceptions.RefreshError, match=r"invalid_grant: Token has been expired or revoked\."):
        credentials.refresh(request_)


def test_self_signed_tokens(keys) -> None:
    with Emulator(settings={"google": {"service_accounts": {EMAIL: keys[1]}}}) as emu:
        for claims, status in (({}, 200), ({"aud": "https://drive.googleapis.com/"}, 401), ({"exp": 1}, 401)):
            now = int(time.time())
            payload = {
                "iss": EMAIL, "sub": EMAIL, "iat": now, "exp": now + 3600,
                "aud": "https://us-east5-aiplatform.googleapis.com/", **claims,
            }  # fmt: skip
            credentials = user.Credentials(signed(keys[0], payload))
            assert call(emu, credentials).status_code == status
        forged = user.Credentials(signed(keys[0], payload | {"iss": "x@y", "exp": int(time.time()) + 60}))
        assert call(emu, forged).status_code == 401


def signed(private: str, payload: Mapping[str, object], **header: str) -> str:
    jwt, crypt = importlib.import_module("google.auth.jwt"), importlib.import_module("google.auth.crypt")
    return jwt.encode(crypt.RSASigner.from_string(private), payload, header=header or None).decode()


def grant(emu: Emulator, **form: str) -> tuple[int, str, str]:
    answer = httpx.post(emu.url + "/google/token", data=form)
    body = answer.json()
    return answer.status_code, body["error"], body["error_description"]


def test_refused_grants(emu: Emulator, keys) -> None:
    jwt_bearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    now = int(time.time())
    right = {
        "iss": EMAIL, "scope": SCOPE, "aud": "https://oauth2.googleapis.com/token", "iat": now, "exp": now + 3600
    }  # fmt: skip
    refusals = [
        ({"aud": "https://example.com/token"}, "Invalid JWT: Failed audience check."),
        ({"iat": None}, "Invalid JWT: iat (issued at) is not set."),
        ({"exp": "soon"}, "Invalid JWT: exp (expiration time) is not set."),
        ({"exp": now + 7200}, "Invalid JWT: Token must be a short-lived token (60 minutes)"),
        ({"iss": "nobody"}, "Invalid email or User ID."),
    ]
    for change, words in refusals:
        assertion = signed(keys[0], {**right, **change})
        status, error, description = grant(emu, grant_type=jwt_bearer, assertion=assertion)
        assert (status, error) == (400, "invalid_grant")
        assert description.startswith(words)
    own = signed(keys[0], {**right, "aud": emu.url + "/google/token", "iat": str(now), "exp": str(now + 60)})
    assert httpx.post(emu.url + "/google/token", data={"grant_type": jwt_bearer, "assertion": own}).status_code == 200
    none = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg":"none"}', b"{}", b"x"))
    for assertion in ("", "a.b", "a.b.c", "MQ.MQ.MQ", none):
        assert grant(emu, grant_type=jwt_bearer, assertion=assertion)[2] == "Invalid JWT Signature."
    assert grant(emu, grant_type="password") == (400, "unsupported_grant_type", "Invalid grant_type: password")
    assert grant(emu)[1] == "unsupported_grant_type"


# ── users ──


def test_authorized_user(emu: Emulator, request_) -> None:
    parts = {"token_uri": emu.url + "/google/token", "client_id": "id", "client_secret": "secret"}
    credentials = user.Credentials(None, refresh_token="1//emulator-refresh-token", scopes=[SCOPE], **parts)
    credentials.refresh(request_)
    assert call(emu, credentials.with_quota_project("payer")).status_code == 200
    assert emu.requests[-1].headers["x-goog-user-project"] == "payer"
    stale = user.Credentials(None, refresh_token="1//other", **parts)
    with pytest.raises(exceptions.RefreshError, match=r"invalid_grant: Token has been expired or revoked\."):
        stale.refresh(request_)
    assert grant(emu, grant_type="refresh_token", refresh_token="1//emulator-refresh-token")[1] == "invalid_request"


# ── impersonation ──


def impersonate(emu: Emulator, source, email: str = TARGET, lifetime: int = 600):
    override = f"{emu.url}/google/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
    return impersonated.Credentials(
        source, target_principal=email, target_scopes=[SCOPE], lifetime=lifetime, iam_endpoint_override=override
    )


def test_impersonated(emu: Emulator, keys, request_) -> None:
    credentials = impersonate(emu, account(emu, keys[0]))
    credentials.refresh(request_)
    assert emu.tokens.find(credentials.token).subject == TARGET
    left = (credentials.expiry - datetime.datetime.now(datetime.UTC).replace(tzinfo=None)).total_seconds()
    assert 590 < left <= 601
    assert call(emu, credentials).status_code == 200
    assert emu.requests[1].path == f"/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken"


def test_impersonation_refused(keys, request_) -> None:
    accounts = {EMAIL: keys[1], TARGET: None}
    settings = {"service_accounts": accounts, "locked_accounts": [TARGET]}
    with Emulator(settings={"google": settings}) as emu:
        for email, words in (
            (TARGET, "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."),
            ("ghost@x.iam.gserviceaccount.com", "Not found; Gaia id not found for email ghost@x"),
        ):
            with pytest.raises(exceptions.RefreshError) as caught:
                impersonate(emu, account(emu, keys[0]), email).refresh(request_)
            assert words in caught.value.args[1]
        with pytest.raises(exceptions.RefreshError) as caught:
            impersonate(emu, user.Credentials("wrong")).refresh(request_)
        assert json.loads(caught.value.args[1])["error"]["status"] == "UNAUTHENTICATED"
        with pytest.raises(exceptions.RefreshError) as caught:
            impersonate(emu, account(emu, keys[0]), EMAIL, lifetime=7200).refresh(request_)
        assert json.loads(caught.value.args[1])["error"]["status"] == "INVALID_ARGUMENT"


def test_short_lives(keys, request_) -> None:
    with Emulator(token_life=30) as emu:
        source = account(emu, keys[0])
        source.refresh(request_)
        credentials = impersonate(emu, source)
        credentials.refresh(request_)
        assert emu.tokens.find(source.token).life == emu.tokens.find(credentials.token).life == 30
        assert source.expired, "google-auth renews tokens that live less than some minutes"
        emu.tokens.life = 3600
        source.refresh(request_)
        assert source.valid


# ── the metadata server ──

_ON_A_MACHINE = """
import json, sys, warnings
warnings.simplefilter("error")
import google.auth, google.auth.compute_engine
from google.auth.transport.requests import AuthorizedSession, Request
credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
assert isinstance(credentials, google.auth.compute_engine.Credentials), credentials
with AuthorizedSession(credentials) as session:
    listed = session.get(sys.argv[1])
print(json.dumps([project, credentials.service_account_email, credentials.universe_domain, listed.status_code]))
"""


def test_metadata_server(emu: Emulator, tmp_path) -> None:
    address = emu.url.removeprefix("http://")
    names = ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP")
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    ran = subprocess.run(
        [sys.executable, "-c", _ON_A_MACHINE, emu.url + ENDPOINTS], check=False, capture_output=True, text=True,
        env={**kept, **dict.fromkeys(names, address), "HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path)},
        timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [
        "emulated-project", "emulator@emulated-project.iam.gserviceaccount.com", "googleapis.com", 200
    ]  # fmt: skip
    asked = [request.path for request in emu.requests if request.host == "google"]
    assert "/" in asked
    assert "/computeMetadata/v1/instance/service-accounts/default/token" in asked


def test_metadata_pages(emu: Emulator) -> None:
    root = emu.url + "/computeMetadata/v1/"
    flavour = {"Metadata-Flavor": "Google"}
    account_dir = "instance/service-accounts/default/"
    pages = {
        "project/project-id": "emulated-project",
        "project/numeric-project-id": "123456789012",
        "instance/zone": "projects/123456789012/zones/us-east5-a",
        account_dir + "email": "emulator@emulated-project.iam.gserviceaccount.com",
        account_dir + "scopes": SCOPE + "\n",
    }
    for page, text in pages.items():
        answer = httpx.get(root + page, headers=flavour)
        assert (answer.text, answer.headers["metadata-flavor"]) == (text, "Google")
    assert "token" in httpx.get(root + account_dir, headers=flavour).text
    refused = httpx.get(root + "project/project-id")
    assert refused.status_code == 403
    assert "Missing Metadata-Flavor:Google header." in refused.text
    assert httpx.get(root + "instance/service-accounts/other/token", headers=flavour).status_code == 404
    assert httpx.get(root + "instance/disks", headers=flavour).status_code == 404
    token = httpx.get(root + account_dir + f"token?scopes=openid,{SCOPE}", headers=flavour).json()
    assert token["token_type"] == "Bearer"
    assert emu.tokens.find(token["access_token"]).audiences == {"openid", SCOPE}
    emu.fault(Fault(status=503), path="/computeMetadata", host="google")
    assert httpx.get(root + "project/project-id", headers=flavour).status_code == 503


def test_unknown_pages(emu: Emulator) -> None:
    for path in ("/google/v1/x", "/google/token"):
        assert "Error 404" in httpx.get(emu.url + path).text
    answer = httpx.post(f"{emu.url}/google/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken", json={})
    assert answer.json()["error"]["details"][0]["metadata"]["service"] == "iamcredentials.googleapis.com"
