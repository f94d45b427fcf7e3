"""TLS that comes about, and proxies on the way: whose certificates count, who is told which secrets."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import llamaroute as lr
from tests.auth.aws_server import certificate

from .api import Api, box
from .raw import PATIENCE, STREAM_HEAD, Connection, Play, Raw, Story, answer, body_of, chunk, delta, then_silence

HOST = "model.invalid"
"""No such host can be looked up; the proxies here know it."""
LOGIN = "user:p%40ss"
AUTHORIZATION = "Basic " + base64.b64encode(b"user:p@ss").decode()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"), HOST)


def over_tls(ca: Path, play: Play) -> Play:
    """`play` behind TLS; a client that turns away in the handshake has gone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca)

    def wrapped(connection: Connection) -> None:
        connection.sock = context.wrap_socket(connection.sock, server_side=True)
        play(connection)

    return wrapped


def tunnel(port: int) -> Play:
    """A proxy that connects whatever host it is asked for to a port of this machine."""

    def play(connection: Connection) -> None:
        request = connection.read_request()
        if request is None:
            return
        with socket.create_connection(("127.0.0.1", port)) as onward:
            connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ends = {connection.sock: onward, onward: connection.sock}
            while not connection.server.ending.is_set():
                for end in select.select(list(ends), [], [], 0.02)[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)

    return play


@pytest.fixture
def server(ca: Path) -> Iterator[Raw]:
    with Raw(over_tls(ca, Story())) as running:
        yield running


def secure(server: Raw, host: str = "127.0.0.1", **more: Any) -> Any:
    return box(f"https://{host}:{server.port}/v1", **more)


async def test_a_certificate_that_is_trusted(api: Api, server: Raw, ca: Path):
    async with api.client(secure(server, verify=str(ca))) as client:
        first, second = await client.chat("1"), await client.chat("2")
    assert (first.text, second.text) == ("Hello", "Hello")
    assert first.timing.connect > 0
    assert second.timing.connect == 0
    assert server.accepted == 1
    assert server.connections[0].gone.wait(PATIENCE)


