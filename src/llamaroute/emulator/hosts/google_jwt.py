"""Signed assertions of Google service accounts: what is in them, and whether Google would take them.

https://developers.google.com/identity/protocols/oauth2/service-account#jwt-auth
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Assertion", "read_assertion"]

_SKEW = 300  # seconds by which a client's clock may be wrong
_LONGEST = 3600


@dataclass(frozen=True, slots=True)
class Assertion:
    """A JWT, taken apart."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes

    @property
    def issuer(self) -> str:
        return str(self.claims.get("iss", ""))

    @property
    def scopes(self) -> list[str]:
        return str(self.claims.get("scope", "")).split()

    def time_problem(self) -> str | None:
        """What Google says about `iat` and `exp`; None if they are right."""
        issued, expires = _seconds(self.claims.get("iat")), _seconds(self.claims.get("exp"))
        if issued is None:
            return "Invalid JWT: iat (issued at) is not set."
        if expires is None:
            return "Invalid JWT: exp (expiration time) is not set."
        now = time.time()
        if issued > now + _SKEW or expires < now - _SKEW or not 0 < expires - issued <= _LONGEST:
            return (
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your "
                "iat and exp values in the JWT claim."
            )
        return None

    def signed_by(self, public_key: str | None) -> bool:
        """Whether the key (PEM) made the signature. Without a key, or without `cryptography`, any signature will do."""
        if self.header.get("alg") != "RS256" or not self.signature:
            return False
        if public_key is None:
            return True
        try:
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives import hashes, serialization
            from cryptography.hazmat.primitives.asymmetric import padding, rsa
        except ImportError:
            return True
        key = serialization.load_pem_public_key(public_key.encode())
        if not isinstance(key, rsa.RSAPublicKey):
            return False
        try:
            key.verify(self.signature, self.signed, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True


def _seconds(value: Any) -> float | None:
    """A time claim; Google takes a number in a string, too."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _decode(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def read_assertion(text: str) -> Assertion | None:
    """The parts of a JWT; None if the text is none."""
    parts = text.split(".")
    if len(parts) != 3:
        return None
    try:
        header, claims = json.loads(_decode(parts[0])), json.loads(_decode(parts[1]))
        signature = _decode(parts[2])
    except (ValueError, binascii.Error, RecursionError):
        return None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        return None
    return Assertion(header, claims, f"{parts[0]}.{parts[1]}".encode(), signature)
