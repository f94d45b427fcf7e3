"""AWS's sources of temporary credentials: the Security Token Service, and the endpoint that containers ask.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html and
https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html. What they issue lives
`Emulator(token_life=...)` seconds at most and is taken by the host `bedrock`.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from ..answer import Answer, RecordedRequest, json_answer
from .base import Call, request_uuid
from .bedrock import AwsHost
from .bedrock_sigv4 import ACCOUNT, Caller, Session, SignatureError, verify

__all__ = ["AwsCredentials", "AwsSts"]

_XMLNS = "https://sts.amazonaws.com/doc/2011-06-15/"
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(?P<account>\d{12}):role/(?P<path>[\w+=,.@/-]+)")
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}")
# The Query protocol has other names for what is wrong with a signature.
_CODES = {
    "UnrecognizedClientException": "InvalidClientTokenId",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "ExpiredTokenException": "ExpiredToken",
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "IncompleteSignatureException": "IncompleteSignature",
}


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class AwsSts(AwsHost):
    """`sts.<region>.amazonaws.com`, under `/aws-sts`: AssumeRole for every role of the account, GetCallerIdentity."""

    name = "aws-sts"

    async def handle(self, call: Call) -> Answer:
        request = call.request
        raw = request.body.decode("utf-8", "replace") if request.method == "POST" else ""
        form = {**request.query, **dict(parse_qsl(raw, keep_blank_values=True))}
        try:
            caller = verify(request, self.options.tokens, service="sts", minutes=15, now=self.now())
            match form.get("Action"):
                case "AssumeRole":
                    return self._answer("AssumeRole", self._assume(caller, form))
                case "GetCallerIdentity":
                    user = f"<UserId>{caller.access_key_id}</UserId><Account>{ACCOUNT}</Account>"
                    return self._answer("GetCallerIdentity", f"<Arn>{escape(caller.arn)}</Arn>{user}")
            action = form.get("Action", "")
            raise _RefusedError(400, "InvalidAction", f"Could not find operation {action} for version 2011-06-15")
        except SignatureError as refused:
            return self._error(403, _CODES.get(refused.kind, refused.kind), refused.message)
        except _RefusedError as refused:
            return self._error(refused.status, refused.code, refused.message)

    def _assume(self, caller: Caller, form: dict[str, str]) -> str:
        role, name = form.get("RoleArn", ""), form.get("RoleSessionName", "")
        found = _ROLE.fullmatch(role)
        if found is None or not _SESSION_NAME.fullmatch(name):
            at, value = ("roleArn", role) if found is None else ("roleSessionName", name)
            raise self._invalid(value, at, "Member must satisfy the regular expression pattern of its type")
        if found["account"] != ACCOUNT:
            text = f"User: {caller.arn} is not authorized to perform: sts:AssumeRole on resource: {role}"
            raise _RefusedError(403, "AccessDenied", text)
        seconds = form.get("DurationSeconds", "3600")
        if not seconds.isdigit() or not 900 <= int(seconds) <= 43200:
            bound = "greater than or equal to 900" if not seconds.isdigit() or int(seconds) < 900 else None
            raise self._invalid(
                seconds, "durationSeconds", f"Member must have value {bound or 'less than or equal to 43200'}"
            )
        role_name = found["path"].rpartition("/")[2]
        arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/{role_name}/{name}"
        session = Session.issue(self.options.tokens, arn, min(float(seconds), self.options.tokens.life))
        return (
            f"<AssumedRoleUser><AssumedRoleId>AROAEMULATOREMULATOR:{escape(name)}</AssumedRoleId>"
            f"<Arn>{escape(arn)}</Arn></AssumedRoleUser><Credentials><AccessKeyId>{session.access_key_id}"
            f"</AccessKeyId><SecretAccessKey>{escape(session.secret_access_key)}</SecretAccessKey><SessionToken>"
            f"{escape(session.token)}</SessionToken><Expiration>{session.expiration}</Expiration></Credentials>"
        )

    @staticmethod
    def _invalid(value: str, at: str, must: str) -> _RefusedError:
        text = f"1 validation error detected: Value '{value}' at '{at}' failed to satisfy constraint: {must}"
        return _RefusedError(400, "ValidationError", text)

    def _xml(self, status: int, text: str) -> Answer:
        return Answer(status, {**self.headers(), "content-type": "text/xml"}, text.encode())

    def _answer(self, action: str, result: str) -> Answer:
        metadata = f"<ResponseMetadata><RequestId>{request_uuid()}</RequestId></ResponseMetadata>"
        inner = f"<{action}Result>{result}</{action}Result>{metadata}"
        return self._xml(200, f'<{action}Response xmlns="{_XMLNS}">{inner}</{action}Response>')

    def _error(self, status: int, code: str, message: str) -> Answer:
        side = "Sender" if status < 500 else "Receiver"
        error = f"<Error><Type>{side}</Type><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
        inner = f"{error}<RequestId>{request_uuid()}</RequestId>"
        return self._xml(status, f'<ErrorResponse xmlns="{_XMLNS}">{inner}</ErrorResponse>')

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        usual = {403: "AccessDenied", 429: "Throttling", 400: "ValidationError"}.get(status, "InternalFailure")
        return self._error(status, str(code or usual), message or f"HTTP {status}")


class AwsCredentials(AwsHost):
    """The credentials endpoint of ECS, EKS and others, under `/aws-credentials`; any path below it is a role.

    With `keys={"aws-credentials": ...}` the Authorization header must be that text.
    """

    name = "aws-credentials"

    async def handle(self, call: Call) -> Answer:
        request = call.request
        if request.method != "GET":
            return self.error(request, 405, None, None)
        if self.key is not None and request.headers.get("authorization") != self.key:
            return self.error(request, 401, "the Authorization header does not match", "AccessDenied")
        role = request.path.strip("/").rpartition("/")[2] or "task"
        arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/emulator"
        session = Session.issue(self.options.tokens, arn, self.options.tokens.life)
        body: dict[str, Any] = {
            "AccessKeyId": session.access_key_id,
            "SecretAccessKey": session.secret_access_key,
            "Token": session.token,
            "Expiration": session.expiration,
            "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/{role}",
        }
        return json_answer(200, body)

    def error(self, request: RecordedRequest, status: int, message: str | None, code: int | str | None) -> Answer:
        return json_answer(status, {"code": str(code or "InternalError"), "message": message or f"HTTP {status}"})
