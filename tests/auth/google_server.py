"""A small server for the tests of Google's credentials: token services, the metadata server, and one model."""

from __future__ import annotations

import datetime
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

__all__ = ["ACCOUNT", "SCOPE", "Google", "authorized_user", "service_account"]

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
ACCOUNT = "robot@my-project.iam.gserviceaccount.com"
METADATA = {"Metadata-Flavor": "Google"}

_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_PRIVATE = _KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
_PUBLIC = _KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def service_account(server: Google, **changes: Any) -> dict[str, Any]:
    """What the console gives as a service account's key file."""
    return {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "k1",
        "private_key": _PRIVATE,
        "client_email": ACCOUNT,
        "client_id": "1",
        "token_uri": f"{server.url}/token",
        **changes,
    }


def authorized_user(**changes: Any) -> dict[str, Any]:
    """What `gcloud auth application-default login` leaves."""
    return {
        "type": "authorized_user",
        "client_id": "1.apps.googleusercontent.com",
        "client_secret": "the-client-secret",
        "refresh_token": "1//the-refresh-token",
        **changes,
    }


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    """Fifty clients may knock at once; with the usual 5, the system turns some of them away."""


class Google:
    """The server. `refusals` are answered to the next requests for tokens: (status, body)."""

    def __init__(self) -> None:
        self.issued: list[str] = []
        self.good: set[str] = set()
        self.asked: list[tuple[str, Any]] = []
        """Requests for tokens: path, and form or body."""
        self.calls: list[tuple[str, dict[str, str]]] = []
        """Requests to the model: path and headers."""
        self.refusals: list[tuple[int, Any]] = []
        self.life = 3599
        self.dns = ""
        """Of an endpoint: the host of its own, if any."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner._get(self)

            def do_POST(self) -> None:
                owner._post(self)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.address}"
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def issue(self) -> str:
        with self._lock:
            token = f"ya29.token-number-{len(self.issued) + 1}"
            self.issued.append(token)
            self.good.add(token)
            return token

    def revoke(self) -> None:
        self.good.clear()

    # -- what it answers -----------------------------------------------------------------------------------------------

    def _get(self, handler: Any) -> None:
        parts = urlsplit(handler.path)
        path = parts.path
        if path == "/" or path.startswith("/computeMetadata/"):
            if path != "/" and handler.headers.get("Metadata-Flavor") != "Google":
                return _send(handler, 403, "no flavor")
            if path.endswith("/project-id"):
                return _send(handler, 200, "machine-project", **METADATA)
            if path.endswith("/default/token"):
                self.asked.append((path, parse_qs(parts.query)))
                answer = {"access_token": self.issue(), "expires_in": self.life, "token_type": "Bearer"}
                return _send(handler, 200, answer, **METADATA)
            if path.endswith("/default/"):
                return _send(handler, 200, {"email": ACCOUNT, "scopes": [SCOPE], "aliases": ["default"]}, **METADATA)
            if path.endswith(("universe-domain", "universe_domain")):
                return _send(handler, 200, "googleapis.com", **METADATA)
            return _send(handler, 200, "", **METADATA)
        return self._model(handler)

    def _post(self, handler: Any) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        path = urlsplit(handler.path).path
        if path in ("/token", "/sts") or path.endswith(":generateAccessToken"):
            form: Any = (
                json.loads(body) if path.endswith("Token") else {k: v[0] for k, v in parse_qs(body.decode()).items()}
            )
            with self._lock:
                self.asked.append((path, form))
                refusal = self.refusals.pop(0) if self.refusals else None
            if refusal is not None:
                return _send(handler, *refusal)
            if path == "/token" and "assertion" in form:
                # Raises, so that the caller gets nothing, where the signature or the times are wrong.
                form["claims"] = dict(jwt.decode(form["assertion"], certs=_PUBLIC))
            if path.endswith("Token"):
                form["bearer"] = handler.headers.get("Authorization")
                ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.life)
                said = {"accessToken": self.issue(), "expireTime": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}
                return _send(handler, 200, said)
            answer: dict[str, Any] = {"access_token": self.issue(), "expires_in": self.life, "token_type": "Bearer"}
            if path == "/sts":
                answer["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token"
            return _send(handler, 200, answer)
        return self._model(handler)

    def _model(self, handler: Any) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.calls.append((handler.path, headers))
        if headers.get("authorization", "").removeprefix("Bearer ") not in self.good:
            error = {
                "code": 401,
                "message": "Request had invalid authentication credentials.",
                "status": "UNAUTHENTICATED",
            }
            return _send(handler, 401, [{"error": error}])
        if handler.command == "GET":
            name = urlsplit(handler.path).path.partition("/v1/")[2]
            own = {"dedicatedEndpointEnabled": True, "dedicatedEndpointDns": self.dns} if self.dns else {}
            created = "2026-11-23T00:00:00Z"
            return _send(
                handler,
                200,
                {"name": name, "createTime": created, "deployedModels": [{"id": "1", "model": "m"}], **own},
            )
        message = {"role": "assistant", "content": "Hello."}
        return _send(handler, 200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def _send(handler: Any, status: int, body: Any, **headers: str) -> None:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
    handler.send_header("Content-Length", str(len(data)))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)
