"""One request to one host: signing, reading, and the commit point of streams."""

from __future__ import annotations

import pytest

from llamaroute.errors import (
    ConfigError,
    ConnectionError,
    OverloadedError,
    ProtocolError,
    ProviderError,
    RateLimitError,
    ServerError,
    TimeoutError,
)
from llamaroute.pipeline.core import Timeout
from llamaroute.pipeline.exchange import MAX_BUFFER, MAX_ERROR_BODY, exchange
from llamaroute.pipeline.ops import Blocking, Pull
from llamaroute.types.events import Finished, TextDelta, ToolCallDelta, ToolCallStarted, UsageReported

from .step import START, WALL, Auth, Script, answer, blocking, call_of, candidate, drain, pull, send, send_fails

# -- plain calls ------------------------------------------------------------------------------------------------------


def test_a_plain_answer():
    call = call_of()
    script = Script(
        send(200, {"x-request-id": "r1"}, seconds=2), pull(b'{"text":', seconds=1), pull(b'"Hello"}'), pull(b"")
    )
    reply = script.run(exchange(call), call.ledger)
    assert reply.response is not None
    assert reply.response.text == "Hello"
    assert reply.headers == {"x-request-id": "r1"}
    assert call.ledger.first_token == 2, "to the headers, not to the body's end"
    assert call.ledger.connect == 0.25


def test_limits_reach_the_operations():
    call = call_of(candidate(timeout=Timeout(connect=1, first_token=2, idle=3, total=100)), total=100)
    script = Script(send(seconds=5), pull(b'{"text": "x"}', seconds=1), pull(b""))
    script.run(exchange(call), call.ledger)
    (sent,) = script.sent
    assert (sent.connect, sent.answer, sent.total) == (1, 2, START + 100)
    assert script.pulled == [Pull(START + 5 + 3, "idle"), Pull(START + 6 + 3, "idle")]


def test_the_calls_own_end_shortens_a_read_and_names_itself():
    call = call_of(candidate(timeout=Timeout(idle=60)), total=10)
    script = Script(send(seconds=4), pull(b'{"text": "x"}'), pull(b""))
    script.run(exchange(call), call.ledger)
    assert set(script.pulled) == {Pull(START + 10, "total")}


def test_no_total_means_no_end():
    call = call_of(total=None)
    script = Script(answer(200, {"text": "x"}))
    script.run(exchange(call), call.ledger)
    assert script.sent[0].total is None
    assert {op.phase for op in script.pulled} == {"idle"}


def test_headers_of_account_and_call_are_laid_over_the_adapters_and_the_key_over_all():
    call = call_of(
        candidate(headers={"X-Own": "account", "X-Account": "a"}),
        request={"headers": {"x-account": "call", "authorization": "forged"}},
    )
    script = Script(answer(200, {"text": "x"}))
    script.run(exchange(call), call.ledger)
    assert script.sent[0].request.headers == {"x-own": "account", "x-account": "call", "authorization": "token 0"}


def test_an_error_answer_is_raised_with_everything_known_about_it():
    call = call_of()
    with pytest.raises(RateLimitError) as caught:
        Script(answer(429, b"slow down", {"retry-after": "7", "x-request-id": "r9"})).run(exchange(call), call.ledger)
    error = caught.value
    assert (error.status, error.retry_after, error.request_id) == (429, 7.0, "r9")
    assert (error.provider, error.target, error.model) == ("acme", "acme:llama-4-scout", "llama-4-scout")


@pytest.mark.parametrize(
    "broken", [ConnectionError("reset"), TimeoutError("idle", phase="idle"), ProtocolError("chunk")]
)
def test_an_error_body_that_breaks_off_keeps_the_status(broken: ProviderError):
    call = call_of()
    with pytest.raises(OverloadedError) as caught:
        Script(send(503), pull(b"half of "), pull(broken)).run(exchange(call), call.ledger)
    assert caught.value.status == 503
    assert caught.value.raw == b"half of "


