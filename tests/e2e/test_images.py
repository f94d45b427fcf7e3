"""Images from every kind of source, through the whole client to a host that takes data only."""

from __future__ import annotations

import asyncio
import base64
import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator


def png(size: tuple[int, int] = (64, 48)) -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", size, (200, 10, 10)).save(out, "PNG")
    return out.getvalue()


PNG = png()


class Pictures(http.server.BaseHTTPRequestHandler):
    """`/x.png`, `/to/N` redirects N times, `/endless` never stops, `/page` is none."""

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/to/"):
            left = int(path.removeprefix("/to/"))
            self.send_response(302)
            self.send_header("location", f"/to/{left - 1}" if left > 1 else "/x.png")
            self.end_headers()
            return
        self.send_response(404 if path == "/gone" else 200)
        self.end_headers()
        if path == "/endless":
            self.wfile.write(PNG)
            try:
                while True:
                    self.wfile.write(bytes(65536))
            except OSError:
                return
        self.wfile.write(b"<html>hi</html>" if path == "/page" else PNG)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def config(emulator: Emulator, **images: Any) -> dict[str, Any]:
    return {"providers": emulator.providers("cloudflare"), "images": {"allow_private": True, **images}}


def sent_image(emulator: Emulator) -> bytes:
    """The bytes that arrived at the host."""
    content = emulator.requests[-1].json["messages"][-1]["content"]
    url = next(part["image_url"]["url"] for part in content if part["type"] == "image_url")
    head, data = url.split(",", 1)
    assert head == "data:image/png;base64"
    return base64.b64decode(data)


@pytest.mark.parametrize("kind", ["path", "text path", "bytes", "data URL", "PIL", "URL", "redirected URL"])
@pytest.mark.parametrize("streamed", [False, True])
def test_every_source_arrives_as_data(emulator: Emulator, site: str, tmp_path: Path, kind: str, streamed: bool) -> None:
    file = tmp_path / "picture.jpg"  # the name says nothing: the bytes do
    file.write_bytes(PNG)
    sources: dict[str, Any] = {
        "path": file,
        "text path": str(file),
        "bytes": PNG,
        "data URL": f"data:image/gif;base64,{base64.b64encode(PNG).decode()}",
        "PIL": PIL.Image.open(io.BytesIO(PNG)),
        "URL": f"{site}/x.png",
        "redirected URL": f"{site}/to/3",
    }
    with lr.Client(config(emulator)) as client:
        if streamed:
            with client.stream(["What is it?", lr.Image(sources[kind])]) as stream:
                text = "".join(stream.text())
        else:
            text = client.chat(["What is it?", lr.Image(sources[kind])]).text
    assert text == "I see 1 image (image/png, 64x48)."
    if kind != "PIL":
        assert sent_image(emulator) == PNG


@pytest.mark.parametrize(
    ("path", "images", "said"),
    [
        ("/to/4", {}, "redirect"),
        ("/gone", {}, "404"),
        ("/page", {}, "HTML"),
        ("/endless", {"max_bytes": 300_000}, "max_bytes"),
        ("/x.png", {"allow_private": False}, "allow_private"),
    ],
)
def test_what_cannot_be_fetched_is_told_and_nothing_is_sent(
    emulator: Emulator, site: str, path: str, images: dict[str, Any], said: str
) -> None:
    with lr.Client(config(emulator, **images)) as client, pytest.raises(lr.InputError, match=said) as caught:
        client.chat(["What is it?", lr.Image(f"{site}{path}?signature=secret")])
    assert "secret" not in str(caught.value)
    assert not emulator.requests


def test_many_at_once_on_asyncio(emulator: Emulator, site: str) -> None:
    async def main() -> set[str]:
        async with lr.AsyncClient(config(emulator)) as client:
            calls = [client.chat(["What is it?", lr.Image(f"{site}/to/2")]) for _ in range(12)]
            return {reply.text for reply in await asyncio.gather(*calls)}

    assert asyncio.run(main()) == {"I see 1 image (image/png, 64x48)."}


def test_an_image_is_loaded_once_however_many_attempts_it_takes(emulator: Emulator, site: str) -> None:
    emulator.fault(status=503, times=2)
    image = lr.Image(f"{site}/x.png")
    with lr.Client(config(emulator)) as client:
        reply = client.chat(["What is it?", image], retry=lr.RetryPolicy(attempts=3, base=0))
        assert len(reply.attempts) == 3
        loaded = image.loaded()
        client.chat(["What is it?", image])
    assert loaded is not None
    assert image.loaded() is loaded


def test_behind_a_proxy_the_proxy_is_asked(emulator: Emulator, site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the image's own address at the proxy's port: what was looked up before is for direct connections."""
    asked: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PNG)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with monkeypatch.context() as environment:
            environment.setenv("http_proxy", f"http://127.0.0.1:{server.server_address[1]}")
            environment.setenv("no_proxy", f"127.0.0.1:{emulator.url.rpartition(':')[2]}")
            # An address of its own on loopback: nobody listens at the proxy's port there.
            url = site.replace("127.0.0.1", "127.0.0.2") + "/x.png"
            with lr.Client(config(emulator)) as client:
                reply = client.chat(["What is it?", lr.Image(url)])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert reply.text == "I see 1 image (image/png, 64x48)."
    assert asked == [url]
