"""The conformance checks of the adapter contract (see `llamaroute.spi`), for our own providers and everybody's.

    def test_conformance():
        check_adapter(
            SPEC,
            settings={"api_key": "k", "base_url": "https://host/v1"},
            samples=[
                Sample("text", body=b'{"choices": ...}', source="https://host/docs/chat", evidence="documented"),
                Sample("text-stream", body=b"data: ...", stream=True, same_as="text", source=..., evidence=...),
            ],
        )

Samples are answers of the host, whole bodies as they came over the wire. Every rule looks at all of them; what breaks a
rule is collected, and one `AssertionError` lists everything. `RULES`, at the end, is the table of the rules.

Nothing here depends on the clock or on chance: hostile inputs are drawn from a generator with a fixed seed.
"""

from __future__ import annotations

import json
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any, Literal

from pydantic import BaseModel, SecretStr

from .. import catalog
from ..dialects.accumulate import fold
from ..errors import (
    AuthenticationError,
    CapabilityError,
    InvalidRequestError,
    LlamarouteError,
    NotFoundError,
    OverloadedError,
    PayloadTooLargeError,
    PermissionDeniedError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitError,
    ServerError,
    TimeoutError,
)
from ..routing.resolve import make_account
from ..spi import DecoderEvent, ProviderSpec, Target, WireRequest, WireResponse
from ..types.capability import ModelRow
from ..types.events import (
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
    ToolCallStarted,
    UsageReported,
)
from ..types.messages import Message, assistant, system, tool_result, user
from ..types.parts import Document, Image, ToolCall, Video
from ..types.request import ChatRequest
from ..types.response import ChatResponse
from ..types.tools import Tool
from ._guards import guarded
from ._hostile import hostile_bodies

__all__ = ["RULES", "Sample", "check_adapter"]

ACCOUNT = "conformance"
MARKER = "conformance-prompt-5d41402abc4b2a76"
"""Stands in every prompt, so that a log line with the body in it is found."""
SECRET = "conformance-key-7c211433f02071597741e6ff5a8ea34a"
"""The `api_key` where the settings have none."""
MOST_CUTS = 600
"""Places at which a body is cut. Bodies up to this length are cut everywhere."""
SLOW = 5.0
"""CPU seconds that no single body may take. What is linear takes a thousandth of it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer of the host.

    Args:
        name: what messages call it.
        body: the whole body.
        status: an answer of 400 or more goes through `map_error` alone.
        headers: of the answer, with lower-case names.
        stream: whether it is the body of a stream.
        same_as: of a stream: the plain sample that it must agree with.
        request: the request it answers; left out, a plain question.
        source: where the shape is from: a URL or a citation.
        evidence: `recorded` (a real host sent it), `documented`, or `inferred`.
    """

    name: str
    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: bool = False
    same_as: str | None = None
    request: ChatRequest | None = None
    source: str = field(kw_only=True)
    evidence: Literal["recorded", "documented", "inferred"] = field(kw_only=True)


