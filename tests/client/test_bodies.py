"""Large bodies, token counts, proxies, and TLS that does not come about."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

import pytest

import llamaroute as lr

from .api import Api, box
from .raw import PATIENCE, Raw, Story, answer, body_of


def png(side: int) -> bytes:
    """A grey picture that hardly compresses to less than it is."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + bytes((x * y) % 251 for x in range(side)) for y in range(side))
    data = zlib.compress(rows, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", data) + part(b"IEND", b"")


async def test_images_arrive_whole(api: Api, tmp_path: Path):
    small, large = png(8), png(700)
    file = tmp_path / "large.png"
    file.write_bytes(large)
    with Raw(Story()) as server:
        async with api.client(box(server.url)) as client:
            await client.chat(
                ["What is this?", lr.Image(file, detail="high"), "And this?", lr.Image(small, detail="low")]
            )
    (request,) = server.requests
    assert request.all("content-length") == [str(len(request.body))]
    assert len(request.body) > 600_000
    first, one, second, two = request.json["messages"][0]["content"]
    assert (first["text"], second["text"]) == ("What is this?", "And this?")
    prefix = "data:image/png;base64,"
    assert one["image_url"] == {"url": prefix + base64.b64encode(large).decode(), "detail": "high"}
    assert two["image_url"] == {"url": prefix + base64.b64encode(small).decode(), "detail": "low"}


async def test_an_image_is_sent_again_with_a_retry(api: Api):
    picture = lr.Image(png(8))
    with Raw(Story([answer(b"{}", "503 Service Unavailable"), answer(body_of())])) as server:
        async with api.client(box(server.url)) as client:
            await client.chat([picture], retry=lr.RetryPolicy(attempts=2, base=0))
    first, second = server.requests
    assert first.body == second.body


async def test_an_image_that_is_none_is_an_input_error(api: Api, tmp_path: Path):
    with Raw(Story()) as server:
        async with api.client(box(server.url)) as client:
            for source in (b"", b"no picture", tmp_path / "missing.png", "data:image/png;base64,!!"):
                with pytest.raises(lr.InputError):
                    await client.chat(["x", lr.Image(source)])
        assert server.accepted == 0


async def test_counting_tokens_is_an_estimate_where_the_host_cannot(api: Api):
    with Raw(Story()) as server:
        async with api.client(box(server.url, model="mistral-7b")) as client:
            short = await client.count_tokens("Hi")
            long = await client.count_tokens("Hi " * 100)
        assert server.accepted == 0
    assert short.estimated
    assert long.tokens > short.tokens > 0


# -- proxies ----------------------------------------------------------------------------------------------------------


async def test_a_configured_proxy_gets_the_whole_url(api: Api):
    with Raw(Story()) as proxy:
        config = box("http://host.invalid:81/v1", proxy=f"http://127.0.0.1:{proxy.port}")
        async with api.client(config) as client:
            assert (await client.chat("Hi", retry=1)).text == "Hello"
    (request,) = proxy.requests
    assert request.line == "POST http://host.invalid:81/v1/chat/completions HTTP/1.1"
    assert request.all("host") == ["host.invalid:81"]


async def test_a_proxy_from_the_environment_and_its_exceptions(api: Api, monkeypatch: pytest.MonkeyPatch):
    with Raw(Story([answer(body_of("by proxy"))])) as proxy, Raw(Story([answer(body_of("direct"))])) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        async with api.client(box("http://host.invalid/v1")) as client:
            assert (await client.chat("Hi", retry=1)).text == "by proxy"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with api.client(box(server.url)) as client:
            assert (await client.chat("Hi", retry=1)).text == "direct"


@pytest.mark.parametrize("status", ["403 Forbidden", "502 Bad Gateway"])
async def test_a_proxy_that_refuses_to_tunnel(api: Api, status: str):
    with Raw(Story([answer(b"no", status)])) as proxy:
        config = box("https://host.invalid/v1", proxy=f"http://127.0.0.1:{proxy.port}")
        async with api.client(config) as client:
            with pytest.raises(lr.ConnectionError, match="proxy") as caught:
                await client.chat("Hi", retry=1)
    assert caught.value.phase == "connect"
    assert proxy.requests[0].line == "CONNECT host.invalid:443 HTTP/1.1"
    assert proxy.requests[0].all("authorization") == [], "the key is not the proxy's"


# -- TLS --------------------------------------------------------------------------------------------------------------


async def test_a_handshake_that_never_ends_is_connecting(api: Api):
    def deaf(connection) -> None:
        connection.wait_until_gone()

    with Raw(deaf) as server:
        async with api.client(box(server.url.replace("http:", "https:"))) as client:
            with pytest.raises(lr.TimeoutError) as caught:
                await client.chat("Hi", retry=1, timeout=lr.Timeout(connect=0.15))
            assert caught.value.phase == "connect"
            assert server.connections[0].gone.wait(PATIENCE)


async def test_a_server_without_tls(api: Api):
    def plain(connection) -> None:
        connection.sock.recv(1000)
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Raw(plain) as server:
        async with api.client(box(server.url.replace("http:", "https:"))) as client:
            with pytest.raises(lr.ConnectionError) as caught:
                await client.chat("Hi", retry=1)
    assert caught.value.phase == "connect"


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_certificates_that_cannot_be_read(api: Api, tmp_path: Path, content: str | None):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    async with api.client(box("https://127.0.0.1:1/v1", verify=str(file))) as client:
        with pytest.raises(lr.ConfigError, match=r"ca\.pem") as caught:
            await client.chat("Hi", retry=1)
    assert caught.value.key is not None
    assert "verify" in caught.value.key
