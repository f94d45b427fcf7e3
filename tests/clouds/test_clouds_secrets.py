"""No key, token, signature or secret shows: in logs at DEBUG (vendors' too), reprs, exceptions, dumps, recordings."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator
from llamaroute.testing import record

from .logins import LOGINS, Account, issued, login

KEYS = ("azure", "azure-models", "azure-serverless", "databricks", "vertex", "vertex-endpoint", "bedrock")
BEARER = "ABSKEmulatorBearerKey-0123456789abcdef0123456789"
SHORTEST = 16
"""Characters of what is looked for; the emulator's secrets are longer."""


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with Emulator(keys={"bedrock": BEARER}) as running:
        yield running


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that any library logs, also those that have set a level of their own."""
    caplog.set_level(logging.DEBUG)
    names = [
        "llamaroute", "httpx", "httpcore", "asyncio", "urllib3", "requests", "boto3", "botocore", "azure", "msal",
        "google", "databricks",
    ]  # fmt: skip
    for name in (*names, *(n for n in logging.root.manager.loggerDict if n.split(".")[0] in names)):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def with_a_key(name: str, emu: Emulator) -> Account:
    """An account whose table holds its secret."""
    if name == "bedrock-bearer":
        table = {"kind": "bedrock", "region": "us-east-1", "base_url": emu.base_url("bedrock"), "api_key": BEARER}
    else:
        table = emu.providers(name)[name]
    secrets = tuple(table[key] for key in ("api_key", "access_token", "secret_access_key") if key in table)
    assert secrets
    return Account(table, table.get("model", "llama-4-maverick"), "/", secrets=secrets)


def seen_on_the_wire(emu: Emulator, last: int = 0) -> set[str]:
    """Credentials and signatures that were sent, of the last requests or of all."""
    found = set()
    for request in emu.requests[-last:]:
        for header in ("authorization", "api-key", "x-amz-security-token", "x-databricks-azure-sp-management-token"):
            if value := request.headers.get(header):
                found.add(value.rpartition("Signature=")[2] if "Signature=" in value else value.split()[-1])
    return found


def request_token(emu: Emulator) -> list[str]:
    """The session token of the last signed request."""
    return [token for request in emu.requests[-1:] if (token := request.headers.get("x-amz-security-token"))]


def shown(value: Any, depth: int = 0) -> str:
    """Everything a program might print of a value, and of what it holds."""
    texts = [repr(value), str(value)]
    if isinstance(value, BaseException):
        texts += traceback.format_exception(value)
        texts += [repr(vars(value))]
    for dump in ("model_dump_json", "model_dump"):
        if hasattr(value, dump):
            texts.append(repr(getattr(value, dump)()))
    if depth < 2 and isinstance(value, list | tuple):
        texts += [shown(item, depth + 1) for item in value]
    return "\n".join(texts)


@pytest.mark.parametrize("name", [*KEYS, "bedrock-bearer", *(f"login:{name}" for name in LOGINS)])
def test_nothing_shows(name: str, emu: Emulator, logs: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with ExitStack() as stack:
        if name.startswith("login:"):
            account = stack.enter_context(login(name.removeprefix("login:"), emu, tmp_path))
        else:
            account = with_a_key(name, emu)
        calls: list[Any] = []
        values: list[Any] = [calls]
        tape = stack.enter_context(record(tmp_path / "tape.json"))
        config = {"providers": {"cloud": account.table}}
        client = stack.enter_context(lr.Client(config, transport=tape.transport, observers=[Watcher(calls)]))
        model = f"cloud:{account.model}"
        values += [client, client.config, client.config.providers["cloud"]]

        def ask(**options: Any) -> None:
            try:
                values.append(client.chat("Hi", model=model, retry=1, **options))
                with client.stream("Hi", model=model, retry=1) as stream:
                    values.extend(stream)
                values.append(stream.response)
            except lr.LlamarouteError as error:
                values.extend([error, error.__cause__, error.__context__])

        ask()
        assert isinstance(values[-1], lr.ChatResponse), values[-1]
        emu.revoke_tokens()
        ask()
        for status in (401, 403, 400, 500):
            emu.fault(status=status, times=4)
            ask()
            ask()
        # Hosts quote what they refuse. A signature is another one for each request: that one is looked at below.
        echoed = [secret for secret in seen_on_the_wire(emu, last=1) if "bedrock" not in name or "bearer" in name]
        quote = " ".join([*echoed, *(request_token(emu) if "login:bedrock" in name else ())])
        assert quote or name == "bedrock"
        headers = {"x-databricks-reason-phrase": "refused"}  # headers of answers are the HTTP engine's own log
        for status in (400, 500):
            emu.fault(status=status, times=2, message=f"refused: {quote}", headers=headers)
            ask()
        emu.fault(error_after=1, message=f"broken: {quote}")
        ask()
        emu.fault(status=500, path=account.service if account.service != "/" else None, times=9)
        emu.revoke_tokens()
        ask()
        first = calls[0]
        values += [first.candidate, first.candidate.auth, first.target, client.usage(), client.discover("cloud")]
    secrets = {*account.secrets, *seen_on_the_wire(emu), *issued(emu)}
    assert secrets, "there was something to hide"
    assert all(len(secret) >= SHORTEST for secret in secrets)
    places = {
        "a value": "\n".join(shown(value) for value in values),
        "a log": logs.text + "\n".join(f"{entry.getMessage()} {entry.args!r}" for entry in logs.records),
        "the recording": (tmp_path / "tape.json").read_text(),
    }
    for place, text in places.items():
        for secret in secrets:
            at = text.find(secret)
            assert at < 0, f"{place}: {text[max(0, at - 400) : at].rpartition(secret)[2]}<<here>>"


class Watcher:
    """An observer, as an application may have one: it sees whole calls."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    def attempt_started(self, call: Any) -> None:
        self.calls.append(call)
