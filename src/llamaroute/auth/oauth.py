"""OAuth between machines: a client's id and secret for a token, over our own transport.

https://datatracker.ietf.org/doc/html/rfc6749#section-4.4
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pydantic_core import from_json

from ..errors import (
    AuthenticationError,
    ConnectionError,
    LlamarouteError,
    OverloadedError,
    ProviderError,
    ServerError,
    TimeoutError,
)
from ..pipeline.ops import Send
from ..spi import MASK, AuthSettings, WireRequest
from .tokens import Token, bearer_header

__all__ = ["client_credentials"]

CONNECT = 10.0
"""Seconds for connecting to the login service."""
LARGEST = 1 << 20
"""Bytes of an answer that are read."""
BUSY = (408, 429, 503)


def client_credentials(
    settings: AuthSettings, url: str, client: tuple[str, str], *, scope: str, limit: float, now: float, remedy: str
) -> Token:
    """A token for a client's id and secret.

    Args:
        settings: the account, whose `proxy` and `verify` count here too.
        url: the token endpoint.
        client: id and secret, sent by HTTP's Basic scheme.
        scope: what the token is for.
        limit: seconds for everything.
        now: seconds since the epoch.
        remedy: ends the message of a refusal.

    Raises:
        AuthenticationError: the service refused.
        ConnectionError, TimeoutError, OverloadedError, ServerError: it did not answer, or not properly.
    """
    name, (_, secret) = settings.provider, client
    try:
        status, body = _post(settings, url, client, scope, limit)
    except TimeoutError as error:
        raise TimeoutError(f"the login took too long: {error}", provider=name, phase="connect") from None
    except ConnectionError as error:
        raise ConnectionError(f"the login service could not be reached: {error}", provider=name) from None
    except ProviderError as error:
        raise ServerError(f"the login service gave no proper answer: {error}", provider=name) from None
    try:
        answer = from_json(body)
    except ValueError:
        answer = None
    if status == 200 and isinstance(answer, Mapping):
        token, life = answer.get("access_token"), answer.get("expires_in")
        if isinstance(token, str) and token.isascii() and token.isprintable() and token:
            ends = now + life if isinstance(life, int | float) and not isinstance(life, bool) else None
            return bearer_header(token, ends)
        raise ServerError("the login service answered without a token", provider=name, status=status)
    line = _line(answer, body).replace(secret, MASK)
    raise _refusal(status, line, isinstance(answer, Mapping), name, remedy)


def _post(settings: AuthSettings, url: str, client: tuple[str, str], scope: str, limit: float) -> tuple[int, bytes]:
    """Send the form; status and body."""
    from ..transport.httpx import HttpxTransport

    headers = {
        "authorization": "Basic " + base64.b64encode(":".join(client).encode()).decode(),
        "content-type": "application/x-www-form-urlencoded",
        "accept": "application/json",
    }
    form = urlencode({"grant_type": "client_credentials", "scope": scope}).encode()
    until = time.monotonic() + limit
    transport = HttpxTransport(verify=settings.options.verify, proxy=settings.options.proxy)
    try:
        response = transport.open(Send(WireRequest("POST", url, headers, form), None, CONNECT, limit, until))
        try:
            body = b""
            while len(body) <= LARGEST and (data := response.read(until, "total")):
                body += data
        finally:
            response.close()
        return response.head.status, body
    finally:
        transport.close()


def _line(answer: Any, body: bytes) -> str:
    """What the service says, in a line."""
    if isinstance(answer, Mapping):
        code = answer.get("error") or answer.get("error_code") or "unknown"
        text = answer.get("error_description") or answer.get("message") or ""
        return " ".join((f"{code}: {text}" if text else str(code)).split())[:500]
    return (body.decode("utf-8", "replace").strip().splitlines() or [""])[0][:500]


def _refusal(status: int, line: str, proper: bool, name: str, remedy: str) -> LlamarouteError:
    if status in BUSY:
        return OverloadedError(f"the login service is busy: {line}", provider=name, status=status)
    if status >= 500 and proper:
        return ServerError(f"the login service broke: {line}", provider=name, status=status)
    if not proper:
        # What answers without JSON is no login service that says no, but something that stands before it.
        return ServerError(f"the login service gave no proper answer: {line}", provider=name, status=status)
    return AuthenticationError(f"the login failed: {line}; {remedy}", provider=name, status=status)
