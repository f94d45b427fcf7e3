"""AWS Signature Version 4, verified with nothing but hashlib and hmac; and the temporary credentials of the emulator.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. The texts of the refusals
are those of user reports and recordings (newrelic/newrelic-python-agent:tests/external_botocore/
_mock_external_bedrock_server_converse.py for "The security token ... is invalid.").
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, unquote

from ..answer import RecordedRequest
from ..tokens import Tokens

__all__ = ["ACCESS_KEY_ID", "ACCOUNT", "REGIONS", "SECRET_ACCESS_KEY", "Caller", "Session", "SignatureError", "verify"]

ACCESS_KEY_ID = "AKIAEMULATOREMULATOR"
SECRET_ACCESS_KEY = "emulator/secret/access/key+0000000000000"
ACCOUNT = "123456789012"
REGIONS = ("us-east-1", "us-east-2", "us-west-1", "us-west-2")
"""Where the US profiles of Llama 4 can be called from (us-west-1 is inferred)."""

AUDIENCE = "aws"
"""What session tokens are good for, in the emulator's list of tokens."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_PARTS = re.compile(r"(?P<name>Credential|SignedHeaders|Signature)=(?P<value>[^,\s]+)")


class SignatureError(Exception):
    """The request is not let in: the error's type and its text."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


@dataclass(frozen=True, slots=True)
class Caller:
    """Who signed, and for which region."""

    access_key_id: str
    arn: str
    region: str


@dataclass(frozen=True, slots=True)
class Session:
    """Temporary credentials: key and secret follow from the session token, so that the emulator's list of tokens is
    all that the hosts share."""

    token: str
    arn: str
    expires: float

    @classmethod
    def issue(cls, tokens: Tokens, arn: str, life: float) -> Session:
        """New credentials for somebody."""
        token = tokens.issue(AUDIENCE, life=life, subject=arn, prefix="IQoJb3JpZ2luX2VjE")
        return cls(token.text, arn, token.expires)

    @property
    def access_key_id(self) -> str:
        return "ASIA" + base64.b32encode(hashlib.sha256(self.token.encode()).digest()).decode()[:16]

    @property
    def secret_access_key(self) -> str:
        return base64.b64encode(hmac.digest(b"llamaroute emulator", self.token.encode(), "sha256")).decode()[:40]

    @property
    def expiration(self) -> str:
        """The end as AWS writes it."""
        return datetime.fromtimestamp(self.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class _Claim:
    """The Authorization header, taken apart."""

    key_id: str
    day: str
    region: str
    service: str
    signed: Sequence[str]
    signature: str


def verify(request: RecordedRequest, tokens: Tokens, *, service: str, minutes: int, now: float) -> Caller:
    """Who signed the request; SignatureError if nobody did properly. `minutes`: how far the clocks may be apart."""
    claim = _claim(request.headers.get("authorization", ""))
    secret, arn = _secret_of(claim, request.headers.get("x-amz-security-token"), tokens)
    if claim.service != service:
        raise SignatureError(
            "InvalidSignatureException", f"Credential should be scoped to correct service: '{service}'. "
        )
    if claim.region not in REGIONS:
        raise SignatureError("InvalidSignatureException", "Credential should be scoped to a valid region. ")
    stamp = request.headers.get("x-amz-date", "")
    _check_date(stamp, claim.day, now, minutes)
    if "host" not in claim.signed:
        text = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
        raise SignatureError("InvalidSignatureException", text)
    if not hmac.compare_digest(_signature(request, claim, stamp, secret), claim.signature):
        raise SignatureError(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details.",
        )
    return Caller(claim.key_id, arn, claim.region)


def _claim(header: str) -> _Claim:
    if not header.strip():
        raise SignatureError("MissingAuthenticationTokenException", "Missing Authentication Token")
    algorithm, _, rest = header.partition(" ")
    parts = {found["name"]: found["value"] for found in _PARTS.finditer(rest)}
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if name not in parts]
    scope = parts.get("Credential", "").split("/")
    if algorithm != _ALGORITHM or missing or len(scope) != 5 or scope[4] != "aws4_request":
        named = "".join(f"Authorization header requires '{name}' parameter. " for name in missing)
        text = named or f"Authorization header requires existence of either a '{_ALGORITHM}' credential scope. "
        raise SignatureError("IncompleteSignatureException", text + f"Authorization={algorithm}")
    key_id, day, region, service, _ = scope
    return _Claim(key_id, day, region, service, parts["SignedHeaders"].split(";"), parts["Signature"])


def _secret_of(claim: _Claim, token: str | None, tokens: Tokens) -> tuple[str, str]:
    """The secret access key of the caller, and its name."""
    if token is None and claim.key_id == ACCESS_KEY_ID:
        return SECRET_ACCESS_KEY, f"arn:aws:iam::{ACCOUNT}:user/emulator"
    found = tokens.find(token or "")
    session = None if found is None else Session(found.text, found.subject, found.expires)
    state = tokens.state(token or "", AUDIENCE)
    if session is None or session.access_key_id != claim.key_id or state not in ("valid", "expired"):
        raise SignatureError("UnrecognizedClientException", "The security token included in the request is invalid.")
    if state == "expired":
        raise SignatureError("ExpiredTokenException", "The security token included in the request is expired")
    return session.secret_access_key, session.arn


def _check_date(stamp: str, day: str, now: float, minutes: int) -> None:
    try:
        signed = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        text = f"Date must be in ISO-8601 'basic format'. Got '{stamp}'. See http://en.wikipedia.org/wiki/ISO_8601"
        raise SignatureError("IncompleteSignatureException", text) from None
    if stamp[:8] != day:
        text = f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{day}'"
        raise SignatureError("InvalidSignatureException", f"{text} != '{stamp[:8]}', from '{stamp}'.")
    apart = 60 * minutes
    if signed < now - apart:
        text = f"Signature expired: {stamp} is now earlier than {_stamp(now - apart)} ({_stamp(now)} - {minutes} min.)"
        raise SignatureError("InvalidSignatureException", text)
    if signed > now + apart:
        text = f"Signature not yet current: {stamp} is still later than {_stamp(now + apart)}"
        raise SignatureError("InvalidSignatureException", f"{text} ({_stamp(now)} + {minutes} min.)")


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


def _signature(request: RecordedRequest, claim: _Claim, stamp: str, secret: str) -> str:
    scope = f"{claim.day}/{claim.region}/{claim.service}/aws4_request"
    digest = hashlib.sha256(_canonical(request, claim.signed)).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in (claim.day, claim.region, claim.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()


def _canonical(request: RecordedRequest, signed: Sequence[str]) -> bytes:
    """The canonical request. Its path is the one on the wire, encoded once more: all services but S3 do that."""
    path, _, query = request.target.partition("?")
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(query, keep_blank_values=True)
    )
    lines = [request.method, quote(_normal(path), safe="/-_.~"), "&".join(f"{name}={value}" for name, value in pairs)]
    for name in signed:
        values = [" ".join(value.split()) for key, value in request.headers.raw if key.lower() == name]
        lines.append(f"{name}:{','.join(values)}")
    lines += ["", ";".join(signed), hashlib.sha256(request.body).hexdigest()]
    return "\n".join(lines).encode()


def _normal(path: str) -> str:
    """The path without `.`, `..` and empty segments."""
    kept: list[str] = []
    for segment in path.split("/"):
        if unquote(segment) == "..":
            kept = kept[:-1]
        elif segment not in ("", "."):
            kept.append(segment)
    return f"/{'/'.join(kept)}{'/' if kept and path.endswith('/') else ''}"
