"""Accounts at the emulator whose credentials are exchanged for tokens, by the vendors' own software where there is any.

with login("vertex", emu, folder) as account:
    lr.Client({"providers": {"cloud": account.table}}, env=account.env)
"""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from llamaroute.emulator import Emulator
from llamaroute.emulator.hosts.entra import CLIENT_ID, CLIENT_SECRET, TENANT
from llamaroute.providers.azure import AzureSettings

LOGINS = ("azure", "databricks", "vertex", "bedrock-container", "bedrock-role")


@dataclass
class Account:
    """A provider's table, the environment that belongs to it, and what must never show."""

    table: Any
    model: str
    service: str
    """Part of the path of the requests that exchange credentials."""
    env: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()

    def exchanges(self, emu: Emulator) -> int:
        """How often a token was asked for."""
        return sum(self.service in request.target for request in emu.requests)


class EntraToken(NamedTuple):
    token: str
    expires_on: int


class EntraCredential:
    """What an application of Azure's holds: azure-identity itself refuses to ask for tokens without TLS."""

    def __init__(self, emu: Emulator) -> None:
        self.url = f"{emu.base_url('entra')}/{TENANT}/oauth2/v2.0/token"

    def get_token(self, *scopes: str, **_: Any) -> EntraToken:
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        body = urllib.parse.urlencode({**form, "scope": " ".join(scopes)}).encode()
        with urllib.request.urlopen(self.url, body, timeout=10) as answer:
            data = json.load(answer)
        return EntraToken(data["access_token"], int(time.time()) + data["expires_in"])


def service_account(emu: Emulator, folder: Path) -> tuple[Path, str]:
    """A key file of a service account, and the secret in it."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = folder / "service-account.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "emulated-project",
                "private_key_id": "1",
                "private_key": pem,
                "client_email": "llama@emulated-project.iam.gserviceaccount.com",
                "client_id": "1",
                "token_uri": f"{emu.base_url('google')}/token",
            }
        )
    )
    return path, pem.splitlines()[1]


@contextmanager
def login(name: str, emu: Emulator, folder: Path) -> Iterator[Account]:
    """An account that has to log in; the process's environment has what a vendor's software reads only there."""
    process: dict[str, str] = {}
    if name == "azure":
        table: Any = AzureSettings(kind="azure", endpoint=emu.base_url("azure")).with_live_credential(
            EntraCredential(emu)
        )
        account = Account(table, "llama-4-maverick", "/oauth2/v2.0/token", secrets=(CLIENT_SECRET,))
    elif name == "databricks":
        table = {"kind": "databricks", "host": emu.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        account = Account(table, "llama-4-maverick", "/oidc/v1/token", secrets=(CLIENT_SECRET,))
    elif name == "vertex":
        path, secret = service_account(emu, folder)
        table = {**emu.providers("vertex")["vertex"], "credentials": str(path)}
        del table["access_token"]
        account = Account(table, "llama-4-maverick", "/google/token", secrets=(secret,))
    else:
        table = emu.providers("bedrock")["bedrock"]
        secret = table["secret_access_key"]
        if name == "bedrock-container":
            table = {key: value for key, value in table.items() if "access_key" not in key}
            process["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"{emu.base_url('aws-credentials')}/task"
            service = "/aws-credentials"
        else:
            table = {**table, "role_arn": "arn:aws:iam::123456789012:role/llama"}
            process["AWS_ENDPOINT_URL_STS"] = emu.base_url("aws-sts")
            service = "/aws-sts"
        account = Account(table, "llama-4-maverick", service, secrets=(secret,))
    nowhere = str(folder / "none")
    aws = {"AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere, "AWS_EC2_METADATA_DISABLED": "true"}
    with mock.patch.dict("os.environ", {**aws, **process}):
        yield account


def issued(emu: Emulator) -> Mapping[str, Any]:
    """Every token that the emulator gave out."""
    return dict(emu.tokens._issued)
