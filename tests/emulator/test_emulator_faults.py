"""Every fault, seen from a raw socket or from httpx: a cut really cuts, a reset really resets."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time

import httpx
import pytest

from llamaroute.emulator import Emulator, Fault, Reply

BODY = {"model": "llama-4-scout", "messages": [{"role": "user", "content": "Hello"}]}


def request(emu: Emulator, *, stream: bool = False, close: bool = True) -> bytes:
    body = json.dumps({**BODY, "stream": stream}).encode()
    head = (
        "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {emu.key('openai')}\r\nContent-Length: {len(body)}\r\n"
    )
    return (head + ("Connection: close\r\n" if close else "") + "\r\n").encode() + body


def raw(emu: Emulator, *, stream: bool = False, close: bool = True) -> list[bytes]:
    """The reads of a client that reads as fast as it can, until the connection ends."""
    port = int(emu.url.rpartition(":")[2])
    reads: list[bytes] = []
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(request(emu, stream=stream, close=close))
        while data := sock.recv(65536):
            reads.append(data)
    return reads


def post(emu: Emulator, *, stream: bool = False, **options) -> httpx.Response:
    key = {"authorization": f"Bearer {emu.key('openai')}"}
    return httpx.post(
        emu.base_url("openai") + "/chat/completions", json={**BODY, "stream": stream}, headers=key, timeout=5, **options
    )


def split(data: bytes) -> tuple[bytes, bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def test_reset(emu: Emulator) -> None:
    emu.fault(reset=True)
    with pytest.raises(ConnectionResetError):
        raw(emu)
    assert emu.requests[0].status is None


def test_hangup(emu: Emulator) -> None:
    emu.fault(hangup=True)
    assert raw(emu) == []
    emu.fault(hangup=True)
    with pytest.raises(httpx.RemoteProtocolError):
        post(emu)


@pytest.mark.parametrize("count", [0, 1, 57])
def test_cut_after_bytes(emu: Emulator, count: int) -> None:
    emu.fault(cut=count)
    head, body = split(b"".join(raw(emu, close=False)))
    assert b"200 OK" in head
    assert len(body) == count
    emu.fault(cut=count)
    with pytest.raises(httpx.RemoteProtocolError):
        post(emu)


def test_cut_mid_frame(emu: Emulator) -> None:
    emu.fault(cut="mid-frame", cut_after=2)
    _, body = split(b"".join(raw(emu, stream=True)))
    assert body.count(b"data: ") == 3
    assert body.count(b"\n\n") == 2
    assert not body.endswith(b"0\r\n\r\n")
    emu.fault(cut="mid-frame")
    with pytest.raises(httpx.RemoteProtocolError):
        post(emu, stream=True)


def test_cut_without_a_trace_in_http(emu: Emulator) -> None:
    emu.fault(cut="mid-frame", framing="close")
    answer = post(emu, stream=True)
    assert answer.status_code == 200
    assert "[DONE]" not in answer.text


def test_cut_plain_body(emu: Emulator) -> None:
    emu.fault(cut="mid-frame")
    with pytest.raises(httpx.RemoteProtocolError):
        post(emu)


def test_dribble(emu: Emulator) -> None:
    emu.reply("Hi")
    emu.fault(dribble=0.0001)
    reads = raw(emu, stream=True)
    assert sum(len(read) <= 4 for read in reads) > len(reads) * 0.9
    assert len(reads) > 200
    emu.fault(dribble=True)
    assert post(emu, stream=True).text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("stream", [False, True])
def test_framing(emu: Emulator, framing: str, stream: bool) -> None:
    emu.fault(framing=framing)
    answer = post(emu, stream=stream)
    assert ("transfer-encoding" in answer.headers) == (framing == "chunked")
    assert ("content-length" in answer.headers) == (framing == "length")
    assert "Hello" in answer.text


def test_close_idle(emu: Emulator) -> None:
    emu.fault(close_idle=True)
    data = b"".join(raw(emu, close=False))  # ends although keep-alive was promised
    assert b"connection: keep-alive" in data


def test_stall_before_the_headers(emu: Emulator) -> None:
    emu.fault(stall=0.15)
    started = time.monotonic()
    post(emu)
    assert time.monotonic() - started >= 0.15
    emu.fault(stall=30)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            emu.base_url("openai") + "/chat/completions", json=BODY, timeout=0.1,
            headers={"authorization": f"Bearer {emu.key('openai')}"},
        )  # fmt: skip
    assert emu.wait_for(2, finished=True)[1].disconnected


def test_stall_in_the_stream(emu: Emulator) -> None:
    emu.fault(stall=0.15, stall_after=2)
    key = {"authorization": f"Bearer {emu.key('openai')}"}
    arrived = []
    url = emu.base_url("openai") + "/chat/completions"
    with httpx.stream("POST", url, json={**BODY, "stream": True}, headers=key) as answer:
        arrived = [time.monotonic() for line in answer.iter_lines() if line.startswith("data: ")]
    gaps = [after - before for before, after in itertools.pairwise(arrived)]
    assert gaps[1] >= 0.14


def test_status_body_headers(emu: Emulator) -> None:
    emu.fault(status=503, body="<html>busy</html>", content_type="text/html", headers={"x-a": "1"}, retry_after=7)
    answer = post(emu)
    assert (answer.status_code, answer.text) == (503, "<html>busy</html>")
    assert (answer.headers["content-type"], answer.headers["retry-after"]) == ("text/html", "7")
    assert answer.headers["x-a"] == "1"
    emu.fault(body={"error": "x"})
    assert post(emu).json() == {"error": "x"}
    emu.fault(status=429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT")
    assert post(emu).headers["retry-after"].startswith("Wed")


def test_wrong_content_type(emu: Emulator) -> None:
    emu.fault(content_type="text/html")
    answer = post(emu, stream=True)
    assert answer.headers["content-type"] == "text/html"
    assert answer.text.startswith("data: ")


def test_error_in_the_stream(emu: Emulator) -> None:
    emu.fault(error_first=True, message="no luck")
    answer = post(emu, stream=True)
    assert answer.status_code == 200
    assert json.loads(answer.text.removeprefix("data: "))["error"]["message"] == "no luck"
    emu.fault(error_after=2)
    frames = post(emu, stream=True).text.split("\n\n")[:-1]
    assert len(frames) == 3
    assert "error" in json.loads(frames[2].removeprefix("data: "))


def test_missing_usage_and_done(emu: Emulator) -> None:
    emu.fault(missing_usage=True, no_done=True, times=2)
    assert "usage" not in post(emu).json()
    text = post(emu, stream=True).text
    assert "usage" not in text
    assert "[DONE]" not in text


def test_garbage(emu: Emulator) -> None:
    emu.fault(garbage=True)
    frames = post(emu, stream=True).text.split("\n\n")
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(frames[1].removeprefix("data: "))


def test_line_ends_comments_and_split_characters(emu: Emulator) -> None:
    emu.reply("é🎉é")
    emu.fault(crlf=True, keepalive=True, split_utf8=True)
    reads = b"".join(raw(emu, stream=True))
    assert b"\xc3\r\n" in reads, "a chunk ends inside a character"
    emu.reply("é🎉é")
    emu.fault(crlf=True, keepalive=": ping", split_utf8=True)
    answer = post(emu, stream=True)
    assert "\r\n\r\n" in answer.text
    assert ": ping\r\n\r\n" in answer.text
    assert "🎉" in answer.text


def test_faults_choose_their_requests(emu: Emulator) -> None:
    emu.fault(Fault(status=500), host="vllm")
    emu.fault(Fault(status=418), path="/models")
    assert post(emu).status_code == 200
    key = {"authorization": f"Bearer {emu.key('openai')}"}
    assert httpx.get(emu.base_url("openai") + "/models", headers=key).status_code == 418
    assert httpx.get(emu.base_url("openai") + "/models", headers=key).status_code == 200


def test_faults_before_the_answer_use_no_reply(emu: Emulator) -> None:
    emu.reply("kept")
    emu.fault(status=500, times=2)
    statuses = [post(emu).status_code for _ in range(2)]
    assert statuses == [500, 500]
    assert post(emu).json()["choices"][0]["message"]["content"] == "kept"


def test_client_that_hangs_up(emu: Emulator) -> None:
    emu.reply(Reply("word " * 50, chunk_delay=0.02))
    key = {"authorization": f"Bearer {emu.key('openai')}"}
    url = emu.base_url("openai") + "/chat/completions"
    with httpx.Client() as client, client.stream("POST", url, json={**BODY, "stream": True}, headers=key) as answer:
        next(answer.iter_bytes())
    seen = emu.wait_for(1, finished=True)[0]
    assert seen.disconnected
    assert seen.status == 200
    assert seen.finished - seen.started < 0.9


def test_request_that_never_ends(emu: Emulator) -> None:
    port = int(emu.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(request(emu)[:-5])
    seen = emu.wait_for(1)[0]
    assert seen.disconnected
    assert seen.status is None


def test_faults_from_another_thread_while_running(emu: Emulator) -> None:
    emu.reply(Reply(delay=0.1))
    waiting = threading.Thread(target=post, args=(emu,))
    waiting.start()
    emu.wait_for(1)
    emu.fault(status=500)
    assert post(emu).status_code == 500
    waiting.join()
    assert len(emu.wait_for(2, finished=True)) == 2
