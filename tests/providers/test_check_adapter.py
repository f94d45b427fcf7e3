"""`check_adapter` itself: a good adapter passes, and for every rule there is a bad one that it finds out."""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from llamaroute.dialects.openai_chat import OpenAIChat
from llamaroute.errors import InvalidRequestError, ProviderError, ServerError
from llamaroute.providers.urls import chat_completions_url
from llamaroute.spi import DecoderEvent, ProviderSpec, Target, WireRequest, WireResponse
from llamaroute.testing import Sample, check_adapter, conformance
from llamaroute.types.events import Finished, TextDelta, ToolCallDelta
from llamaroute.types.parts import Text
from llamaroute.types.request import ChatRequest
from llamaroute.types.response import ChatResponse, Usage
from tests.providers.wires import USAGE, chunk, completion, packed, sse

SAMPLES = (
    Sample(
        "text",
        packed(completion({"role": "assistant", "content": "Oslo is cloudy."}, "stop")),
        source="here",
        evidence="inferred",
    ),
    Sample(
        "stream",
        sse(chunk({"content": "Oslo is"}), chunk({"content": " cloudy."}), chunk({}, "stop"), chunk(usage=USAGE)),
        stream=True,
        same_as="text",
        source="here",
        evidence="inferred",
    ),
    Sample("error", packed({"error": "no"}), status=400, source="here", evidence="inferred"),
)
SETTINGS = {"base_url": "http://host/v1", "api_key": "a-key-0123456789"}


class Base(OpenAIChat):
    """An adapter that keeps all rules."""

    def __init__(self) -> None:
        super().__init__(url=lambda target: chat_completions_url(target.options.base_url or ""))


def report(adapter: OpenAIChat, samples: tuple[Sample, ...] = SAMPLES, **settings: Any) -> str:
    """What `check_adapter` says; empty when it is content."""
    try:
        check_adapter(ProviderSpec("mine", adapter, auth="x:y"), settings={**SETTINGS, **settings}, samples=samples)
    except AssertionError as error:
        return str(error)
    return ""


def test_a_good_adapter_passes() -> None:
    assert report(Base()) == ""


def on_build(change: Callable[[WireRequest, ChatRequest, Target], WireRequest | None]) -> OpenAIChat:
    class Changed(Base):
        def build_request(self, request: ChatRequest, target: Target, *, stream: bool) -> WireRequest:
            wire = super().build_request(request, target, stream=stream)
            return change(wire, request, target) or wire

    return Changed()


def on_parse(change: Callable[[ChatResponse[Any]], ChatResponse[Any]]) -> OpenAIChat:
    class Changed(Base):
        def parse_response(self, response: WireResponse, request: ChatRequest, target: Target) -> ChatResponse[Any]:
            return change(super().parse_response(response, request, target))

    return Changed()


def on_error(change: Callable[[ProviderError, WireResponse], Any]) -> OpenAIChat:
    class Changed(Base):
        def map_error(self, response: WireResponse, target: Target) -> ProviderError:
            error = super().map_error(response, target)
            return change(error, response) or error

    return Changed()


def on_stream(change: Callable[[Any, bytes], Iterator[DecoderEvent]], *, silent: bool = False) -> OpenAIChat:
    """`change(decoder, data)` in the place of `feed`; `silent`: `close()` never raises."""

    class Decoder:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def feed(self, data: bytes) -> Iterator[DecoderEvent]:
            return change(self.inner, data)

        def close(self) -> Iterator[DecoderEvent]:
            try:
                yield from self.inner.close()
            except ProviderError:
                if not silent:
                    raise

    class Changed(Base):
        def stream_decoder(self, request: ChatRequest, target: Target) -> Any:
            return Decoder(super().stream_decoder(request, target))

    return Changed()


def feed(decoder: Any, data: bytes) -> Iterator[DecoderEvent]:
    yield from decoder.feed(data)


def doing(action: Callable[[], object]) -> OpenAIChat:
    def change(wire: WireRequest, request: ChatRequest, target: Target) -> None:
        action()

    return on_build(change)


def with_header(name: str, value: Callable[[WireRequest], str]) -> OpenAIChat:
    return on_build(lambda wire, request, target: replace(wire, headers={**wire.headers, name: value(wire)}))


def without_extra(wire: WireRequest, request: ChatRequest, target: Target) -> WireRequest:
    return Base().build_request(request.evolve(extra={}), target, stream=b'"stream":true' in _bytes(wire))


