"""A login is made once, renewed before its end, and made again when it is refused: whole clients, every vendor."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.auth import tokens
from llamaroute.emulator import Emulator

from .logins import LOGINS, Account, login

MANY = 1000


@pytest.fixture(params=LOGINS)
def account(request: pytest.FixtureRequest, emu: Emulator, tmp_path: Path) -> Iterator[Account]:
    with login(request.param, emu, tmp_path) as made:
        yield made


def config(account: Account) -> dict[str, Any]:
    return {"providers": {"cloud": account.table}}


def test_a_thousand_calls_log_in_once(emu: Emulator, account: Account) -> None:
    """All at once and before there is a token; a tenth of them as streams."""

    async def stream(client: lr.AsyncClient) -> str:
        async with client.stream("Hi", model=f"cloud:{account.model}") as opened:
            return "".join([text async for text in opened.text()])

    async def chat(client: lr.AsyncClient) -> str:
        return (await client.chat("Hi", model=f"cloud:{account.model}")).text

    async def main() -> list[str]:
        async with lr.AsyncClient(config(account)) as client:
            calls = [stream(client) if number % 10 == 0 else chat(client) for number in range(MANY)]
            return await asyncio.gather(*calls)

    before = threading.active_count()
    answers = asyncio.run(main())
    assert set(answers) == {"You said: Hi"}
    assert account.exchanges(emu) == 1
    assert threading.active_count() <= before + 1, "no thread a call"


def test_a_token_that_is_refused_is_renewed_once_for_all(emu: Emulator, account: Account) -> None:
    async def main() -> None:
        async with lr.AsyncClient(config(account)) as client:
            await client.chat("Hi", model=f"cloud:{account.model}")
            emu.revoke_tokens()
            replies = await asyncio.gather(
                *(client.chat("Hi", model=f"cloud:{account.model}", retry=1) for _ in range(50))
            )
            assert all(len(reply.attempts) == 1 for reply in replies)

    asyncio.run(main())
    assert account.exchanges(emu) == 2
    refused = [request for request in emu.requests if request.status in (401, 403)]
    assert 1 <= len(refused) <= 50


def test_what_stays_refused_is_an_error_after_one_more_try(emu: Emulator, account: Account) -> None:
    with lr.Client(config(account)) as client:
        client.chat("Hi", model=f"cloud:{account.model}")
        sent = len(emu.requests)
        status = 403 if "bedrock" in str(account.table) or "databricks" in str(account.table) else 401
        code = "ExpiredTokenException" if "bedrock" in str(account.table) else None
        emu.fault(status=status, times=9, code=code)
        with pytest.raises(lr.AuthenticationError) as caught:
            client.chat("Hi", model=f"cloud:{account.model}")
    assert len(caught.value.attempts) == 1
    calls = [request for request in emu.requests[sent:] if account.service not in request.target]
    assert sum(request.status == status for request in calls) == 2


def test_a_token_is_renewed_before_it_ends(emu: Emulator, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last fifth of a short life; the calls go on with the old one meanwhile."""
    monkeypatch.setattr(tokens, "MARGIN", 0.5)
    monkeypatch.setattr(tokens, "SHORTEST", 0.5)
    emu.tokens.life = 4.0
    with lr.Client(config(account)) as client:
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            client.chat("Hi", model=f"cloud:{account.model}", retry=1)
            time.sleep(0.05)
    assert account.exchanges(emu) >= 2
    assert not [request for request in emu.requests if request.status in (401, 403)], "none was sent after its end"
