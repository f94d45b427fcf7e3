"""AWS's credentials: where they come from, when they are fetched again, and what is signed with them.

botocore is the oracle for the signature; a small server stands for STS, a container's endpoint and the model.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import json
import logging
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import botocore.auth
import botocore.credentials
import botocore.session
import botocore.tokens
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

import llamaroute as lr
from llamaroute.auth import aws
from llamaroute.auth.aws import SigV4
from llamaroute.errors import AuthenticationError, ConfigError, ConnectionError
from llamaroute.providers.bedrock import SPEC
from llamaroute.registry import make_auth
from llamaroute.spi import Auth, AuthSettings, WireRequest, WireResponse
from tests.auth.aws_server import ROLE, Aws, certificate, expiry

NOW = 1_800_000_000.0
KEY, SECRET = "AKIDEXAMPLE000000001", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYS = {"access_key_id": KEY, "secret_access_key": SECRET}
ENV_KEYS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
REGION = {"AWS_REGION": "us-east-1"}
URL = "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.meta.llama4-scout-17b-instruct-v1%3A0/converse"
WIRE = WireRequest("POST", URL, {"content-type": "application/json", "accept": "application/json"}, b'{"messages":[]}')


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """botocore reads the process's own environment: here, nothing of the developer's is in it."""
    import os

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.fixture
def server() -> Iterator[Aws]:
    running = Aws()
    yield running
    running.close()


def auth_of(settings: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None) -> Auth:
    options = SPEC.settings.model_validate({"kind": "bedrock", **(settings or {})})
    return make_auth(SPEC, AuthSettings("work", options, {} if env is None else env))


def signed(auth: Auth, wire: WireRequest = WIRE, now: float = NOW) -> WireRequest:
    """What a call does before it sends."""
    if auth.stale(now):
        auth.refresh()
    return auth.sign(wire, now)


def access_key(auth: Auth) -> str:
    return signed(auth).headers["authorization"].partition("Credential=")[2].partition("/")[0]


def files(folder: Path, config: str = "", credentials: str = "") -> dict[str, str]:
    """AWS's two files, and the variables that name them."""
    (folder / "config").write_text(config)
    (folder / "credentials").write_text(credentials)
    return {"AWS_CONFIG_FILE": str(folder / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials")}


# -- the signature -----------------------------------------------------------------------------------------------------


def botocore_signs(wire: WireRequest, now: float, token: str | None, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The headers that botocore's own signer gives at that moment."""
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *a, **k: moment.replace(tzinfo=None))
    body = wire.body if isinstance(wire.body, bytes) else b"".join(wire.body)
    headers = {k: v for k, v in wire.headers.items() if k in ("content-type", "host") or k.startswith("x-amz-")}
    request = AWSRequest(wire.method, wire.url, headers=headers, data=body)
    botocore.auth.SigV4Auth(Credentials(KEY, SECRET, token), "bedrock", "us-east-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


ARN = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.meta.llama4"


@pytest.mark.parametrize("token", [None, "a-session-token/+="])
@pytest.mark.parametrize(
    "wire",
    [
        WIRE,
        WireRequest("POST", URL, WIRE.headers, (b'{"bytes":"', b"AAAA" * 1000, b'"}')),
        WireRequest("POST", URL, WIRE.headers, b""),
        WireRequest("POST", f"https://bedrock-runtime.us-east-1.amazonaws.com/model/{ARN}/converse-stream", {}, b"{}"),
        WireRequest("POST", "http://127.0.0.1:8080/bedrock/model/a%3A0/converse", WIRE.headers, b"{}"),
        WireRequest("POST", "https://host:443/model/a/converse?b=2&a=1%2F&a", WIRE.headers, b"{}"),
        WireRequest("POST", URL, {**WIRE.headers, "host": "proxy.example", "x-amz-own": "  a   b "}, b"{}"),
        WireRequest("GET", "https://bedrock.us-east-1.amazonaws.com/foundation-models?byProvider=Meta", {}, b""),
    ],
    ids=["plain", "parts", "empty", "arn", "emulator", "query", "headers", "get"],
)
def test_the_signature_is_botocores(wire: WireRequest, token: str | None, monkeypatch: pytest.MonkeyPatch):
    settings = {**KEYS, "region": "us-east-1"} | ({"session_token": token} if token else {})
    ours = signed(auth_of(settings), wire)
    theirs = botocore_signs(wire, NOW, token, monkeypatch)
    assert {name: ours.headers[name] for name in theirs} == theirs
    assert set(ours.headers) - set(theirs) <= {"accept"}
    assert (ours.url, ours.body, ours.method) == (wire.url, wire.body, wire.method)


def test_each_day_has_a_key_of_its_own_and_only_the_last_is_kept(monkeypatch: pytest.MonkeyPatch):
    auth: Any = auth_of({**KEYS, "region": "us-east-1"})
    for now in (NOW, NOW + 3600, NOW + 86400, NOW + 2 * 86400, NOW):
        theirs = botocore_signs(WIRE, now, None, monkeypatch)
        assert signed(auth, WIRE, now).headers["authorization"] == theirs["authorization"]
        assert len(auth._token.day_keys) == 1


def test_boto3s_whole_client_signs_the_same_bytes_alike(monkeypatch: pytest.MonkeyPatch):
    """Every header that boto3's client sends for a Converse, with its signature; only what describes boto3 is extra."""
    session = botocore.session.Session()
    options = Config(signature_version="v4")
    client = session.create_client(
        "bedrock-runtime", "us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET, config=options
    )
    caught: list[Any] = []

    def keep(request: Any, **_: Any) -> Any:
        caught.append(request)
        raise RuntimeError("not sent")

    client.meta.events.register("before-send.bedrock-runtime", keep)
    with pytest.raises(RuntimeError, match="not sent"):
        client.converse(
            modelId="us.meta.llama4-scout-17b-instruct-v1:0", messages=[{"role": "user", "content": [{"text": "x"}]}]
        )
    theirs = {
        name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in caught[0].headers.items()
    }
    moment = datetime.datetime.strptime(theirs["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC).timestamp()
    names = theirs["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    given = {name: theirs[name] for name in names if name in theirs and name != "x-amz-date"}
    assert "content-type" in given
    ours = signed(
        auth_of({**KEYS, "region": "us-east-1"}), WireRequest("POST", caught[0].url, given, caught[0].body), moment
    )
    assert ours.headers["authorization"] == theirs["authorization"]
    client.close()


def test_signing_never_logs(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        signed(auth_of({**KEYS, "region": "us-east-1", "session_token": "the-session-token"}))
    assert "Signature" not in caplog.text
    assert "the-session-token" not in caplog.text
    assert SECRET not in caplog.text


def test_no_secret_in_a_repr():
    auth = auth_of({**KEYS, "region": "us-east-1", "session_token": "the-session-token"})
    wire = signed(auth)
    assert isinstance(auth, SigV4)
    for text in (repr(auth), repr(wire), repr(auth._token), str(auth.__dict__)):
        assert SECRET not in text
        assert "the-session-token" not in text
    assert set(auth.secrets) == {SECRET, "the-session-token"}


# -- API keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "env"),
    [
        ({"api_key": "the-api-key"}, REGION),
        ({}, {**REGION, "AWS_BEARER_TOKEN_BEDROCK": "the-api-key"}),
        ({}, {**REGION, **ENV_KEYS, "AWS_BEARER_TOKEN_BEDROCK": " the-api-key\n"}),  # boto3's order
        ({**KEYS, "api_key": "the-api-key"}, REGION),
    ],
    ids=str,
)
def test_an_api_key(settings: dict[str, Any], env: dict[str, str]):
    auth = auth_of(settings, env)
    wire = signed(auth)
    assert wire.headers == {**WIRE.headers, "authorization": "Bearer the-api-key"}
    assert not auth.stale(NOW)
    assert not auth.reject(wire, WireResponse(403, {"x-amzn-errortype": "ExpiredTokenException"}), NOW)
    assert auth.secrets == ("the-api-key",)
    assert "the-api-key" not in repr(auth)


@pytest.mark.parametrize("settings", [KEYS, {"profile": "p"}, {"role_arn": ROLE}], ids=str)
def test_what_the_table_names_beats_the_environments_api_key(settings: dict[str, Any], tmp_path: Path):
    """An account that says whose it is stays so, whatever key happens to be in the environment."""
    env = {**REGION, **files(tmp_path, "[profile p]\n"), "AWS_BEARER_TOKEN_BEDROCK": "the-api-key"}
    assert isinstance(auth_of(settings, env), SigV4)


def test_an_api_key_needs_no_boto3(tmp_path: Path):
    """In a process that has none."""
    code = (
        "import sys; sys.modules['botocore'] = sys.modules['boto3'] = None\n"
        "from llamaroute.registry import make_auth, provider_spec\n"
        "from llamaroute.spi import AuthSettings, WireRequest\n"
        "spec = provider_spec('bedrock')\n"
        "def auth(env, **table):\n"
        "    options = spec.settings.model_validate({'kind': 'bedrock', **table})\n"
        "    return make_auth(spec, AuthSettings('work', options, env))\n"
        "wire = WireRequest('POST', 'https://x.{region}.y', {})\n"
        "wire = auth({'AWS_REGION': 'us-east-1'}, api_key='k').sign(wire, 0)\n"
        "print(wire.url, wire.headers['authorization'])\n"
        "for table, env in (({}, {'AWS_REGION': 'us-east-1'}), ({'api_key': 'k'}, {})):\n"
        "    try:\n"
        "        auth(env, **table)\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "https://x.us-east-1.y Bearer k"
    assert lines[1].startswith("ConfigError providers.work: botocore")
    assert lines[1].endswith("is not installed; pip install 'llamaroute[bedrock]'")
    assert lines[2].startswith("ConfigError providers.work.region: no region is known")


# -- the region --------------------------------------------------------------------------------------------------------


def host_of(settings: dict[str, Any], env: Mapping[str, str]) -> str:
    wire = WireRequest("POST", "https://bedrock-runtime.{region}.amazonaws.com/model/x/converse", {}, b"{}")
    return signed(auth_of(settings, env), wire).url.split("/")[2].split(".")[1]


@pytest.mark.parametrize("credential", [{"api_key": "k"}, KEYS], ids=["api-key", "keys"])
def test_where_the_region_is_from(credential: dict[str, Any], tmp_path: Path):
    env = files(tmp_path, "[default]\nregion = us-east-2\n[profile p]\nregion = us-west-1\n")
    assert host_of(credential, env) == "us-east-2"
    assert host_of(credential, {**env, "AWS_PROFILE": "p"}) == "us-west-1"
    assert host_of(credential, {**env, "AWS_DEFAULT_REGION": "us-west-2"}) == "us-west-2"
    assert host_of(credential, {**env, "AWS_DEFAULT_REGION": "us-west-2", "AWS_REGION": "us-east-1"}) == "us-east-1"


def test_the_region_of_a_named_profile(tmp_path: Path):
    env = files(
        tmp_path, "[profile p]\nregion = us-west-1\n", "[p]\naws_access_key_id = A\naws_secret_access_key = s\n"
    )
    assert host_of({"profile": "p"}, env) == "us-west-1"


def test_the_region_of_a_url_of_ones_own():
    base = {"base_url": "https://bedrock-runtime.us-west-2.amazonaws.com"}
    assert "/us-west-2/bedrock/" in signed(auth_of({**KEYS, **base})).headers["authorization"]
    with pytest.raises(ConfigError, match="no region"):
        auth_of({**KEYS, "base_url": "https://proxy.example"})
    assert signed(auth_of({"api_key": "k", "base_url": "https://proxy.example"})).headers["authorization"] == "Bearer k"


@pytest.mark.parametrize("settings", [{"api_key": "k"}, KEYS, {}], ids=str)
def test_no_region(settings: dict[str, Any]):
    with pytest.raises(ConfigError) as caught:
        auth_of(settings)
    assert caught.value.key == "providers.work.region"
    assert all(name in str(caught.value) for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "us-east-1"))


# -- where keys are from -----------------------------------------------------------------------------------------------


def test_keys_of_the_environment():
    env = {**REGION, **ENV_KEYS, "AWS_SESSION_TOKEN": "the-token"}
    wire = signed(auth_of({}, env))
    assert f"Credential={KEY}/" in wire.headers["authorization"]
    assert wire.headers["x-amz-security-token"] == "the-token"


def test_keys_of_the_process_do_not_count_for_an_account_with_an_environment_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFTHEPROCESS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    with pytest.raises(AuthenticationError, match="no AWS credentials were found"):
        signed(auth_of({}, REGION))


def test_profiles_of_the_files(tmp_path: Path):
    env = {
        **REGION,
        **files(
            tmp_path,
            "[default]\n[profile p]\n",
            "[default]\naws_access_key_id = AKIDDEFAULT\naws_secret_access_key = s1\n"
            "[p]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = s2\naws_session_token = t2\n",
        ),
    }
    assert access_key(auth_of({}, env)) == "AKIDDEFAULT"
    assert access_key(auth_of({"profile": "p"}, env)) == "AKIDPROFILE"
    assert access_key(auth_of({}, {**env, "AWS_PROFILE": "p"})) == "AKIDPROFILE"
    # As with boto3: keys beat a profile of the environment, a profile in the table beats keys of the environment.
    assert access_key(auth_of({}, {**env, **ENV_KEYS, "AWS_PROFILE": "p"})) == KEY
    assert access_key(auth_of({"profile": "p"}, {**env, **ENV_KEYS})) == "AKIDPROFILE"


def test_no_such_profile(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"providers.work.profile: .*\(nobody\).*list-profiles") as caught:
        auth_of({"profile": "nobody"}, {**REGION, **files(tmp_path)})
    assert caught.value.key == "providers.work.profile"


def test_a_file_that_is_none(tmp_path: Path):
    with pytest.raises(ConfigError, match="AWS's config files"):
        auth_of({"profile": "p"}, {**REGION, **files(tmp_path, "[profile p\nregion")})


def test_half_a_key(tmp_path: Path):
    env = {**REGION, **files(tmp_path, "[profile p]\n", "[p]\naws_access_key_id = A\n")}
    with pytest.raises(ConfigError, match="not whole"):
        signed(auth_of({"profile": "p"}, env))


def test_half_a_key_of_the_environment():
    with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY is not"):
        signed(auth_of({}, {**REGION, "AWS_ACCESS_KEY_ID": KEY}))


def test_no_credentials_at_all():
    with pytest.raises(AuthenticationError) as caught:
        signed(auth_of({}, REGION))
    assert all(word in str(caught.value) for word in ("providers.work", "api_key", "profile", "aws configure"))
    assert caught.value.failover


def program(folder: Path, output: str, code: int = 0) -> str:
    """A profile that runs a program, which prints `output`."""
    script = folder / "program.py"
    script.write_text(
        f"import sys\nopen({str(folder / 'runs')!r}, 'a').write('x')\nprint({output!r})\nsys.exit({code})\n"
    )
    return f"[profile p]\ncredential_process = {sys.executable} {script}\n"


def process_keys(**more: Any) -> str:
    return json.dumps({"Version": 1, "AccessKeyId": "AKIDPROCESS", "SecretAccessKey": "s", **more})


def test_a_program_of_the_profiles(tmp_path: Path):
    env = {**REGION, **files(tmp_path, program(tmp_path, process_keys(SessionToken="t", Expiration=expiry(3600))))}
    auth = auth_of({"profile": "p"}, env)
    signed(auth, now=time.time())
    assert signed(auth, now=time.time()).headers["x-amz-security-token"] == "t"
    assert (tmp_path / "runs").read_text() == "x"
    assert not auth.stale(time.time() + 3600 - 15 - 300 - 5)
    assert auth.stale(time.time() + 3600 - 15 - 300 + 5)


def test_a_program_that_fails(tmp_path: Path):
    env = {**REGION, **files(tmp_path, program(tmp_path, "sekret-output", 3))}
    with pytest.raises(AuthenticationError, match="no AWS credentials: CredentialRetrievalError") as caught:
        signed(auth_of({"profile": "p"}, env))
    assert "sekret" not in str(caught.value)


def test_a_program_that_hangs_does_not_hold_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(aws, "LIMIT", 0.3)
    (tmp_path / "slow.py").write_text("import time; time.sleep(5)")
    env = {**REGION, **files(tmp_path, f"[profile p]\ncredential_process = {sys.executable} {tmp_path / 'slow.py'}\n")}
    began = time.monotonic()
    with pytest.raises(AuthenticationError, match="did not come within"):
        signed(auth_of({"profile": "p"}, env))
    assert time.monotonic() - began < 3


def test_single_sign_on_that_has_ended(tmp_path: Path):
    with pytest.raises(AuthenticationError, match="run 'aws sso login --profile p'"):
        signed(auth_of({"profile": "p"}, {**REGION, **files(tmp_path, SIGN_ON)}))


def test_the_role_of_a_container(server: Aws, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/container")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "the-container-token")
    auth = auth_of({}, REGION)
    assert access_key(auth) == "ASIAISSUED000001"
    assert server.container[0]["authorization"] == "the-container-token"
    assert (server.issued, auth.stale(time.time())) == (1, False)


SIGN_ON = (
    "[profile p]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = r\n"
    "[sso-session s]\nsso_region = us-east-1\nsso_start_url = https://example.awsapps.com/start\n"
)


def test_single_sign_on(server: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the token that `aws sso login` leaves in a file under a digest of the session's name."""
    token = {"accessToken": "the-sso-token", "expiresAt": expiry(3600), "region": "us-east-1", "startUrl": "x"}
    (tmp_path / f"{hashlib.sha1(b's').hexdigest()}.json").write_text(json.dumps(token))
    for reader in (botocore.tokens.SSOTokenProvider, botocore.credentials.SSOProvider):
        monkeypatch.setattr(reader, "_SSO_TOKEN_CACHE_DIR", str(tmp_path))  # else below the home directory
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", server.url)
    auth = auth_of({"profile": "p"}, {**REGION, **files(tmp_path, SIGN_ON)})
    assert access_key(auth) == "ASIAISSUED000001"
    assert server.container[0]["x-amz-sso_bearer_token"] == "the-sso-token"
    assert (auth.stale(time.time()), auth.stale(time.time() + 3600)) == (False, True)
    server.signed_out = True
    with pytest.raises(AuthenticationError, match="run 'aws sso login --profile p'"):
        signed(auth_of({"profile": "p"}, {**REGION, **files(tmp_path, SIGN_ON)}))
    with pytest.raises(AuthenticationError, match="run 'aws sso login --profile p'"):
        signed(auth_of({}, {**REGION, **files(tmp_path, SIGN_ON), "AWS_PROFILE": "p"}))


def test_the_role_of_a_machine(server: Aws, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url)
    auth = auth_of({}, REGION)
    assert access_key(auth) == "ASIAISSUED000001"
    assert server.container[0]["x-aws-ec2-metadata-token"] == "the-metadata-token"
    assert (auth.stale(time.time()), auth.stale(time.time() + 3600)) == (False, True)


def test_a_machine_without_a_role_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://192.0.2.1")  # nobody is there: RFC 5737
    began = time.monotonic()
    with pytest.raises(AuthenticationError, match="no AWS credentials were found"):
        signed(auth_of({}, REGION))
    assert time.monotonic() - began < 10


def test_the_web_identity_of_a_pod(sts: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "token").write_text("the-web-token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    auth = auth_of({}, REGION)
    assert access_key(auth) == "ASIAISSUED000001"
    assert (sts.roles[0]["Action"], sts.roles[0]["WebIdentityToken"]) == ("AssumeRoleWithWebIdentity", "the-web-token")
    assert (auth.stale(time.time()), auth.stale(time.time() + 3600)) == (False, True)


def test_a_profile_that_only_the_process_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is not the account's, whose environment is another."""
    env = files(tmp_path, "", "[p]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_PROFILE", "p")
    with pytest.raises(AuthenticationError, match="no AWS credentials were found"):
        signed(auth_of({}, {**REGION, **env}))


@pytest.fixture
def sts(server: Aws, monkeypatch: pytest.MonkeyPatch) -> Aws:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
    return server


def test_a_role_is_assumed_with_the_tables_keys(sts: Aws):
    wire = signed(auth_of({**KEYS, "role_arn": ROLE, "region": "us-west-2"}))
    assert wire.headers["x-amz-security-token"] == "issued-token-1"
    assert "Credential=ASIAISSUED000001/" in wire.headers["authorization"]
    assert (sts.roles[0]["Action"], sts.roles[0]["RoleArn"]) == ("AssumeRole", ROLE)
    assert f"Credential={KEY}/" in sts.roles[0]["authorization"]
    assert "/us-west-2/sts/" in sts.roles[0]["authorization"]


def test_a_role_is_assumed_with_a_profiles_keys(sts: Aws, tmp_path: Path):
    files_ = files(tmp_path, "[profile p]\n", "[p]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = s\n")
    assert access_key(auth_of({"profile": "p", "role_arn": ROLE}, {**REGION, **files_})) == "ASIAISSUED000001"
    assert "Credential=AKIDPROFILE/" in sts.roles[0]["authorization"]


def test_a_role_of_a_profile(sts: Aws, tmp_path: Path):
    env = files(
        tmp_path,
        f"[profile base]\n[profile p]\nrole_arn = {ROLE}\nsource_profile = base\n",
        "[base]\naws_access_key_id = AKIDBASE\naws_secret_access_key = s\n",
    )
    auth = auth_of({"profile": "p"}, {**REGION, **env})
    assert access_key(auth) == "ASIAISSUED000001"
    assert not auth.stale(time.time())
    assert auth.stale(time.time() + 3600)


def test_credentials_are_asked_for_through_the_accounts_proxy(server: Aws, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://sts.nowhere.invalid")  # the proxy gets its whole URL
    table = {**KEYS, "role_arn": ROLE, "region": "us-east-1", "proxy": server.url}
    assert access_key(auth_of(table)) == "ASIAISSUED000001"


@pytest.mark.parametrize("verify", [True, False, "the file"])
def test_credentials_are_asked_for_with_the_accounts_certificates(
    verify: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = certificate(tmp_path)
    server = Aws(file)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
    verify = str(file) if verify == "the file" else verify
    table = {
        "kind": "bedrock",
        **KEYS,
        "role_arn": ROLE,
        "region": "us-east-1",
        "base_url": server.url,
        "verify": verify,
    }
    try:
        with warnings.catch_warnings(), lr.Client({"providers": {"work": table}}, env={}) as client:
            warnings.simplefilter("ignore")  # urllib3's, about not verifying
            if verify is True:
                with pytest.raises(ConnectionError, match="certificate"):
                    client.chat("Hi", retry=1)
            else:
                assert client.chat("Hi", retry=1).text == "Hello."
        assert len(server.calls) == len(server.roles) == (0 if verify is True else 1)
    finally:
        server.close()


def test_a_role_that_may_not_be_assumed(sts: Aws):
    sts.refusals = [(403, "AccessDenied", "User is not authorized to perform: sts:AssumeRole")]
    with pytest.raises(AuthenticationError, match="refused to give credentials: User is not authorized") as caught:
        signed(auth_of({**KEYS, "role_arn": ROLE, "region": "us-east-1"}))
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (403, "AccessDenied", "r-2")


def test_an_answer_that_is_none_is_not_quoted(sts: Aws, caplog: pytest.LogCaptureFixture, tmp_path: Path):
    """botocore's exception holds all of it, and so does the line that it logs."""
    sts.garbage = "<AssumeRoleResponse><SecretAccessKey>issued-secret</SecretAccessKey>"
    config = f"[profile base]\n[profile p]\nrole_arn = {ROLE}\nsource_profile = base\n"
    env = files(tmp_path, config, "[base]\naws_access_key_id = A\naws_secret_access_key = s\n")
    for auth in (auth_of({"profile": "p"}, {**REGION, **env}), auth_of({**KEYS, "role_arn": ROLE}, REGION)):
        with pytest.raises(AuthenticationError, match="Unable to parse response") as caught:
            signed(auth)
        assert "issued-secret" not in "".join(traceback.format_exception(caught.value))
    assert "issued-secret" not in caplog.text


def test_nobody_to_assume_a_role_with(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="could not be asked"):
        signed(auth_of({**KEYS, "role_arn": ROLE, "region": "us-east-1"}))


def test_what_botocore_logs_holds_no_key(sts: Aws, caplog: pytest.LogCaptureFixture):
    """It logs at DEBUG what STS answers. Other threads' lines stay."""
    with caplog.at_level(logging.DEBUG):
        signed(auth_of({**KEYS, "role_arn": ROLE, "region": "us-east-1"}))
        logging.getLogger("botocore.parsers").debug("a line of the application's own")
    for text in ("issued-secret", "issued-token", SECRET, "Signature="):
        assert text not in caplog.text
    assert "a line of the application's own" in caplog.text


# -- when they are fetched again ---------------------------------------------------------------------------------------


def test_a_thousand_calls_fetch_once(sts: Aws):
    auth = auth_of({**KEYS, "role_arn": ROLE, "region": "us-east-1"})

    async def call() -> str:
        now = time.time()
        if auth.stale(now):
            await asyncio.to_thread(auth.refresh)
        return auth.sign(WIRE, now).headers["x-amz-security-token"]

    async def main() -> set[str]:
        return set(await asyncio.gather(*(call() for _ in range(1000))))

    assert asyncio.run(main()) == {"issued-token-1"}
    assert len(sts.roles) == 1


def test_threads_fetch_once_and_together_again_when_they_end(sts: Aws):
    table = {"kind": "bedrock", "base_url": sts.url, "region": "us-east-1", **KEYS, "role_arn": ROLE}
    with lr.Client({"providers": {"work": table}}, env={}) as client:

        def work() -> None:
            assert client.chat("Hi", retry=1).text == "Hello."

        for expected in (1, 2):
            threads = [threading.Thread(target=work) for _ in range(24)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(sts.roles) == expected
            sts.revoked.add(f"ASIAISSUED{expected:06}")


def test_keys_that_were_revoked_are_fetched_anew_once(sts: Aws):
    table = {"kind": "bedrock", "base_url": sts.url, "region": "us-east-1", **KEYS, "role_arn": ROLE}
    with lr.Client({"providers": {"work": table}}, env={}) as client:
        assert client.chat("Hi", retry=1).text == "Hello."
        sts.revoked = {"ASIAISSUED000001"}
        assert client.chat("Hi", retry=1).text == "Hello."
        assert (len(sts.roles), len(sts.calls)) == (2, 3)
        sts.revoked = {f"ASIAISSUED{number:06}" for number in range(9)}
        with pytest.raises(AuthenticationError, match="expired") as caught:
            client.chat("Hi", retry=1)
        assert caught.value.code == "ExpiredTokenException"
        assert (len(sts.roles), len(sts.calls)) == (3, 5)


def test_fixed_keys_that_are_refused_stay_refused(server: Aws):
    server.revoked = {KEY}
    table = {"kind": "bedrock", "base_url": server.url, "region": "us-east-1", **KEYS}
    with lr.Client({"providers": {"work": table}}, env={}) as client, pytest.raises(AuthenticationError):
        client.chat("Hi", retry=1)
    assert len(server.calls) == 1


def test_keys_are_renewed_ahead_of_their_end(sts: Aws):
    sts.life = 400
    auth = auth_of({**KEYS, "role_arn": ROLE, "region": "us-east-1"})
    auth.refresh()
    assert not auth.stale(time.time())
    assert auth.stale(time.time() + 400 * 0.85)
    auth.refresh()  # not stale: nothing is fetched
    assert len(sts.roles) == 1


# -- clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [-86_400.0, -600.0, 0.0, 200.0, 600.0, 86_400.0])
def test_a_clock_that_is_wrong(server: Aws, ahead: float):
    server.ahead = ahead
    table = {"kind": "bedrock", "base_url": server.url, "region": "us-east-1", **KEYS}
    with lr.Client({"providers": {"work": table}}, env={}) as client:
        assert client.chat("Hi", retry=1).text == "Hello."
        assert client.chat("Hi", retry=1).text == "Hello."
    assert len(server.calls) == (3 if abs(ahead) > 300 else 2)  # corrected once, and remembered


SKEWED = {"x-amzn-errortype": "InvalidSignatureException:http://internal", "date": "Fri, 15 Jan 2027 08:10:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "body", "again"),
    [
        (SKEWED, b"{}", True),
        ({**SKEWED, "x-amzn-errortype": "RequestExpired"}, b"{}", True),
        ({"date": SKEWED["date"]}, b'{"message": "Signature expired: 20270115T080000Z is now earlier than ..."}', True),
        ({"date": SKEWED["date"]}, b'{"message": "Signature not yet current: ..."}', True),
        ({**SKEWED, "date": "Fri, 15 Jan 2027 08:00:05 GMT"}, b"{}", False),  # the clock is right: the key is wrong
        ({**SKEWED, "date": "yesterday"}, b"{}", False),
        ({"x-amzn-errortype": "InvalidSignatureException"}, b"{}", False),
        ({**SKEWED, "x-amzn-errortype": "AccessDeniedException"}, b"{}", False),
    ],
)
def test_when_the_clock_is_corrected(headers: dict[str, str], body: bytes, again: bool):
    auth = auth_of({**KEYS, "region": "us-east-1"})
    wire = signed(auth)
    assert auth.reject(wire, WireResponse(403, headers, body), NOW) is again
    assert auth.sign(WIRE, NOW).headers["x-amz-date"] == ("20270115T081000Z" if again else "20270115T080000Z")
    # A second refusal of what was signed with the corrected clock is no matter of clocks.
    assert auth.reject(auth.sign(WIRE, NOW), WireResponse(403, headers, body), NOW) is False
