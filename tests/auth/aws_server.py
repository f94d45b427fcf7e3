"""A small server for the tests of AWS's credentials: STS, a container's endpoint, and a model that looks at a date."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

__all__ = ["ROLE", "Aws", "certificate", "expiry"]

ROLE = "arn:aws:iam::123456789012:role/inference"

_ASSUMED = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<AssumedRoleUser><AssumedRoleId>AROA:llamaroute</AssumedRoleId><Arn>{role}</Arn></AssumedRoleUser>
<Credentials><AccessKeyId>{AccessKeyId}</AccessKeyId><SecretAccessKey>{SecretAccessKey}</SecretAccessKey>
<SessionToken>{Token}</SessionToken><Expiration>{Expiration}</Expiration></Credentials>
</AssumeRoleResult><ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></AssumeRoleResponse>"""
_ERROR = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>{code}</Code><Message>{message}</Message></Error><RequestId>r-2</RequestId></ErrorResponse>"""
ANSWER = {
    "metrics": {"latencyMs": 1},
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello."}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
}


def expiry(seconds: float) -> str:
    """A moment so many seconds from now, as AWS writes it."""
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def certificate(folder: Path, *hosts: str) -> Path:
    """A certificate for 127.0.0.1 and `hosts` with its key, in one file, that nobody has signed but itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    names = [address, *map(x509.DNSName, hosts)]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(private + builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    return path


class Aws:
    """The server. `POST /` is STS; `GET /container` a container's endpoint, `/federation/credentials` single sign-on,
    `/latest/...` a machine's metadata; anything else is the model.

    Attributes:
        life: seconds that issued keys are good for.
        refusals: (status, code, message) for the next requests to STS.
        garbage: what STS answers instead.
        signed_out: whether single sign-on has been ended at the portal.
        ahead: seconds that this host's clock is ahead; requests signed more than 300 s off are refused.
        revoked: access keys that the model answers with `ExpiredTokenException`.
        issued: how many keys were given out.
        roles: forms that STS was asked with.
        container: headers of the requests of containers, machines and people who have signed on.
        calls: headers of the requests to the model.
        paths: their paths.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.life = 3600.0
        self.refusals: list[tuple[int, str, str]] = []
        self.garbage = ""
        self.signed_out = False
        self.ahead = 0.0
        self.revoked: set[str] = set()
        self.issued = 0
        self.roles: list[dict[str, str]] = []
        self.container: list[dict[str, str]] = []
        self.calls: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.delay = 0.0
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner._get(self)

            def do_PUT(self) -> None:
                owner._put(self)

            def do_POST(self) -> None:
                owner._post(self)

            def log_message(self, *args: Any) -> None:
                pass

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(owner.now, usegmt=True)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def now(self) -> float:
        """The host's own clock."""
        return datetime.datetime.now(datetime.UTC).timestamp() + self.ahead

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _keys(self) -> dict[str, str]:
        with self._lock:
            self.issued += 1
            number = self.issued
        return {
            "AccessKeyId": f"ASIAISSUED{number:06}",
            "SecretAccessKey": f"issued-secret-{number}",
            "Token": f"issued-token-{number}",
            "Expiration": expiry(self.life),
        }

    def _get(self, handler: Any) -> None:
        self.container.append({k.lower(): v for k, v in handler.headers.items()})
        if handler.path.endswith("/security-credentials/"):
            self._send(handler, 200, "inference-role", "text/plain")
            return
        keys: dict[str, Any] = self._keys()
        if handler.path.startswith("/federation/credentials"):
            if self.signed_out:
                self._send(
                    handler, 401, '{"message": "Session token not found"}', "application/json", "UnauthorizedException"
                )
                return
            names = {"AccessKeyId": "accessKeyId", "SecretAccessKey": "secretAccessKey", "Token": "sessionToken"}
            role = {names[name]: value for name, value in keys.items() if name in names}
            keys = {"roleCredentials": {**role, "expiration": int((self.now + self.life) * 1000)}}
        elif handler.path.startswith("/latest/"):
            keys |= {"Code": "Success", "LastUpdated": expiry(0), "Type": "AWS-HMAC"}
        self._send(handler, 200, json.dumps(keys), "application/json")

    def _put(self, handler: Any) -> None:
        self._send(handler, 200, "the-metadata-token", "text/plain")

    def _post(self, handler: Any) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", "0")))
        if handler.path in ("/", "http://sts.nowhere.invalid/"):
            self._sts(handler, dict(parse_qsl(body.decode())))
            return
        headers = {k.lower(): v for k, v in handler.headers.items()}
        self.calls.append(headers)
        self.paths.append(handler.path)
        stamp = headers.get("x-amz-date")
        if stamp is not None:
            signed = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC).timestamp()
            if abs(signed - self.now) > 300:
                self._refuse(
                    handler, "InvalidSignatureException", f"Signature expired: {stamp} is now earlier than ..."
                )
                return
        if any(f"Credential={key}/" in headers["authorization"] for key in self.revoked):
            self._refuse(handler, "ExpiredTokenException", "The security token included in the request is expired")
            return
        self._send(handler, 200, json.dumps(ANSWER), "application/json")

    def _sts(self, handler: Any, form: dict[str, str]) -> None:
        self.roles.append({**form, "authorization": handler.headers.get("authorization", "")})
        if self.garbage:
            self._send(handler, 200, self.garbage, "text/xml")
        elif self.refusals:
            status, code, message = self.refusals.pop(0)
            self._send(handler, status, _ERROR.format(code=code, message=message), "text/xml")
        else:
            text = _ASSUMED.format(role=form["RoleArn"], **self._keys())
            self._send(handler, 200, text.replace("AssumeRoleRes", f"{form['Action']}Res"), "text/xml")

    def _refuse(self, handler: Any, name: str, message: str) -> None:
        self._send(handler, 403, json.dumps({"message": message}), "application/json", name)

    def _send(self, handler: Any, status: int, text: str, kind: str, error: str = "") -> None:
        data = text.encode()
        handler.send_response(status)
        handler.send_header("content-type", kind)
        if error:
            handler.send_header("x-amzn-errortype", f"{error}:http://internal.amazon.com/coral/")
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