def kind_over_account(wire: WireRequest, request: ChatRequest, target: Target) -> WireRequest:
    body = json.loads(_bytes(wire))
    body.update(request.extra.get(target.kind, {}))
    return replace(wire, body=json.dumps(body).encode())


def _bytes(wire: WireRequest) -> bytes:
    return wire.body if isinstance(wire.body, bytes) else b"".join(wire.body)


class TakesDocuments(Base):
    def build_request(self, request: ChatRequest, target: Target, *, stream: bool) -> WireRequest:
        messages = tuple(
            replace(message, parts=tuple(part for part in message.parts if isinstance(part, Text)))
            for message in request.messages
        )
        return super().build_request(request.evolve(messages=messages), target, stream=stream)


def log_it(wire: WireRequest, request: ChatRequest, target: Target) -> None:
    logging.getLogger("mine").warning("sending %s", _bytes(wire))


def by_chunk(decoder: Any, data: bytes) -> Iterator[DecoderEvent]:
    """As if every read were a whole number of events."""
    yield from decoder.feed(data if data.endswith(b"\n") else data + b"\n\n")


def twice(decoder: Any, data: bytes) -> Iterator[DecoderEvent]:
    for event in decoder.feed(data):
        yield event
        if isinstance(event, Finished):
            yield event


def loose_delta(decoder: Any, data: bytes) -> Iterator[DecoderEvent]:
    yield from decoder.feed(data)
    yield ToolCallDelta(0, "{")


def louder(decoder: Any, data: bytes) -> Iterator[DecoderEvent]:
    for event in decoder.feed(data):
        yield TextDelta(event.text.upper()) if isinstance(event, TextDelta) else event


def crashing(decoder: Any, data: bytes) -> Iterator[DecoderEvent]:
    if b"\xff" in data:
        raise KeyError("choices")
    yield from decoder.feed(data)


def class_by_text(error: ProviderError, response: WireResponse) -> ProviderError | None:
    return ServerError(str(error), status=response.status) if b"html" in response.body else None


def always_again(error: ProviderError, response: WireResponse) -> None:
    error.retryable = True


def never_again(error: ProviderError, response: WireResponse) -> None:
    error.retryable = False


def no_wait(error: ProviderError, response: WireResponse) -> None:
    error.retry_after = None


def no_id(error: ProviderError, response: WireResponse) -> None:
    error.request_id = None


def no_raw(error: ProviderError, response: WireResponse) -> None:
    error.raw = None


def one_class(error: ProviderError, response: WireResponse) -> ProviderError:
    return InvalidRequestError("no", status=response.status)


COUNTER = iter(range(1_000_000))


@pytest.mark.parametrize(
    ("rule", "adapter", "what"),
    [
        ("pure", doing(lambda: time.time()), "the clock"),
        ("pure", doing(lambda: time.monotonic()), "the clock"),
        ("pure", doing(lambda: random.random()), "chance"),
        ("pure", doing(lambda: os.environ.get("HOME")), "the environment"),
        ("pure", doing(lambda: "HOME" in os.environ), "the environment"),
        ("pure", doing(lambda: os.getenv("HOME")), "the environment"),
        ("pure", doing(lambda: open(__file__).close()), "a file"),
        ("pure", doing(lambda: socket.socket().close()), "the network"),
        ("pure", on_build(log_it), "logs a body (mine)"),
        ("pure", with_header("x-n", lambda wire: str(next(COUNTER))), "another result the second time"),
        ("well-formed", with_header("X-Upper", lambda wire: "1"), "X-Upper"),
        ("well-formed", with_header("x-line", lambda wire: "1\n2"), "x-line"),
        ("well-formed", with_header("x-umlaut", lambda wire: "Zoë"), "x-umlaut"),
        ("well-formed", on_build(lambda wire, r, t: replace(wire, body=b"{'a': 1}")), "is not JSON"),
        ("grammar", on_stream(twice), "after Finished"),
        ("grammar", on_stream(loose_delta), "outside of a call"),
        ("split-proof", on_stream(by_chunk), "cut at byte"),
        ("agreement", on_stream(louder), "text is 'OSLO IS CLOUDY.'"),
        ("agreement", on_parse(lambda r: r.model_copy(update={"finish_reason": "length"})), "finish reason"),
        ("agreement", on_parse(lambda r: r.model_copy(update={"usage": Usage(1, 2, 3)})), "usage"),
        ("loud end", on_stream(feed, silent=True), "end in silence"),
        ("capability", TakesDocuments(), "a Document part is sent"),
        ("map_error", on_error(class_by_text), "400 with HTML: is ServerError"),
        ("map_error", on_error(one_class), "401 with empty: is InvalidRequestError"),
        ("map_error", on_error(always_again), "401 with empty: is retryable"),
        ("map_error", on_error(never_again), "503 with empty: is not retryable"),
        ("map_error", on_error(no_wait), "retry_after is None"),
        ("map_error", on_error(no_id), "request id"),
        ("map_error", on_error(no_raw), "`raw` is lost"),
        ("extra merged last", on_build(without_extra), "x_kind is missing"),
        ("extra merged last", on_build(kind_over_account), "x_both is kind"),
        ("raw kept", on_parse(lambda r: r.model_copy(update={"raw": None})), "text: `raw` is None"),
        ("no secrets", with_header("x-key", lambda wire: SETTINGS["api_key"]), "stands in the headers"),
        ("no secrets", on_build(lambda wire, r, t: replace(wire, url=f"{wire.url}?k=a-key-0123456789")), "in the URL"),
        ("hostile bytes", on_stream(crashing), "KeyError"),
    ],
)
def test_a_bad_adapter_is_found_out(rule: str, adapter: OpenAIChat, what: str) -> None:
    check = conformance.Check(ProviderSpec("mine", adapter, auth="x:y"), SETTINGS, SAMPLES, "llama-4-scout")
    lines = list(conformance.RULES[rule](check))
    assert any(what in line for line in lines), lines