def check_adapter(
    spec: ProviderSpec,
    *,
    settings: Mapping[str, Any],
    samples: Sequence[Sample],
    model: str | None = None,
) -> None:
    """Check an adapter against every rule of the contract.

    Args:
        spec: the provider.
        settings: its table in the config file, without `kind`.
        samples: answers of the host.
        model: a canonical name, or any id of the provider. Default: the spec's own default model, else a made-up id.

    Raises:
        AssertionError: with one line for each violation: rule, sample, what.
    """
    check = Check(spec, settings, samples, model or spec.default_model or "model-of-the-check")
    violations: list[str] = []
    for name, rule in RULES.items():
        try:
            violations.extend(f"{name}: {what}" for what in rule(check))
        except Exception as error:  # the adapter broke something that the rule stands on
            violations.append(f"{name}: the check could not go on: {_crash(error)}")
    if violations:
        raise AssertionError(
            f"the adapter of {spec.name!r} breaks its contract in {len(violations)} places:\n  "
            + "\n  ".join(violations)
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a body came to: the events, and how it ended. Equal when both are."""

    events: tuple[DecoderEvent, ...]
    error: str | None = None
    foreign: bool = False
    """Whether the error is none of ours."""

    @property
    def finished(self) -> bool:
        """Whether the stream said that it is complete."""
        return any(isinstance(event, Finished) for event in self.events)


class Check:
    """What the rules look at: the adapter, a target, and the samples."""

    def __init__(self, spec: ProviderSpec, settings: Mapping[str, Any], samples: Sequence[Sample], model: str) -> None:
        table: dict[str, Any] = {"kind": spec.name, **settings}
        if not table.get("api_key"):
            table["api_key"] = SECRET
        self.spec = spec
        self.adapter = spec.adapter
        self.options = spec.settings.model_validate(table)
        rows = catalog.rows(spec.name) if spec.catalog is None else catalog.parse(spec.catalog)
        account = make_account(ACCOUNT, spec, self.options, rows, {})
        row = next((row for row in account.rows if model in (row.model, row.model_id)), ModelRow(model, model))
        self.target = account.target(row)
        self.samples = tuple(samples)
        self.plain = tuple(sample for sample in samples if not sample.stream and sample.status < 400)
        self.streams = tuple(sample for sample in samples if sample.stream and sample.status < 400)
        self.errors = tuple(sample for sample in samples if sample.status >= 400)

    @cached_property
    def request(self) -> ChatRequest:
        """The plain question."""
        return ChatRequest((user(MARKER),), max_tokens=64, temperature=0.5)

    @cached_property
    def long_request(self) -> ChatRequest:
        """One with most of what a request can have."""
        call = ToolCall("call_1", "weather", {"city": "Oslo"})
        picture = [Image("data:image/png;base64,iVBORw0KGgo=")] if self.row_has("images") else []
        for image in picture:
            from ..types.parts import ImageData

            image.load(ImageData.of("image/png", b"\x89PNG\r\n\x1a\n"))
        messages: tuple[Message, ...] = (
            system("Answer briefly."),
            user(MARKER, *picture),
            assistant("Let me see.", call),
            tool_result(call, "cloudy"),
            user("And tomorrow?"),
        )
        schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        tools = (Tool("weather", "The weather.", schema),) if self.row_has("tools") else ()
        return ChatRequest(messages, tools=tools, max_tokens=64, temperature=0.5, stop=("END",))

    def row_has(self, feature: Any) -> bool:
        """Whether the target has a feature of its own."""
        return self.target.row.features.get(feature, "native") == "native"

    def asked(self, sample: Sample) -> ChatRequest:
        """The request that a sample answers."""
        return sample.request or self.request

    def build(self, request: ChatRequest, *, stream: bool = False, target: Target | None = None) -> WireRequest:
        """`build_request`."""
        return self.adapter.build_request(request, target or self.target, stream=stream)

    def parse(self, sample: Sample, body: bytes | None = None) -> ChatResponse[Any]:
        """`parse_response` of a sample, or of another body in its place."""
        response = WireResponse(sample.status, sample.headers, sample.body if body is None else body)
        return self.adapter.parse_response(response, self.asked(sample), self.target)

    def decode(self, sample: Sample, pieces: Iterable[bytes]) -> Outcome:
        """What the stream decoder makes of a body in pieces."""
        decoder = self.adapter.stream_decoder(self.asked(sample), self.target)
        events: list[DecoderEvent] = []
        try:
            for piece in pieces:
                events.extend(decoder.feed(piece))
            events.extend(decoder.close())
        except ProviderError as error:
            return Outcome(tuple(events), f"{type(error).__name__}: {error}")
        except Exception as error:
            return Outcome(tuple(events), f"{type(error).__name__}: {error}", foreign=True)
        return Outcome(tuple(events))

    def whole(self, sample: Sample) -> Outcome:
        """What a stream sample means."""
        return self.decode(sample, (sample.body,))

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """All secret values of the settings."""
        return tuple(value for value in _secrets(self.options) if value)


# -- the rules: each yields what is wrong ------------------------------------------------------------------------------


def sourced(check: Check) -> Iterator[str]:
    """Every sample says where its shape is from, and `same_as` names a plain sample."""
    names = [sample.name for sample in check.samples]
    plain = {sample.name for sample in check.plain}
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{name}: two samples have this name"
    for sample in check.samples:
        if not sample.source.strip():
            yield f"{sample.name}: no source"
        if sample.evidence not in ("recorded", "documented", "inferred"):
            yield f"{sample.name}: evidence is {sample.evidence!r}"
        if sample.same_as is not None and (sample.same_as not in plain or not sample.stream):
            yield f"{sample.name}: same_as={sample.same_as!r}, which is no plain sample beside a stream"
    if not check.plain or not check.streams:
        yield "there must be at least one plain and one stream sample"


def pure(check: Check) -> Iterator[str]:
    """The same input gives the same output, without a look at clock, chance, environment, files or network."""
    actions: list[tuple[str, Callable[[], object]]] = []
    for stream in (False, True):
        for name, request in (("a question", check.request), ("a long request", check.long_request)):
            actions.append(
                (f"build_request of {name}", lambda r=request, s=stream: _frozen(check.build(r, stream=s)))  # type: ignore[misc]
            )
    for sample in check.plain:
        actions.append((f"{sample.name}: parse_response", lambda s=sample: check.parse(s)))  # type: ignore[misc]
    for sample in check.streams:
        actions.append((f"{sample.name}: stream_decoder", lambda s=sample: check.whole(s)))  # type: ignore[misc]
    for sample in check.errors:
        response = WireResponse(sample.status, sample.headers, sample.body)
        actions.append(
            (f"{sample.name}: map_error", lambda r=response: _told(check.adapter.map_error(r, check.target)))  # type: ignore[misc]
        )
    for what, action in actions:
        first = _result(action)  # the first time may import what it needs
        with guarded(_texts(check)) as seen:
            second = _result(action)
        yield from (f"{what} {touched}" for touched in seen)
        if first != second:
            yield f"{what} gives another result the second time: {_short(first)} != {_short(second)}"


def well_formed(check: Check) -> Iterator[str]:
    """Requests are whole: lower-case header names, values that HTTP can carry, a JSON body where it says so."""
    for stream in (False, True):
        for request in (check.request, check.long_request):
            wire = check.build(request, stream=stream)
            if ":" not in wire.url or not wire.method.isupper():
                yield f"build_request(stream={stream}): {wire.method} {wire.url!r}"
            for name, value in wire.headers.items():
                if name != name.lower() or not value.isascii() or not value.isprintable():
                    yield f"build_request(stream={stream}): the header {name!r} is {value!r}"
            if "json" in wire.headers.get("content-type", ""):
                try:
                    _json(wire)
                except ValueError as error:
                    yield f"build_request(stream={stream}): the body is not JSON: {error}"


def grammar(check: Check) -> Iterator[str]:
    """A stream's events keep their order: a call's start, its pieces, its end; usage before the one finish."""
    for sample in check.streams:
        open_calls: dict[int, str] = {}
        done: set[int] = set()
        ends = 0
        for event in check.whole(sample).events:
            if ends and not isinstance(event, UsageReported):
                yield f"{sample.name}: {event!r} after Finished"
            match event:
                case TextDelta(text="") | ReasoningDelta(text=""):
                    yield f"{sample.name}: an empty {type(event).__name__}"
                case ToolCallStarted(index=index, id=call_id, name=name):
                    if index in open_calls or not call_id or not name:
                        yield f"{sample.name}: {event!r} (index used before, or no id or name)"
                    open_calls[index] = ""
                case ToolCallDelta(index=index, arguments=arguments):
                    if index not in open_calls or index in done:
                        yield f"{sample.name}: {event!r} outside of a call"
                    else:
                        open_calls[index] += arguments
                case ToolCallDone(index=index, call=call):
                    if index not in open_calls or index in done:
                        yield f"{sample.name}: {event!r} ends no call"
                    elif call.raw_arguments != open_calls[index]:
                        yield f"{sample.name}: the pieces {open_calls[index]!r} became {call.raw_arguments!r}"
                    done.add(index)
                case Finished():
                    ends += 1
                    if done != open_calls.keys():
                        yield f"{sample.name}: calls {sorted(open_calls.keys() - done)} were not ended before Finished"
                case _:
                    pass
        if ends > 1:
            yield f"{sample.name}: Finished came {ends} times"


def split_proof(check: Check) -> Iterator[str]:
    """A body fed whole, byte by byte or cut anywhere gives the same events."""
    for sample in check.streams:
        body, whole = sample.body, check.whole(sample)
        if whole.foreign:
            yield f"{sample.name}: {whole.error}"
            continue
        bytewise = check.decode(sample, (body[i : i + 1] for i in range(len(body))))
        if bytewise != whole:
            yield f"{sample.name}: byte by byte: {_difference(whole, bytewise)}"
        with_gaps = check.decode(sample, (b"", body, b""))
        if with_gaps != whole:
            yield f"{sample.name}: with empty pieces: {_difference(whole, with_gaps)}"
        for cut in _cuts(len(body)):
            parts = check.decode(sample, (body[:cut], body[cut:]))
            if parts != whole:
                yield f"{sample.name}: cut at byte {cut}: {_difference(whole, parts)}"
                break


def agreement(check: Check) -> Iterator[str]:
    """Folding the events of a stream equals `parse_response` of the same answer."""
    plain = {sample.name: sample for sample in check.plain}
    for sample in check.streams:
        outcome = check.whole(sample)
        if outcome.error is None:
            folded = fold(outcome.events)
            if folded.usage.raw is not None and not _contains(folded.raw, folded.usage.raw):
                yield f"{sample.name}: `raw` of the stream does not hold the payload with the usage"
        if sample.same_as is None or sample.same_as not in plain:
            continue
        if outcome.error is not None:
            yield f"{sample.name}: {outcome.error}"
            continue
        try:
            other = check.parse(plain[sample.same_as])
        except ProviderError as error:
            yield f"{sample.same_as}: {type(error).__name__}: {error}"
            continue
        streamed, parsed = _meaning(folded), _meaning(other)
        for name, value in streamed.items():
            if value != parsed[name]:
                yield f"{sample.name}: {name} is {value!r} in the stream and {parsed[name]!r} in {sample.same_as}"


def loud_end(check: Check) -> Iterator[str]:
    """A body cut short is never taken for a whole one: a finish was said, or `close()` raises a `ProviderError`."""
    for sample in check.streams:
        whole = check.whole(sample)
        if whole.error is None and not whole.finished:
            yield f"{sample.name}: the whole body ends without Finished"
        for cut in (0, *_cuts(len(sample.body))):
            outcome = check.decode(sample, (sample.body[:cut],))
            if outcome.foreign:
                yield f"{sample.name}: the first {cut} bytes: {outcome.error}"
                break
            if outcome.error is None and not outcome.finished:
                yield f"{sample.name}: the first {cut} bytes end in silence"
                break


def capability(check: Check) -> Iterator[str]:
    """What the target's row excludes is refused with a `CapabilityError` before anything is sent."""
    needs: list[tuple[str, Document | Video | Image]] = [
        ("a Document part", Document(b"%PDF-1.7")),
        ("a Video part", Video("clip.mp4")),
    ]
    if not check.row_has("image_url"):
        needs.append(("an image URL that was not loaded", Image("https://example.com/cat.png")))
    needs.append(("an image file that was not loaded", Image("cat.png")))
    for what, part in needs:
        for stream in (False, True):
            try:
                check.build(ChatRequest((user("Look", part),)), stream=stream)
            except CapabilityError:
                continue
            except Exception as error:
                yield f"{what} raises {type(error).__name__}: {error}"
            else:
                yield f"{what} is sent (stream={stream})"


_SENSIBLE: Mapping[int, tuple[type[ProviderError], ...]] = {
    400: (InvalidRequestError,),
    401: (AuthenticationError,),
    402: (QuotaExhaustedError, PermissionDeniedError),
    403: (PermissionDeniedError, AuthenticationError),
    404: (NotFoundError,),
    408: (TimeoutError, ServerError),
    409: (InvalidRequestError, OverloadedError, ServerError),
    413: (PayloadTooLargeError,),
    422: (InvalidRequestError,),
    429: (RateLimitError, OverloadedError, QuotaExhaustedError),
    500: (ServerError,),
    502: (ServerError, OverloadedError),
    503: (ServerError, OverloadedError),
    504: (ServerError, OverloadedError, TimeoutError),
    529: (ServerError, OverloadedError),
}
_NEVER_AGAIN = (400, 401, 402, 403, 404, 413, 422)
_AGAIN = (429, 500, 502, 503, 504, 529)
LONGEST_MESSAGE = 4000
"""Characters of an error's text. The whole body stands in `raw`."""

ERROR_BODIES: Mapping[str, bytes] = {
    "empty": b"",
    "blank": b" \r\n",
    "HTML": b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
    "plain text": b"upstream connect error or disconnect/reset before headers",
    "{}": b"{}",
    "[]": b"[]",
    "null": b"null",
    "a number": b"17",
    "a JSON string": b'"something broke"',
    "odd types": b'{"error": {"message": {"a": [1]}, "code": [2], "type": {"b": null}}}',
    "odd lists": b'{"errors": [null, 3], "detail": [[], null, {"msg": 7}], "error": [], "message": 5}',
    "deep lists": b"[" * 50_000 + b"]" * 50_000,
    "deep objects": b'{"error":' * 50_000 + b"1" + b"}" * 50_000,
    "1 MB of text": b"x" * (1 << 20),
    "1 MB of JSON": b'{"error": {"message": "' + b"x" * (1 << 20) + b'"}}',
    "1 MB of HTML": b"<html><title>" + b"x" * (1 << 20),
    "not UTF-8": b'{"error": "\xff\xfe\x80"}',
    "a lone surrogate": b'{"error": {"message": "\\ud800"}}',
    "long numbers": b'{"error": {"message": ' + b"9" * 5000 + b', "code": ' + b"9" * 5000 + b"}}",
}


def map_error(check: Check) -> Iterator[str]:
    """Every error answer, whatever its body, becomes a `ProviderError` of a sensible class."""
    headers = {"x-request-id": "req-1", "retry-after": "7", "content-type": "application/json"}
    for status, classes in _SENSIBLE.items():
        for name, body in ERROR_BODIES.items():
            began = time.process_time()
            try:
                error = check.adapter.map_error(WireResponse(status, headers, body), check.target)
                text = f"{error}{error!r}"
            except Exception as wrong:
                yield f"{status} with {name}: raises {type(wrong).__name__}: {wrong}"
                continue
            if time.process_time() - began > SLOW:
                yield f"{status} with {name}: takes too long"
            if not isinstance(error, classes):
                yield f"{status} with {name}: is {type(error).__name__}"
            elif error.retryable and status in _NEVER_AGAIN:
                yield f"{status} with {name}: is retryable"
            elif not error.retryable and status in _AGAIN:
                yield f"{status} with {name}: is not retryable"
            said = (error.status, error.request_id, error.retry_after, error.provider, error.target, error.model)
            wanted = (status, "req-1", 7.0, check.target.provider, check.target.name, check.target.model)
            if said != wanted:
                yield f"{status} with {name}: status, request id, retry_after, provider, target, model are {said}"
            if len(text) > 2 * LONGEST_MESSAGE:
                yield f"{status} with {name}: the message has {len(text)} characters"
            if text != text.encode("utf-8", "replace").decode():
                yield f"{status} with {name}: the message cannot be printed"
    for given, seconds in (
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT", "date": "Mon, 23 Nov 2026 12:00:00 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT", "date": "Mon, 23 Nov 2026 12:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ):
        for status in (429, 503):
            after = check.adapter.map_error(WireResponse(status, given, b""), check.target).retry_after
            if after != seconds:
                yield f"{status} with {given}: retry_after is {after}"
    for sample in check.errors:
        error = check.adapter.map_error(WireResponse(sample.status, sample.headers, sample.body), check.target)
        if not isinstance(error, ProviderError) or error.status != sample.status or not str(error.args[0]):
            yield f"{sample.name}: is {error!r}"
        if sample.body and error.raw is None:
            yield f"{sample.name}: `raw` is lost"


def extra_last(check: Check) -> Iterator[str]:
    """`extra` has the last word: the kind's, over it the account's; tables are merged, everything else replaced."""
    base = _json(check.build(check.long_request, stream=True))
    kind: dict[str, Any] = {"x_kind": 1, "x_both": "kind", "x_table": {"a": 1, "b": {"c": 1, "d": 1}}, "x_none": None}
    account: dict[str, Any] = {"x_both": "account", "x_table": {"b": {"d": 2}, "e": [3]}}
    wanted: dict[str, Any] = {
        "x_kind": 1,
        "x_both": "account",
        "x_table": {"a": 1, "b": {"c": 1, "d": 2}, "e": [3]},
        "x_none": None,
    }
    for name, value in base.items():  # every value that the adapter itself wrote gives way
        if isinstance(value, dict):
            account[name] = {"x_more": True}
            wanted[name] = {**value, "x_more": True}
        else:
            account[name] = wanted[name] = ["replaced"] if isinstance(value, list) else "replaced"
    for name in ("model", "messages"):  # also where this host does not need them in the body
        account.setdefault(name, ["replaced"])
        wanted.setdefault(name, ["replaced"])
    given = {check.spec.name: kind, ACCOUNT: account, "another-account": {"x_other": 1}}
    before = json.dumps(given)
    wire = check.build(check.long_request.evolve(extra=given), stream=True)
    body = _json(wire)
    for name in sorted({*wanted, *body}):
        if body.get(name, "missing") != wanted.get(name, "missing"):
            yield f"{name} is {_short(body.get(name, 'missing'))} and should be {_short(wanted.get(name, 'missing'))}"
    if json.dumps(given) != before:
        yield "the caller's own table was changed"
    keys = [key for key, _ in json.loads(_bytes(wire), object_pairs_hook=lambda pairs: pairs)]
    if len(keys) != len(set(keys)):
        yield f"the body has a key twice: {keys}"


def raw_kept(check: Check) -> Iterator[str]:
    """`raw` of an answer is the host's whole payload."""
    for sample in check.plain:
        try:
            response = check.parse(sample)
        except ProviderError as error:
            if error.raw is None:
                yield f"{sample.name}: the error {error!r} has no `raw`"
            continue
        try:
            payload: Any = json.loads(sample.body)
        except ValueError:
            payload = None
        if response.raw is None or (payload is not None and response.raw != payload):
            yield f"{sample.name}: `raw` is {_short(response.raw)}"


def no_secrets(check: Check) -> Iterator[str]:
    """Nothing that an adapter makes holds a secret: requests are signed later, and errors are read by people."""
    for secret in check.secrets:
        for request in (check.request, check.long_request):
            for stream in (False, True):
                wire = check.build(request, stream=stream)
                places = {
                    "URL": wire.url,
                    "headers": repr(dict(wire.headers)),
                    "body": _bytes(wire).decode("utf-8", "replace"),
                    "repr": repr(wire),
                }
                for place in (place for place, text in places.items() if secret in text):
                    yield f"a secret of the settings stands in the {place} (stream={stream})"
        for what, text in (("target", repr(check.target)), ("settings", repr(check.options))):
            if secret in text:
                yield f"a secret of the settings stands in the repr of the {what}"


def hostile_bytes(check: Check) -> Iterator[str]:
    """Whatever bytes come, what comes out is an answer or a `ProviderError`, and soon."""

    def parsed(sample: Sample, body: bytes) -> None:
        _dumped(check.parse(sample, body))

    def decoded(sample: Sample, body: bytes) -> None:
        decoder = check.adapter.stream_decoder(check.asked(sample), check.target)
        events = [*decoder.feed(body), *decoder.close()]
        if not any(isinstance(event, Finished) for event in events):
            raise AssertionError("it ends in silence")
        _dumped(fold(events))

    def mapped(sample: Sample, body: bytes) -> None:
        error = check.adapter.map_error(WireResponse(500, {}, body), check.target)
        str(error).encode()

    stages: Mapping[str, tuple[Callable[[Sample, bytes], None], Sequence[Sample]]] = {
        "parse_response": (parsed, check.plain),
        "stream_decoder": (decoded, check.streams),
        "map_error": (mapped, check.samples),
    }
    for stage, (action, samples) in stages.items():
        seen: set[str] = set()  # one line for each place in the code that gives way, not for each input
        for sample in samples:
            for what, body in hostile_bodies(sample.body):
                began = time.process_time()
                try:
                    action(sample, body)
                except ProviderError as error:
                    wrong = None if stage != "map_error" else _crash(error)
                except Exception as error:
                    wrong = _crash(error)
                else:
                    wrong = None
                if time.process_time() - began > SLOW:
                    wrong = "takes too long"
                if wrong is not None and (place := wrong.partition(": ")[0]) not in seen:
                    seen.add(place)
                    yield f"{stage}: {wrong} ({sample.name}: {what})"


Rule = Callable[[Check], Iterable[str]]

RULES: Mapping[str, Rule] = {
    "sourced": sourced,
    "pure": pure,
    "well-formed": well_formed,
    "grammar": grammar,
    "split-proof": split_proof,
    "agreement": agreement,
    "loud end": loud_end,
    "capability": capability,
    "map_error": map_error,
    "extra merged last": extra_last,
    "raw kept": raw_kept,
    "no secrets": no_secrets,
    "hostile bytes": hostile_bytes,
}
"""Name -> check. Each yields one line per violation."""


# -- what the rules share ----------------------------------------------------------------------------------------------


def _bytes(wire: WireRequest) -> bytes:
    return wire.body if isinstance(wire.body, bytes) else b"".join(wire.body)


def _json(wire: WireRequest) -> Any:
    return json.loads(_bytes(wire))


def _frozen(wire: WireRequest) -> object:
    return wire.method, wire.url, dict(wire.headers), _bytes(wire), wire.warnings


def _told(error: ProviderError) -> object:
    return type(error), str(error), error.retryable, error.failover, error.retry_after, error.request_id, error.code


def _result(action: Callable[[], object]) -> object:
    try:
        return action()
    except LlamarouteError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _meaning(response: ChatResponse[Any]) -> dict[str, object]:
    usage = response.usage
    return {
        "text": response.text,
        "tool calls": [(call.name, call.arguments, call.error) for call in response.tool_calls],
        "finish reason": response.finish_reason,
        "usage": (usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.cached_tokens, usage.estimated),
        "logprobs": response.logprobs,
        "an id": bool(response.id),
    }


def _dumped(response: ChatResponse[Any]) -> None:
    """An answer must be one that can be written down."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        response.model_dump_json()


def _crash(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{PurePath(frames[-1].filename).name} line {frames[-1].lineno}, " if frames else ""
    return f"{place}{type(error).__name__}: {_short(error)}"


def _cuts(length: int) -> Iterable[int]:
    """Places between the bytes of a body: all of them, or evenly spread ones and all at its end."""
    if length <= MOST_CUTS:
        return range(1, length)
    spread = MOST_CUTS // 2
    return sorted({1 + i * (length - 1) // spread for i in range(spread)} | {*range(length - spread, length)})


def _difference(whole: Outcome, parts: Outcome) -> str:
    if whole.error != parts.error:
        return f"{parts.error} instead of {whole.error}"
    for place, (one, other) in enumerate(zip(whole.events, parts.events, strict=False)):
        if one != other:
            return f"event {place} is {_short(other)} instead of {_short(one)}"
    return f"{len(parts.events)} events instead of {len(whole.events)}"


def _short(value: object) -> str:
    text = str(value) if isinstance(value, str | Exception) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _contains(payload: Any, wanted: Any) -> bool:
    if payload == wanted:
        return True
    if isinstance(payload, Mapping):
        return any(_contains(value, wanted) for value in payload.values())
    return isinstance(payload, list) and any(_contains(value, wanted) for value in payload)


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _secrets(item)


def _texts(check: Check) -> tuple[str, ...]:
    """Pieces of bodies that no log line may hold."""
    openings = (sample.body[:40].decode("utf-8", "replace") for sample in check.samples if len(sample.body) > 40)
    return (MARKER, *openings)
