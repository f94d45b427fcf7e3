"""Microsoft Entra ID as azure-identity sees it: an adapter for `requests` that answers like login.microsoftonline.com.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
"""

from __future__ import annotations

import io
import json
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
import urllib3
from azure.core.pipeline.transport import RequestsTransport
from requests.adapters import HTTPAdapter


@dataclass
class Entra(HTTPAdapter):
    """Hands out tokens `token-1`, `token-2`, ...; `refusal` is answered in their place."""

    life: int = 3600
    refusal: tuple[int, dict[str, Any]] | None = None
    away: bool = False
    forms: list[dict[str, str]] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        super().__init__()

    def transport(self) -> RequestsTransport:
        """A transport of azure-core's over this."""
        session = requests.Session()
        session.mount("https://", self)
        return RequestsTransport(session=session, session_owner=False)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if self.away:
            raise requests.ConnectionError("Name or service not known")
        url = urlsplit(str(request.url))
        self.hosts.add(str(url.hostname))
        base = f"https://{url.hostname}/tenant"
        if url.path.endswith("/openid-configuration"):
            found = {
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "issuer": f"{base}/v2.0",
            }
            return self._answer(request, 200, found)
        if url.path.endswith("/discovery/instance"):
            return self._answer(request, 200, {"tenant_discovery_endpoint": f"{base}/.well-known", "metadata": []})
        assert url.path.endswith("/oauth2/v2.0/token"), url.path
        with self.lock:
            body = request.body.decode() if isinstance(request.body, bytes) else str(request.body)
            self.forms.append({name: values[0] for name, values in parse_qs(body).items()})
            if self.refusal is not None:
                return self._answer(request, *self.refusal)
            token = {"token_type": "Bearer", "expires_in": self.life, "access_token": f"token-{len(self.forms)}"}
            return self._answer(request, 200, token)

    def _answer(self, request: requests.PreparedRequest, status: int, body: dict[str, Any]) -> requests.Response:
        raw = urllib3.HTTPResponse(
            io.BytesIO(json.dumps(body).encode()),
            headers={"content-type": "application/json"},
            status=status,
            preload_content=False,
        )
        return self.build_response(request, raw)

    def close(self) -> None:
        pass