def test_all_violations_come_in_one_message() -> None:
    """One that breaks a later check's ground is no reason to keep silent about the rest."""
    said = report(on_stream(loose_delta))
    assert said.startswith("the adapter of 'mine' breaks its contract in ")
    assert "\n  grammar: stream: ToolCallDelta(index=0, arguments='{') outside of a call" in said
    assert "\n  agreement: the check could not go on: accumulate.py line " in said
    assert "\n  hostile bytes: stream_decoder: accumulate.py line " in said


def test_other_threads_are_left_alone_while_an_adapter_is_guarded() -> None:
    """A server of the test, say, goes on in its own thread."""
    stop, failures = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            try:
                time.monotonic()
                assert "PATH" in os.environ
                assert os.environ.get("PATH")
                socket.socket().close()
            except (RuntimeError, AssertionError) as error:
                failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        check = conformance.Check(ProviderSpec("mine", Base(), auth="x:y"), SETTINGS, SAMPLES, "m")
        assert list(conformance.pure(check)) == []
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert type(os.environ).__name__ == "_Environ"
    assert time.time.__name__ == "time"
    assert socket.socket.__name__ == "socket"


def test_samples_must_say_where_they_are_from() -> None:
    nameless = replace(SAMPLES[0], source=" ")
    guessed = replace(SAMPLES[0], name="guessed", evidence="guess")  # type: ignore[arg-type]
    lost = replace(SAMPLES[1], name="lost", same_as="nothing")
    said = report(Base(), (nameless, guessed, lost, *SAMPLES[1:]))
    assert "sourced: text: no source" in said
    assert "sourced: guessed: evidence is 'guess'" in said
    assert "sourced: lost: same_as='nothing'" in said
    assert "sourced: there must be at least one plain and one stream sample" in report(Base(), SAMPLES[:1])


def test_an_image_url_that_the_row_excludes_may_not_be_sent() -> None:
    class SendsUrls(Base):
        def build_request(self, request: ChatRequest, target: Target, *, stream: bool) -> WireRequest:
            row = target.row.evolve(features={})
            features = {**row.features, "image_url": "native"}
            return super().build_request(request, replace(target, row=row.evolve(features=features)), stream=stream)

    assert report(SendsUrls(), features={"image_url": "native"}) == ""
    said = report(SendsUrls(), features={"image_url": "emulate"})
    assert "capability: an image URL that was not loaded is sent" in said


def test_a_key_is_put_in_where_the_settings_have_none() -> None:
    """So that the rule about secrets has one to look for."""
    check = conformance.Check(ProviderSpec("mine", Base(), auth="x:y"), {"base_url": "http://host/v1"}, SAMPLES, "m")
    assert check.secrets == (conformance.SECRET,)


def test_every_rule_is_in_the_table_and_says_what_it_wants() -> None:
    assert len(conformance.RULES) == 13
    for rule in conformance.RULES.values():
        assert (rule.__doc__ or "").strip().endswith(".")