async def test_a_folder_of_certificates_without_the_right_one(api: Api, server: Raw, tmp_path: Path):
    async with api.client(secure(server, verify=str(tmp_path))) as client:
        with pytest.raises(lr.ConnectionError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            await client.chat("Hi", retry=1)
    assert caught.value.phase == "connect"


async def test_a_certificate_that_nobody_knows(api: Api, server: Raw):
    async with api.client(secure(server)) as client:
        with pytest.raises(lr.ConnectionError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            await client.chat("Hi", retry=1)
    assert caught.value.phase == "connect"
    assert server.requests == []


async def test_a_certificate_for_another_name(api: Api, server: Raw, ca: Path):
    async with api.client(secure(server, "localhost", verify=str(ca))) as client:
        with pytest.raises(lr.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.chat("Hi", retry=1)
    assert server.requests == []


async def test_no_verifying(api: Api, server: Raw):
    async with api.client(secure(server, verify=False)) as client:
        assert (await client.chat("Hi")).text == "Hello"


async def test_leaving_a_stream_early_closes_its_socket_at_once(api: Api, ca: Path):
    """Without waiting for the host's part of the end of TLS, which this one never sends."""
    with Raw(over_tls(ca, then_silence(STREAM_HEAD, chunk(delta("Hel"))))) as server:
        async with api.client(secure(server, verify=str(ca))) as client:
            async with client.stream("Hi") as stream:
                async for event in stream:
                    if isinstance(event, lr.TextDelta):
                        break
            assert server.connections[0].gone.wait(PATIENCE), "while the client itself is still open"


async def test_a_large_request(api: Api, server: Raw, ca: Path):
    async with api.client(secure(server, verify=str(ca))) as client:
        assert (await client.chat("x" * 3_000_000)).text == "Hello"
    assert len(server.requests[0].body) > 3_000_000


# -- through proxies --------------------------------------------------------------------------------------------------


async def test_through_a_tunnel(api: Api, server: Raw, ca: Path):
    """The proxy is told its own password and not the host's key; the host is told the key and not the password."""
    with Raw(tunnel(server.port)) as proxy:
        url = f"http://{LOGIN}@127.0.0.1:{proxy.port}"
        async with api.client(box(f"https://{HOST}/v1", proxy=url, verify=str(ca), api_key="sk-1")) as client:
            first, second = await client.chat("1", retry=1), await client.chat("2", retry=1)
    assert (first.text, second.text) == ("Hello", "Hello")
    assert second.timing.connect == 0
    (asked,) = proxy.requests
    assert asked.line == f"CONNECT {HOST}:443 HTTP/1.1"
    assert asked.all("proxy-authorization") == [AUTHORIZATION]
    assert asked.all("authorization") == []
    for request in server.requests:
        assert request.line == "POST /v1/chat/completions HTTP/1.1"
        assert request.all("host") == [HOST]
        assert request.all("authorization") == ["Bearer sk-1"]
        assert request.all("proxy-authorization") == []


async def test_through_a_proxy_without_tls(api: Api):
    with Raw(Story()) as proxy:
        url = f"http://{LOGIN}@127.0.0.1:{proxy.port}"
        async with api.client(box(f"http://{HOST}/v1?key=q-secret", proxy=url)) as client:
            await client.chat("1", retry=1)
            await client.chat("2", retry=1)
        assert proxy.accepted == 1
    for request in proxy.requests:
        assert request.line == f"POST http://{HOST}/v1/chat/completions?key=q-secret HTTP/1.1"
        assert request.all("proxy-authorization") == [AUTHORIZATION]


async def test_a_proxys_certificate_does_not_count_for_the_host(api: Api, server: Raw):
    with Raw(tunnel(server.port)) as proxy:
        async with api.client(box(f"https://{HOST}/v1", proxy=f"http://127.0.0.1:{proxy.port}")) as client:
            with pytest.raises(lr.ConnectionError, match="CERTIFICATE_VERIFY_FAILED") as caught:
                await client.chat("Hi", retry=1)
    assert caught.value.phase == "connect"
    assert server.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_what_goes_wrong_at_a_proxy_names_no_password(api: Api, scheme: str):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        nobody = listener.getsockname()[1]
    with (
        Raw(Story([answer(body_of(), "407 Proxy Authentication Required")])) as refusing,
        Raw(lambda connection: connection.send(b"what?\r\n\r\n")) as confused,
    ):
        for port in (nobody, refusing.port, confused.port):
            proxy = f"http://{LOGIN}@127.0.0.1:{port}"
            async with api.client(box(f"{scheme}://{HOST}/v1?key=q-secret", proxy=proxy)) as client:
                with pytest.raises(lr.LlamarouteError) as caught:
                    await client.chat("Hi", retry=1)
            said = f"{caught.value!r} {caught.value}"
            assert "p%40ss" not in said
            assert "p@ss" not in said
            assert "q-secret" not in said


async def test_a_socks_proxy_needs_a_package(api: Api):
    async with api.client(box(f"https://{HOST}/v1", proxy="socks5://127.0.0.1:1")) as client:
        with pytest.raises(lr.ConfigError, match="socksio"):
            await client.chat("Hi", retry=1)


async def test_a_proxy_that_is_spoken_to_in_tls(api: Api, ca: Path):
    with Raw(over_tls(ca, Story())) as proxy:
        config = box(f"http://{HOST}/v1", proxy=f"https://127.0.0.1:{proxy.port}", verify=str(ca))
        async with api.client(config) as client:
            assert (await client.chat("Hi", retry=1)).text == "Hello"
    assert proxy.requests[0].line == f"POST http://{HOST}/v1/chat/completions HTTP/1.1"


async def test_a_proxy_of_another_kind(api: Api):
    async with api.client(box(f"https://{HOST}/v1", proxy="ftp://127.0.0.1:1")) as client:
        with pytest.raises(lr.ConfigError, match="proxy"):
            await client.chat("Hi", retry=1)
