"""The HTTP server under the hosts: connections, limits, many clients, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from llamaroute.emulator import Emulator, Reply
from llamaroute.testing._emulator import emulator

BODY = {"model": "llama-4-scout", "messages": [{"role": "user", "content": "Hello"}]}


def raw_request(emu: Emulator, body: bytes, version: str = "1.1", extra: str = "") -> bytes:
    return (
        f"POST /openai/v1/chat/completions HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {emu.key('openai')}\r\n"
        f"Content-Length: {len(body)}\r\n{extra}\r\n"
    ).encode() + body


def connect(emu: Emulator) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(emu.url.rpartition(":")[2])), timeout=5)


def test_keep_alive_uses_one_connection(emu: Emulator) -> None:
    with httpx.Client(headers={"authorization": f"Bearer {emu.key('openai')}"}) as client:
        for stream in (False, True, False):
            body = {**BODY, "stream": stream}
            assert client.post(emu.base_url("openai") + "/chat/completions", json=body).status_code == 200
            assert emu.connections_open == 1


def test_pipelined_requests(emu: Emulator) -> None:
    emu.replies("first", "second")
    one = raw_request(emu, json.dumps(BODY).encode())
    with connect(emu) as sock:
        sock.sendall(one + raw_request(emu, json.dumps(BODY).encode(), extra="Connection: close\r\n"))
        data = b""
        while got := sock.recv(65536):
            data += got
    assert data.index(b"first") < data.index(b"second")
    assert len(emu.requests) == 2


def test_expect_100_continue(emu: Emulator) -> None:
    body = json.dumps(BODY).encode()
    whole = raw_request(emu, body, extra="Expect: 100-continue\r\nConnection: close\r\n")
    with connect(emu) as sock:
        sock.sendall(whole[: -len(body)])
        assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
        sock.sendall(body)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_http_1_0_ends_with_the_connection(emu: Emulator) -> None:
    with connect(emu) as sock:
        sock.sendall(raw_request(emu, json.dumps({**BODY, "stream": True}).encode(), version="1.0"))
        data = b""
        while got := sock.recv(65536):
            data += got
    assert b"transfer-encoding" not in data
    assert data.endswith(b"data: [DONE]\n\n")


def test_nonsense_is_refused(emu: Emulator) -> None:
    with connect(emu) as sock:
        sock.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_chunked_request_body(emu: Emulator) -> None:
    def parts():
        yield b'{"model": "llama-4-scout", '
        yield b'"messages": [{"role": "user", "content": "in parts"}]}'

    url = emu.base_url("openai") + "/chat/completions"
    answer = httpx.post(url, content=parts(), headers={"authorization": f"Bearer {emu.key('openai')}"})
    assert "in parts" in answer.text
    assert emu.requests[0].json["model"] == "llama-4-scout"


def test_large_bodies(emu: Emulator) -> None:
    text = "x" * 3_000_000
    emu.reply(Reply("y" * 3_000_000, chunks=100_000, exact=True))
    with Emulator(context={"openai": 10**9}) as big:
        big.reply(Reply("y" * 3_000_000, chunks=100_000, exact=True))
        answer = httpx.post(
            big.base_url("openai") + "/chat/completions",
            json={**BODY, "messages": [{"role": "user", "content": text}], "stream": True},
            headers={"authorization": f"Bearer {big.key('openai')}"},
            timeout=20,
        )
    assert answer.text.count("y") >= 3_000_000
    assert len(big.requests[0].body) > 3_000_000


def test_hundreds_of_connections_at_once() -> None:
    emu = Emulator().start()
    for _ in range(200):
        emu.reply(Reply("Hello", delay=0.2))

    async def ask(port: int, key: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw_request(emu, json.dumps(BODY).encode(), extra="Connection: close\r\n"))
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
        return data

    async def all_of_them() -> list[bytes]:
        port = int(emu.url.rpartition(":")[2])
        return await asyncio.gather(*(ask(port, "") for _ in range(400)))

    started = time.monotonic()
    answers = asyncio.run(all_of_them())
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert len(emu.requests) == 400
    assert time.monotonic() - started < 15
    emu.stop()


def test_thousands_of_requests(emu: Emulator) -> None:
    one = raw_request(emu, json.dumps(BODY).encode())
    last = raw_request(emu, json.dumps(BODY).encode(), extra="Connection: close\r\n")

    def run() -> int:
        with connect(emu) as sock:
            sock.settimeout(20)
            sock.sendall(one * 249 + last)
            data = b""
            while got := sock.recv(1 << 20):
                data += got
        return data.count(b"HTTP/1.1 200 ")

    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(run())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [250] * 8
    assert len(emu.requests) == 2000


def test_stop_leaves_nothing(recwarn) -> None:
    before = set(threading.enumerate())
    emu = Emulator()
    with pytest.raises(RuntimeError, match="not running"):
        _ = emu.url
    emu.start()
    port = int(emu.url.rpartition(":")[2])
    emu.reply(Reply("slow", delay=30))
    idle, busy = connect(emu), connect(emu)
    busy.sendall(raw_request(emu, json.dumps(BODY).encode()))
    emu.wait_for(1)
    assert emu.connections_open == 2
    started = time.monotonic()
    emu.stop()
    emu.stop()
    assert time.monotonic() - started < 2
    assert emu.connections_open == 0
    assert set(threading.enumerate()) == before
    for sock in (idle, busy):
        with sock, contextlib.suppress(ConnectionResetError):
            assert sock.recv(10) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    gc.collect()
    assert [str(warning.message) for warning in recwarn if issubclass(warning.category, ResourceWarning)] == []


def test_start_again_and_taken_port() -> None:
    emu = Emulator()
    for _ in range(2):
        with emu:
            assert httpx.get(emu.url + "/ollama/").text == "Ollama is running"
    with emu, pytest.raises(OSError, match=r"address|in use"):
        Emulator(port=int(emu.url.rpartition(":")[2])).start()
    with emulator(replies=["x"]) as other:
        assert other.url != ""


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown quirks: paddnig"):
        Emulator(quirks=["paddnig"])
    with pytest.raises(ValueError, match="no emulated host 'azur'"):
        Emulator(keys={"azur": "x"})
    with Emulator() as emu:
        with pytest.raises(ValueError, match="no emulated host"):
            emu.base_url("nope")
        assert httpx.get(emu.url + "/nope/v1/models").status_code == 404
        assert emu.requests[0].host == "nope"
        with pytest.raises(TimeoutError):
            emu.wait_for(2, timeout=0.01)
        emu.clear()
        assert emu.requests == []


def test_providers(emu: Emulator) -> None:
    settings = emu.providers()
    assert settings["cloudflare"]["account_id"] == "0123456789abcdef0123456789abcdef"
    assert settings["openai"]["kind"] == "openai-compatible"
    assert settings["huggingface"]["base_url"] == emu.url + "/huggingface/v1"
    kinds = [table["kind"] for table in settings.values()]
    assert len(set(kinds)) == len(kinds) == 7, "one host of each networked kind"
    assert set(emu.providers("vllm", "tgi")) == {"vllm", "tgi"}


def test_shares_no_code_with_the_package() -> None:
    code = (
        "import sys, llamaroute.emulator\n"
        "shared = ('dialects', 'wire', 'providers', 'types', 'errors', 'parity', 'spi', 'transport')\n"
        "found = [m for m in sys.modules for s in shared\n"
        "         if m == f'llamaroute.{s}' or m.startswith(f'llamaroute.{s}.')]\n"
        "assert not found, found\n"
        "assert 'xllamacpp' not in sys.modules and 'httpx' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
