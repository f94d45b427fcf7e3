"""Keys and tokens never show: not in logs, not in a repr, a message or a dump, whatever goes wrong."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator

from .api import Api
from .fake import AsyncFakeTransport, FakeTransport
from .raw import Raw, Story, answer, body_of, once

KEY = "sk-SECRET-key-000000000000"
TOKEN = "gw-SECRET-token-11111111"
HEADER = "hd-SECRET-header-2222222"
PROXY = "px-SECRET-proxy-33333333"
QUERY = "qr-SECRET-query-44444444"
SECRETS = (KEY, TOKEN, HEADER, PROXY, QUERY)


def tables(url: str) -> dict[str, dict[str, Any]]:
    """Every built-in kind, with a secret wherever one can stand."""
    common = {"api_key": KEY, "headers": {"x-tenant": HEADER}}
    account = {"account_id": "0123456789abcdef0123456789abcdef", "kind": "cloudflare"}
    return {
        "cloudflare": {**common, **account, "base_url": url, "gateway": {"id": "gw", "token": TOKEN}},
        "cloudflare-global-key": {**common, **account, "base_url": url, "email": "a@b.example"},
        "cloudflare-native": {**common, **account, "base_url": url, "api": "native"},
        "huggingface": {**common, "kind": "huggingface", "base_url": url},
        "hf-endpoint": {**common, "kind": "huggingface", "url": url, "model": "tgi", "dialect": "tgi"},
        "openai-compatible": {
            **common, "kind": "openai-compatible", "base_url": f"{url}?key={QUERY}", "model": "llama-4-scout",
        },
    }  # fmt: skip


NAMES = list(tables(""))


def shown(*values: Any) -> str:
    """Everything a program might print of these."""
    texts: list[str] = []
    for value in values:
        texts += [repr(value), str(value)]
        if isinstance(value, BaseException):
            texts += traceback.format_exception(value)
            texts += [repr(vars(value))]
        if isinstance(value, lr.Config | lr.ChatResponse):
            texts += [value.model_dump_json(), repr(value.model_dump())]
    return "\n".join(texts)


def assert_clean(text: str) -> None:
    found = [secret for secret in SECRETS if secret in text]
    assert not found, text[max(0, text.index(found[0]) - 300) : text.index(found[0]) + 60]


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    for name in (
        None,
        "llamaroute",
        "httpx",
        "httpcore",
        "httpcore.http11",
        "httpcore.connection",
        "aiohttp",
        "asyncio",
    ):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


ANSWERS = {
    "answer": answer(body_of()),
    "401": answer(b'{"error": {"message": "bad key"}}', "401 Unauthorized"),
    "500": answer(b"oops", "500 Oops"),
    "not-http": b"SSH-2.0\r\n\r\n",
    "not-json": answer(b"nonsense"),
    "gone": b"",
}


class Watcher:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def attempt_started(self, call: Any) -> None:
        self.calls.append(call)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", list(ANSWERS))
async def test_over_the_wire(api: Api, logs: pytest.LogCaptureFixture, name: str, what: str):
    watcher = Watcher()
    values: list[Any] = [watcher]
    play = Story([ANSWERS[what]]) if ANSWERS[what] else once()
    with Raw(play) as server:
        config = {"providers": {name: tables(server.url)[name]}}
        async with api.client(config, observers=[watcher]) as client:
            values += [client, getattr(client, "inner", client), client.config, client.config.providers[name]]
            for streamed in (False, True):
                try:
                    if streamed:
                        stream = client.stream("Hi", retry=1)
                        values += [stream, getattr(stream, "inner", stream)]
                        async with stream:
                            async for _ in stream:
                                pass
                        values.append(stream.response)
                    else:
                        values.append(await client.chat("Hi", retry=1))
                except lr.LlamarouteError as error:
                    values += [error, *getattr(error, "attempts", ())]
            values += [client.usage(), client.config_origin]
        wire = repr([(request.line, request.headers) for request in server.requests])
    assert KEY in wire, "the key was sent, so that it could have shown"
    assert HEADER in wire
    if name == "cloudflare":
        assert TOKEN in wire
    if name == "openai-compatible":
        assert QUERY in wire
    (first, *_) = watcher.calls
    values += [first.candidate, first.candidate.auth, first.target, first.target.options, first.candidate.adapter]
    assert_clean(shown(*values))
    if api.engine == "httpx":
        assert any(record.name.startswith("httpcore") for record in logs.records), "the engine does log at this level"
    assert_clean(logs.text)
    assert_clean("\n".join(repr(record.args) for record in logs.records))


@pytest.mark.parametrize("name", NAMES)
def test_a_dump_of_a_providers_own_table(name: str):
    with lr.Client({"providers": {name: tables("http://127.0.0.1:1")[name]}}, env={}) as client:
        table = client.config.providers[name]
    assert_clean(table.model_dump_json())
    assert_clean(repr(table.model_dump()))


@pytest.mark.parametrize("name", NAMES)
async def test_when_there_is_no_connection(api: Api, logs: pytest.LogCaptureFixture, name: str):
    config = {"providers": {name: tables("http://127.0.0.1:1")[name]}}
    async with api.client(config) as client:
        with pytest.raises(lr.ConnectionError) as caught:
            await client.chat("Hi", retry=1)
    assert_clean(shown(caught.value, *caught.value.attempts))
    assert_clean(logs.text)


async def test_a_proxys_password(api: Api, logs: pytest.LogCaptureFixture):
    table = {"kind": "openai-compatible", "base_url": "http://host.invalid/v1", "model": "m", "api_key": KEY}
    with Raw(Story([answer(b"no", "407 Proxy Authentication Required")])) as server:
        config = {"providers": {"box": {**table, "proxy": f"http://user:{PROXY}@127.0.0.1:{server.port}"}}}
        async with api.client(config) as client:
            with pytest.raises(lr.ProviderError) as caught:
                await client.chat("Hi", retry=1)
            text = shown(client.config, client.config.providers["box"], caught.value)
        import base64

        encoded = base64.b64encode(f"user:{PROXY}".encode()).decode()
        assert server.requests[0].all("proxy-authorization") == [f"Basic {encoded}"]
    assert_clean(text)
    assert_clean(logs.text)
    assert encoded not in text + logs.text


async def test_a_proxy_that_is_none(api: Api):
    table = {"kind": "openai-compatible", "base_url": "http://host.invalid/v1", "model": "m"}
    config = {"providers": {"box": {**table, "proxy": f"ftp://user:{PROXY}@host"}}}
    with pytest.raises(lr.ConfigError) as caught:
        async with api.client(config) as client:
            await client.chat("Hi")
    assert_clean(shown(caught.value))


@pytest.mark.parametrize("key", [f"{KEY}\nx: y", f"{KEY}é", f"{KEY}\x00"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_key_that_no_header_may_hold(api: Api, name: str, key: str):
    table = {**tables("http://127.0.0.1:1")[name], "api_key": key}
    with pytest.raises(lr.ConfigError) as caught:
        async with api.client({"providers": {name: table}}) as client:
            await client.chat("Hi")
    assert_clean(shown(caught.value))
    assert name in str(caught.value)


@pytest.mark.parametrize("value", [f"{HEADER}\r\nx: y", f"{HEADER}☃"])
async def test_a_configured_header_that_http_does_not_allow(api: Api, value: str):
    with Raw(Story()) as server:
        table = {"kind": "openai-compatible", "base_url": server.url, "model": "m", "headers": {"x-a": value}}
        with pytest.raises((lr.ConfigError, lr.InputError)) as caught:
            async with api.client({"providers": {"box": table}}) as client:
                await client.chat("Hi", retry=1)
        assert server.requests == []
    assert_clean(shown(caught.value))


async def test_what_a_users_own_transport_is_given(api: Api):
    """It gets the key, as it must, but printing what it gets does not show it."""
    transport = (AsyncFakeTransport if api.is_async else FakeTransport)(lambda send: (200, [body_of()]))
    table = {"kind": "openai-compatible", "base_url": "http://h.invalid/v1", "model": "m", "api_key": KEY}
    async with api.client({"providers": {"box": table}}, transport=transport) as client:
        await client.chat("Hi", headers={"x-tenant": HEADER})
    (send,) = transport.sent
    assert KEY in send.request.headers["authorization"]
    assert_clean(shown(send, send.request, send.target))


@pytest.mark.parametrize("name", ["openai", "cloudflare", "huggingface"])
async def test_against_the_emulators_own_errors(api: Api, emu: Emulator, logs: pytest.LogCaptureFixture, name: str):
    config = {"providers": emu.providers(name)}
    config["providers"][name]["api_key"] = KEY
    async with api.client(config) as client:
        with pytest.raises(lr.AuthenticationError) as caught:
            await client.chat("Hi", model=f"{name}:llama-4-scout")
    assert_clean(shown(caught.value))
    assert_clean(logs.text)