def test_an_endless_error_body_is_not_read_to_its_end():
    call = call_of()
    piece = b"x" * (MAX_ERROR_BODY // 4)
    with pytest.raises(ServerError):
        Script(send(500), *[pull(piece)] * 4).run(exchange(call), call.ledger)


def test_an_answer_that_is_no_json_tells_the_status_and_the_request_id():
    call = call_of()
    with pytest.raises(ProtocolError) as caught:
        Script(answer(200, b"<html>", {"x-request-id": "r2"})).run(exchange(call), call.ledger)
    assert (caught.value.status, caught.value.request_id) == (200, "r2")


def test_a_connection_that_breaks_inside_a_plain_answer_names_target_and_request():
    call = call_of()
    with pytest.raises(ConnectionError) as caught:
        Script(send(200, {"x-request-id": "r3"}), pull(b'{"te'), pull(ConnectionError("gone"))).run(
            exchange(call), call.ledger
        )
    assert caught.value.target == "acme:llama-4-scout"
    assert caught.value.request_id == "r3"


def test_an_error_inside_a_200_is_an_error():
    call = call_of()
    with pytest.raises(RateLimitError):
        Script(answer(200, {"error": 429})).run(exchange(call), call.ledger)


@pytest.mark.parametrize("status", [300, 302, 307, 308, 304])
def test_a_redirect_is_not_followed(status: int):
    call = call_of()
    with pytest.raises(ProviderError):
        Script(send(status, {"location": "https://evil.example/"}), pull(b"")).run(exchange(call), call.ledger)


@pytest.mark.parametrize("status", [200, 201, 206, 299])
def test_any_2xx_is_an_answer(status: int):
    call = call_of()
    reply = Script(answer(status, {"text": "x"})).run(exchange(call), call.ledger)
    assert reply.response is not None


# -- credentials ------------------------------------------------------------------------------------------------------


def test_a_stale_token_is_refreshed_before_sending_within_the_calls_time():
    auth = Auth(stale=True)
    call = call_of(candidate(auth=auth), total=9)
    script = Script(blocking(seconds=3), answer(200, {"text": "x"}))
    script.run(exchange(call), call.ledger)
    first = script.ops[0]
    assert isinstance(first, Blocking)
    assert first.until == START + 9
    assert script.sent[0].request.headers["authorization"] == "token 1"
    assert auth.asked == [WALL], "seconds since the epoch, not the monotonic clock"


def test_a_401_is_mended_once_by_a_refresh():
    auth = Auth(renewable=True)
    call = call_of(candidate(auth=auth))
    script = Script(answer(401, b"expired"), blocking(), answer(200, {"text": "Hello"}))
    reply = script.run(exchange(call), call.ledger)
    assert reply.response is not None
    assert [op.request.headers["authorization"] for op in script.sent] == ["token 0", "token 1"]
    assert auth.rejected == 1


def test_a_second_401_is_raised():
    auth = Auth(renewable=True)
    call = call_of(candidate(auth=auth))
    with pytest.raises(ProviderError) as caught:
        Script(answer(401, b"expired"), blocking(), answer(401, b"still")).run(exchange(call), call.ledger)
    assert caught.value.status == 401
    assert caught.value.raw == b"still"
    assert auth.token == 1


def test_a_401_for_a_key_that_nothing_renews_is_raised_at_once():
    call = call_of(candidate(auth=Auth(renewable=False)))
    with pytest.raises(ProviderError) as caught:
        Script(answer(401, b"no")).run(exchange(call), call.ledger)
    assert caught.value.status == 401


def test_a_403_is_mended_where_the_credentials_say_so():
    """Databricks and AWS answer 403 to a token that has expired; the account's auth knows."""
    call = call_of(candidate(auth=Auth(renewable=True)))
    script = Script(answer(403, b"expired"), blocking(), answer(200, {"text": "Hello"}))
    assert script.run(exchange(call), call.ledger).response is not None


@pytest.mark.parametrize("status", [400, 402, 404, 429, 500])
def test_nothing_else_asks_for_a_new_token(status):
    auth = Auth(renewable=True)
    call = call_of(candidate(auth=auth))
    with pytest.raises(ProviderError):
        Script(answer(status, b"no")).run(exchange(call), call.ledger)
    assert auth.rejected == 0


def test_a_refresh_that_fails_is_the_error():
    call = call_of(candidate(auth=Auth(stale=True, failure=ConfigError("no credentials"))))
    with pytest.raises(ConfigError, match="no credentials"):
        Script(blocking()).run(exchange(call), call.ledger)


def test_a_401_before_a_stream_is_mended_too():
    call = call_of(candidate(auth=Auth(renewable=True)), stream=True)
    script = Script(answer(401, b"expired"), blocking(), send(), pull(b"T:Hello\n"))
    assert drain(script.run(exchange(call), call.ledger)) == [TextDelta("Hello")]


# -- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_commits_at_its_first_text_and_leaves_the_rest_undecoded():
    call = call_of(candidate(timeout=Timeout(first_token=20, idle=7)), stream=True)
    script = Script(send(seconds=1), pull(b": hello\n", seconds=2), pull(b"U:1,2\nT:Hel\nT:lo\nE:500\n", seconds=3))
    reply = script.run(exchange(call), call.ledger)
    assert reply.events == [UsageReported(reply.events[0].usage), TextDelta("Hel")]
    assert reply.rest is not None
    assert next(reply.rest) == TextDelta("lo")
    with pytest.raises(ServerError):
        next(reply.rest)
    assert call.ledger.first_token == 6
    assert reply.idle == 7
    assert not reply.ended
    assert {op.until for op in script.pulled} == {START + 1 + 20}, (
        "one moment for the first token, counted from sending"
    )
    assert {op.phase for op in script.pulled} == {"first_token"}


@pytest.mark.parametrize(
    ("data", "commits"),
    [(b"T:x\n", TextDelta), (b"C:0:f\n", ToolCallStarted), (b"F:stop\n", Finished)],
)
def test_what_commits(data: bytes, commits: type):
    call = call_of(stream=True)
    reply = Script(send(), pull(b"?:\n"), pull(data)).run(exchange(call), call.ledger)
    assert isinstance(reply.events[-1], commits)


@pytest.mark.parametrize("before", [b"U:1,1\n", b": ping\n", b"\n\n", b"?:meta\n"])
def test_what_does_not_commit(before: bytes):
    call = call_of(stream=True)
    with pytest.raises(ServerError):
        Script(send(), pull(before), pull(b"E:500\n")).run(exchange(call), call.ledger)


def test_an_error_as_the_first_event_of_a_200_is_the_hosts_error():
    call = call_of(stream=True)
    with pytest.raises(OverloadedError) as caught:
        Script(send(200, {"x-request-id": "r4"}), pull(b"E:503\n")).run(exchange(call), call.ledger)
    assert caught.value.retryable
    assert caught.value.target == "acme:llama-4-scout"
    assert caught.value.request_id == "r4"


def test_a_connection_lost_before_the_commit_may_be_retried():
    call = call_of(stream=True)
    with pytest.raises(ConnectionError) as caught:
        Script(send(), pull(b"U:1,1\n"), pull(ConnectionError("gone"))).run(exchange(call), call.ledger)
    assert caught.value.retryable


@pytest.mark.parametrize("steps", [[pull(b"")], [pull(b"U:1,1\n"), pull(b"")], [pull(b" \n"), pull(b"")]])
def test_a_stream_that_ends_before_the_answer_may_be_retried(steps):
    call = call_of(stream=True)
    with pytest.raises(ProtocolError) as caught:
        Script(send(), *steps).run(exchange(call), call.ledger)
    assert caught.value.retryable
    assert caught.value.status == 200


def test_a_whole_json_answer_to_a_stream_request_becomes_a_stream():
    call = call_of(stream=True)
    script = Script(send(), pull(b" \r\n"), pull(b'{"text": "Hel'), pull(b'lo", "usage": [3, 4]}'), pull(b""))
    reply = script.run(exchange(call), call.ledger)
    assert reply.response is None
    assert reply.ended
    kinds = [event for event in drain(reply) if isinstance(event, TextDelta | UsageReported | Finished)]
    assert [type(event) for event in kinds] == [TextDelta, UsageReported, Finished]
    assert kinds[0] == TextDelta("Hello")
    assert [notice.code for notice in call.ledger.notices] == ["stream_from_reply"]


def test_the_calls_of_a_whole_json_answer_are_events_too():
    call = call_of(stream=True)
    body = {"text": "x", "calls": [["f", {"a": 1}], ["g", {}]]}
    reply = Script(answer(200, body)).run(exchange(call), call.ledger)
    started = [event for event in drain(reply) if isinstance(event, ToolCallStarted)]
    assert [(event.index, event.name) for event in started] == [(0, "f"), (1, "g")]
    assert ToolCallDelta(0, '{"a": 1}') in drain(reply)


def test_an_error_as_json_in_answer_to_a_stream_request():
    call = call_of(stream=True)
    with pytest.raises(RateLimitError):
        Script(answer(200, {"error": 429})).run(exchange(call), call.ledger)


@pytest.mark.parametrize("page", [b"<!doctype html><html>login", b"\n  <html>"])
def test_a_web_page_in_answer_to_a_stream_request(page: bytes):
    call = call_of(stream=True)
    with pytest.raises(ProtocolError, match="web page") as caught:
        Script(send(200, {"content-type": "text/html"}), pull(page)).run(exchange(call), call.ledger)
    assert not caught.value.retryable
    assert caught.value.failover
    assert "html" in caught.value.raw


def test_64_kib_without_an_answer_are_too_many():
    call = call_of(stream=True)
    ping = b"?:" + b"x" * 1021 + b"\n"
    pieces = MAX_BUFFER // len(ping) + 1
    with pytest.raises(ProtocolError, match="without any answer"):
        Script(send(), *[pull(ping)] * pieces).run(exchange(call), call.ledger)


def test_64_kib_are_not_too_many_when_the_answer_is_in_them():
    call = call_of(stream=True)
    reply = Script(send(), pull(b"?:" + b"x" * (MAX_BUFFER * 2) + b"\nT:late\n")).run(exchange(call), call.ledger)
    assert drain(reply) == [TextDelta("late")]


def test_blank_space_alone_is_not_read_for_ever():
    call = call_of(stream=True)
    blank = b"\n" * 1024
    with pytest.raises(ProtocolError, match="without any answer"):
        Script(send(), *[pull(blank)] * (MAX_BUFFER // 1024 + 1)).run(exchange(call), call.ledger)


def test_a_first_token_that_comes_too_late_is_waited_for_by_the_transport():
    call = call_of(candidate(timeout=Timeout(first_token=3)), stream=True, total=100)
    late = TimeoutError("late", phase="first_token")
    with pytest.raises(TimeoutError) as caught:
        Script(send(seconds=1), pull(b"?:\n", seconds=2), pull(late)).run(exchange(call), call.ledger)
    assert caught.value is late
    assert late.target == "acme:llama-4-scout"


def test_a_connection_that_cannot_be_made():
    call = call_of()
    with pytest.raises(ConnectionError) as caught:
        Script(send_fails(ConnectionError("refused", phase="connect"))).run(exchange(call), call.ledger)
    assert caught.value.provider == "acme"
    assert caught.value.status is None


def test_a_head_without_the_moment_of_sending_still_has_its_time_for_the_first_token():
    """`Head.sent` has a default, so a transport of a user's own may leave it out."""
    call = call_of(candidate(timeout=Timeout(first_token=20)), stream=True)
    plan = exchange(call)
    plan.send(None)
    from llamaroute.pipeline.ops import Head

    op = plan.send(Head(200, {}))
    assert isinstance(op, Pull)
    assert op.until == START + 20
    plan.close()
