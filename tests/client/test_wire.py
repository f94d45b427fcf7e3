"""HTTP as it should not be, and connections: reuse, closing, nothing left behind."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import zlib

import pytest

import llamaroute as lr

from .api import Api, box, boxes
from .raw import (
    DONE,
    PATIENCE,
    STREAM_END,
    STREAM_HEAD,
    USAGE,
    Connection,
    Raw,
    Story,
    answer,
    body_of,
    chunk,
    delta,
    once,
    stream_of,
    then_reset,
    then_silence,
)

HELLO = answer(body_of())


async def pause(api: Api, seconds: float) -> None:
    if not api.is_async:
        time.sleep(seconds)
        return
    import anyio

    await anyio.sleep(seconds)


async def rest_of(stream) -> None:
    async for _ in stream:
        pass


async def whole(client, **options) -> lr.ChatResponse:
    """A streamed answer, read to its end."""
    async with client.stream("Hi", **options) as stream:
        async for _ in stream:
            pass
    return stream.response


# -- what can be read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO,
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + HELLO,
        b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + body_of(),
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body_of(),
        b"HTTP/1.1 200\r\n" + HELLO.partition(b"\r\n")[2],
        answer(gzip.compress(body_of()), content_encoding="gzip"),
        answer(gzip.compress(body_of()), content_encoding="GZIP"),
        answer(zlib.compress(body_of()), content_encoding="deflate"),
        answer(body_of(), content_encoding="identity"),
        answer(b"\xef\xbb\xbf" + body_of()),
        answer(b"\n \n" + body_of() + b"\n"),
        answer(body_of(), content_type="text/plain"),
        answer(body_of(), **{f"x-{number}": "y" * 1000 for number in range(50)}),
    ],
    ids=["100", "103-102", "1.0", "close", "no-reason", "gzip", "GZIP", "deflate", "identity", "bom", "blank",
         "text/plain", "50-kB-of-headers"],
)  # fmt: skip
async def test_readable_answers(api: Api, sent: bytes):
    with Raw(once(sent)) as server:
        async with api.client(box(server.url)) as client:
            reply = await client.chat("Hi", retry=1)
    assert reply.text == "Hello"
    assert reply.usage.total_tokens == 7


async def test_an_answer_byte_by_byte(api: Api):
    with Raw(once(*[HELLO[at : at + 1] for at in range(len(HELLO))])) as server:
        async with api.client(box(server.url)) as client:
            assert (await client.chat("Hi", retry=1)).text == "Hello"


async def test_a_stream_byte_by_byte(api: Api):
    pieces = b"".join(stream_of("Grü", "ße"))
    with Raw(once(*[pieces[at : at + 1] for at in range(len(pieces))])) as server:
        async with api.client(box(server.url)) as client:
            assert (await whole(client, retry=1)).text == "Grüße"


async def test_a_compressed_stream_comes_as_it_is_sent(api: Api):
    packer = zlib.compressobj(wbits=31)
    head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    first = packer.compress(delta("Hel")) + packer.flush(zlib.Z_SYNC_FLUSH)
    rest = packer.compress(delta("lo", finish="stop") + USAGE + DONE) + packer.flush()
    go_on = threading.Event()

    def play(connection):
        connection.read_request()
        connection.send(head, chunk(first))
        assert go_on.wait(PATIENCE), "the first piece has not arrived"
        connection.send(chunk(rest), STREAM_END)

    with Raw(play) as server:
        async with api.client(box(server.url)) as client, client.stream("Hi", retry=1) as stream:
            events = []
            async for event in stream:
                events.append(event)
                go_on.set()
    assert stream.response.text == "Hello"


async def test_events_that_come_in_one_piece_are_one_read(api: Api):
    data = b"".join([delta("a"), delta("b"), delta(finish="stop"), DONE])
    with Raw(once(STREAM_HEAD, chunk(data), STREAM_END)) as server:
        async with api.client(box(server.url)) as client:
            assert (await whole(client)).text == "ab"


# -- what cannot ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", lr.ProtocolError),
        (b"HTTP/1.1 two hundred\r\n\r\n", lr.ProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", lr.ProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 9\r\n\r\nhello", lr.ProtocolError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", lr.ProtocolError),
        (b"HTTP/1.1 200 OK\r\nx-big: " + b"y" * 200_000 + b"\r\n\r\n", lr.ProtocolError),
        (answer(b"not json"), lr.ProtocolError),
        (answer(b""), lr.ProtocolError),
        (answer(b"[1, 2]"), lr.ProtocolError),
        (answer(b"{}"), lr.ProtocolError),
        (answer(b"\x00\xff" * 20, content_encoding="gzip"), lr.ProtocolError),
        (answer(body_of(), content_encoding="br"), lr.ProtocolError),
        (answer(body_of(), content_length="5000"), lr.ConnectionError),
        (answer(body_of(), content_length="20"), lr.ProtocolError),
        (answer(gzip.compress(body_of())[:-12], content_encoding="gzip"), lr.ProtocolError),
        (b"", lr.ConnectionError),
        (b"HTTP/1.1 200 OK\r\ncontent-le", lr.ConnectionError),
        (b"HTTP/1.1 204 No Content\r\n\r\n", lr.ProtocolError),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", lr.ProviderError),
        (answer(b"", "301 Moved Permanently", location="http://127.0.0.1:1/"), lr.ProviderError),
        (answer(b"", "308 Permanent Redirect", location="/elsewhere"), lr.ProviderError),
        (answer(b"<html><title>Sign in</title>", content_type="text/html"), lr.ProtocolError),
        (answer(b"teapot", "418 I'm a teapot"), lr.InvalidRequestError),
        (answer(b"odd", "599 Odd"), lr.ServerError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else repr(value[:24]),
)
@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
async def test_unreadable_answers(api: Api, sent: bytes, error: type[lr.ProviderError], streamed: bool):
    with Raw(once(sent)) as server:
        async with api.client(box(server.url)) as client:
            with pytest.raises(error) as caught:
                await (whole(client, retry=1) if streamed else client.chat("Hi", retry=1))
    raised = caught.value
    assert type(raised).__module__ == "llamaroute.errors"
    assert raised.target == "box:llama-4-scout"
    assert len(raised.attempts) == 1
    assert server.accepted == 1


async def test_what_follows_an_answer_is_not_taken_for_the_next(api: Api):
    def play(connection: Connection) -> None:
        connection.read_request()
        connection.send(answer(body_of("first")) + answer(body_of("nobody's")))
        connection.wait_until_gone()

    with Raw(play, Story([answer(body_of("second"))])) as server:
        async with api.client(box(server.url, retry={"attempts": 2, "base": 0})) as client:
            texts = [(await client.chat("Hi")).text for _ in range(2)]
        assert texts == ["first", "second"]
        assert server.accepted == 2


async def test_a_redirect_is_not_followed_with_the_key(api: Api):
    with Raw(Story()) as other, Raw(once(answer(b"", "307 Temporary Redirect", location=other.url))) as server:
        async with api.client(box(server.url, api_key="sk-1")) as client:
            with pytest.raises(lr.ProviderError) as caught:
                await client.chat("Hi", retry=1)
        assert other.accepted == 0
    assert caught.value.status == 307


@pytest.mark.parametrize("pieces", [(), (HELLO[:30],), (HELLO[:-5],)], ids=["at-once", "in-the-head", "in-the-body"])
async def test_a_reset_is_a_lost_connection_and_retried(api: Api, pieces: tuple[bytes, ...]):
    with Raw(then_reset(*pieces), Story()) as server:
        async with api.client(box(server.url)) as client:
            reply = await client.chat("Hi", retry=lr.RetryPolicy(attempts=2, base=0))
    assert reply.text == "Hello"
    assert reply.attempts[0].error is not None
    assert reply.attempts[0].error.type == "ConnectionError"
    assert server.accepted == 2


async def test_a_reset_in_a_stream_interrupts_it(api: Api):
    with Raw(then_reset(STREAM_HEAD, chunk(delta("Hel")))) as server:
        async with api.client(box(server.url)) as client, client.stream("Hi") as stream:
            with pytest.raises(lr.StreamInterruptedError) as caught:
                async for _ in stream:
                    pass
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hel"
    assert caught.value.phase == "idle"


@pytest.mark.parametrize("timeout", [None, 3])
async def test_nobody_listens(api: Api, timeout: float | None):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with api.client(box(f"http://127.0.0.1:{port}/v1")) as client:
        with pytest.raises(lr.ConnectionError) as caught:
            await client.chat("Hi", retry=1, timeout=timeout)
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.phase == "connect"
    assert caught.value.attempts[0].phase == "connect"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".invalid", "a..b.invalid", "x" * 300])
async def test_names_that_lead_nowhere(api: Api, host: str):
    async with api.client(box(f"http://{host}/v1")) as client:
        with pytest.raises((lr.ConnectionError, lr.ConfigError)) as caught:
            await client.chat("Hi", retry=1, timeout=5)
    assert host[:20] in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://h/v1", "h/v1", "http://", "http://h:99999/v1", "http://[::1/v1", ""])
async def test_urls_that_are_none(api: Api, url: str):
    with pytest.raises(lr.ConfigError, match=r"URL|base_url"):
        async with api.client(box(url)) as client:
            await client.chat("Hi", retry=1)


async def test_a_stream_that_turns_to_nonsense_ends_at_once(api: Api):
    """Also while nothing else is waited for: not when its time is over."""
    said = threading.Event()

    def play(connection):
        connection.read_request()
        connection.send(STREAM_HEAD, chunk(delta("Hel")))
        assert said.wait(PATIENCE)
        time.sleep(0.05)  # the client waits for more
        connection.send(b"zz\r\n")
        connection.wait_until_gone()

    with Raw(play) as server:
        async with api.client(box(server.url)) as client, client.stream("Hi") as stream:
            assert await anext(stream)
            said.set()
            began = time.monotonic()
            with pytest.raises(lr.StreamInterruptedError) as caught:
                await rest_of(stream)
            assert time.monotonic() - began < 30
    assert isinstance(caught.value.__cause__, lr.ProtocolError)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hel"


async def test_what_came_before_the_end_is_not_lost(api: Api):
    """However slow the reader is."""
    with Raw(once(STREAM_HEAD, chunk(delta("Hel")), chunk(delta("lo")), pause=0.05)) as server:
        async with api.client(box(server.url)) as client, client.stream("Hi") as stream:
            assert await anext(stream)
            await pause(api, 0.3)
            with pytest.raises(lr.StreamInterruptedError) as caught:
                await rest_of(stream)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hello"
    assert isinstance(caught.value.__cause__, lr.ConnectionError)


async def test_cookies_are_not_kept(api: Api):
    with Raw(Story([answer(body_of(), set_cookie="a=b; Path=/")])) as server:
        async with api.client(box(server.url)) as client:
            await client.chat("1")
            await client.chat("2")
    assert server.accepted == 1
    assert [request.all("cookie") for request in server.requests] == [[], []]


async def test_many_headers(api: Api):
    headers = {f"x-{number}": "y" for number in range(300)}
    with Raw(once(answer(body_of(), **headers))) as server:
        async with api.client(box(server.url)) as client:
            assert (await client.chat("Hi", retry=1)).text == "Hello"


async def test_an_address_of_ipv6(api: Api):
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Raw(Story(), listener=listener) as server:
        async with api.client(box(f"http://[::1]:{server.port}/v1")) as client:
            assert (await client.chat("Hi", retry=1)).text == "Hello"
    assert server.requests[0].all("host") == [f"[::1]:{server.port}"]


# -- connections ------------------------------------------------------------------------------------------------------


async def test_a_connection_is_used_again(api: Api):
    with Raw(Story()) as server:
        async with api.client(box(server.url)) as client:
            first = await client.chat("1")
            second = await client.chat("2")
        assert server.accepted == 1
        assert first.timing.connect > 0
        assert second.timing.connect == 0
        assert server.connections[0].gone.wait(PATIENCE), "closing the client closes its connections"


async def test_after_a_stream_too(api: Api):
    with Raw(Story([stream_of("a", "b")])) as server:
        async with api.client(box(server.url)) as client:
            for _ in range(3):
                assert (await whole(client)).text == "ab"
        assert server.accepted == 1


async def test_after_an_error_too(api: Api):
    with Raw(Story([answer(b'{"error": {"message": "busy"}}', "503 Service Unavailable"), HELLO])) as server:
        async with api.client(box(server.url)) as client:
            await client.chat("Hi", retry=lr.RetryPolicy(attempts=2, base=0))
        assert server.accepted == 1


async def test_both_accounts_at_one_origin_share_connections(api: Api):
    with Raw(Story()) as server:
        async with api.client(boxes(server.url, server.url)) as client:
            await client.chat("1", model="a")
            await client.chat("2", model="b")
        assert server.accepted == 1


async def test_a_connection_that_was_closed_while_idle_is_not_used(api: Api):
    with Raw(once(HELLO), once(HELLO)) as server:
        async with api.client(box(server.url)) as client:
            await client.chat("1", retry=1)
            assert server.connections[0].sock.fileno() == -1 or server._threads[0].join(PATIENCE) is None
            reply = await client.chat("2", retry=1)
        assert reply.text == "Hello"
        assert server.accepted == 2


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next(api: Api):
    def play(connection):
        connection.read_request()
        connection.send(HELLO, answer(body_of("wrong")), pause=0.05)
        connection.wait_until_gone()

    with Raw(play, Story()) as server:
        async with api.client(box(server.url)) as client:
            assert (await client.chat("1", retry=1)).text == "Hello"
            await pause(api, 0.2)
            assert (await client.chat("2", retry=1)).text == "Hello"
        assert server.accepted == 2


async def test_a_stream_that_never_ends_its_body_ends_all_the_same(api: Api):
    """After the last event the connection has a moment to end; then it is closed."""
    with Raw(then_silence(*stream_of("Hello")[:-1])) as server:
        async with api.client(box(server.url)) as client:
            began = time.monotonic()
            reply = await whole(client)
            assert time.monotonic() - began < 5
            assert reply.finish_reason == "stop"
            assert server.connections[0].gone.wait(PATIENCE)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_failed_exchange_leaves_no_connection(api: Api, streamed: bool):
    with Raw(then_silence(STREAM_HEAD, chunk(b"<html>"))) as server:
        async with api.client(box(server.url)) as client:
            with pytest.raises(lr.ProviderError):
                await (whole(client, retry=1) if streamed else client.chat("Hi", retry=1, timeout=0.2))
            assert server.connections[0].gone.wait(PATIENCE)


@pytest.mark.parametrize("encoding", ["br", "zstd"])
async def test_an_answer_that_cannot_be_unpacked_leaves_no_connection(api: Api, encoding: str):
    with Raw(then_silence(answer(b"xx", content_encoding=encoding, content_length="100"))) as server:
        async with api.client(box(server.url)) as client:
            with pytest.raises(lr.ProtocolError, match=encoding):
                await client.chat("Hi", retry=1)
            assert server.connections[0].gone.wait(PATIENCE)


async def test_leaving_a_stream_early_closes_its_socket_at_once(api: Api):
    with Raw(then_silence(STREAM_HEAD, chunk(delta("Hel")))) as server:
        async with api.client(box(server.url)) as client:
            async with client.stream("Hi") as stream:
                async for event in stream:
                    if isinstance(event, lr.TextDelta):
                        break
            assert server.connections[0].gone.wait(PATIENCE), "while the client itself is still open"


async def test_a_closed_client_says_so(api: Api):
    with Raw(Story()) as server:
        client = api.client(box(server.url))
        await client.aclose()
        await client.aclose()
        with pytest.raises(lr.LlamarouteError, match="closed"):
            await client.chat("Hi")
        assert server.accepted == 0


async def test_a_client_that_was_never_used_has_nothing_to_close(api: Api):
    client = api.client(box("http://127.0.0.1:9/v1"))
    await client.aclose()


async def test_closing_while_a_stream_is_open_closes_its_connection_at_its_end(api: Api):
    with Raw(Story([stream_of("a", "b")])) as server:
        client = api.client(box(server.url))
        async with client.stream("Hi") as stream:
            await anext(stream)
            await client.aclose()
            async for _ in stream:
                pass
        assert stream.response.text == "ab"
        assert server.connections[0].gone.wait(PATIENCE)


# -- what is sent -----------------------------------------------------------------------------------------------------


async def test_headers_on_the_wire(api: Api):
    config = box(server_url := "", headers={"X-Account": "a", "x-both": "account"}, api_key="sk-1")
    with Raw(Story()) as server:
        config["providers"]["box"]["base_url"] = server.url + server_url
        async with api.client(config) as client:
            await client.chat("Hi", headers={"X-Call": "c", "X-Both": "call"})
    (request,) = server.requests
    assert request.line == "POST /v1/chat/completions HTTP/1.1"
    assert request.all("x-account") == ["a"]
    assert request.all("x-call") == ["c"]
    assert request.all("x-both") == ["call"]
    assert request.all("authorization") == ["Bearer sk-1"]
    assert request.all("host") == [f"127.0.0.1:{server.port}"]
    assert request.all("content-type") == ["application/json"]
    assert request.all("accept-encoding") == ["identity"]
    assert request.all("content-length") == [str(len(request.body))]


@pytest.mark.parametrize("name", ["User-Agent", "Accept-Encoding", "Accept", "Content-Type"])
async def test_a_header_of_the_callers_replaces_the_librarys(api: Api, name: str):
    with Raw(Story()) as server:
        async with api.client(box(server.url)) as client:
            await client.chat("Hi", headers={name: "mine"})
    assert server.requests[0].all(name.lower()) == ["mine"]


@pytest.mark.parametrize("name", ["Content-Length", "Host", "Transfer-Encoding"])
async def test_headers_that_frame_the_request_are_not_the_callers(api: Api, name: str):
    """Whatever is done with such a header, two of a kind must never be sent: that is how requests are smuggled."""
    with Raw(Story()) as server:
        async with api.client(box(server.url)) as client:
            try:
                await client.chat("Hi", headers={name: "1"}, retry=1)
            except lr.InputError:
                assert server.requests == []
                return
    (request,) = server.requests
    assert request.all("host") == [f"127.0.0.1:{server.port}"] or name == "Host"
    assert request.all("content-length") == [str(len(request.body))]
    assert len(request.all("host")) == 1
    assert request.all("transfer-encoding") == []


@pytest.mark.parametrize(
    "headers",
    [{"x": "a\r\nevil: 1"}, {"x\n": "a"}, {"x y": "a"}, {"": "a"}, {"x": "☃"}, {"☃": "x"}, {"x": 5}, {5: "x"}, "x: y"],
)
async def test_headers_that_http_does_not_allow(api: Api, headers):
    with Raw(Story()) as server:
        async with api.client(box(server.url)) as client:
            with pytest.raises(lr.InputError):
                await client.chat("Hi", headers=headers, retry=1)
        assert server.requests == []


async def test_extra_is_merged_last(api: Api):
    extra = {
        "openai-compatible": {"top_k": 9, "nested": {"kind": 1, "both": 1}, "temperature": 1.5},
        "box": {"nested": {"both": 2}, "seed": None},
        "other": {"never": True},
    }
    with Raw(Story()) as server:
        async with api.client(box(server.url)) as client:
            await client.chat("Hi", temperature=0.1, seed=4, extra=extra)
    body = server.requests[0].json
    assert body["temperature"] == 1.5
    assert body["nested"] == {"kind": 1, "both": 2}
    assert body["top_k"] == 9
    assert body["seed"] is None
    assert "never" not in body
    assert body["messages"] == [{"role": "user", "content": "Hi"}]


async def test_metadata_is_never_sent(api: Api):
    with Raw(Story()) as server:
        async with api.client(box(server.url)) as client:
            await client.chat("Hi", metadata={"user": "meta-secret"})
    assert b"meta-secret" not in server.requests[0].body


async def test_a_query_in_the_base_url_stays(api: Api):
    with Raw(Story()) as server:
        async with api.client(box(f"{server.url}?api-version=1&q=a%20b")) as client:
            await client.chat("Hi")
    assert server.requests[0].line == "POST /v1/chat/completions?api-version=1&q=a%20b HTTP/1.1"
