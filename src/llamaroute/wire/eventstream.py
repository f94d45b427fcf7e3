"""AWS event-stream framing (`application/vnd.amazon.eventstream`): bytes to messages. Knows nothing of chat.

    message  total length u32 | headers length u32 | CRC-32 of these 8 bytes | headers | payload | CRC-32 of all before
    header   name length u8 | name | value type u8 | value

All numbers are big-endian. Both checksums are checked, in this order, before anything behind them is believed: a
wrong length is found after 12 bytes and never waited for.

https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html
https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct, error
from types import MappingProxyType
from typing import TypeAlias
from uuid import UUID
from zlib import crc32

from ..errors import ProtocolError
from ..types.dataclass import dataclass

__all__ = ["MAX_HEADERS", "MAX_PAYLOAD", "EventStreamDecoder", "HeaderValue", "Message", "Timestamp", "encode"]

MAX_HEADERS = 128 << 10
"""Bytes of headers in one message, as botocore has it."""
MAX_PAYLOAD = 24 << 20
"""Bytes of payload in one message, as botocore has it (the specification said 16 MiB before)."""
_PRELUDE = 12
_OVERHEAD = 16
_KNOWN_HEADERS = 64
"""How many different header blocks a decoder remembers. A chat stream has about ten, each hundreds of times."""

_LENGTHS = Struct(">III")
_U16 = Struct(">H")
_U32 = Struct(">I")
_INTEGERS = {2: Struct(">b"), 3: Struct(">h"), 4: Struct(">i"), 5: Struct(">q")}
_I64 = _INTEGERS[5]


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A moment in milliseconds since the epoch. Not a `datetime`, which holds fewer years than the format."""

    milliseconds: int


HeaderValue: TypeAlias = bool | int | bytes | str | Timestamp | UUID


@dataclass(slots=True)
class Message:
    """One message. Header names that begin with a colon are the protocol's own (`:event-type`, `:message-type`).

    Treat it as read-only; it is not frozen because that doubles the cost of making one.
    """

    headers: Mapping[str, HeaderValue]
    payload: bytes


class EventStreamDecoder:
    """Cuts one body into messages, however its bytes arrive; the time is linear also when they come one by one.

    After an error every later call raises the same error: where the next message begins is not known any more.
    """

    __slots__ = ("_at", "_broken", "_buffer", "_known", "_need", "_tail")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._tail = bytearray()
        """What came after `_buffer`; joined with it only once `_need` bytes are there."""
        self._need = _PRELUDE
        """Bytes from `_at` on without which nothing can be done."""
        self._known: dict[bytes, Mapping[str, HeaderValue]] = {}
        self._broken: ProtocolError | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Message]:
        """Take more bytes and iterate over the messages that are complete now.

        The bytes are taken at once, also when nobody iterates. Messages before a bad frame come out before it raises.

        Raises:
            ProtocolError: (while iterating) a checksum does not fit, a length is over the limits, or the headers are
                not what the format says.
        """
        if self._at == len(self._buffer) and not self._tail:
            self._buffer, self._at = bytes(data), 0
        else:
            self._tail += data
        return self._messages()

    def close(self) -> None:
        """End of the body.

        Raises:
            ProtocolError: it ends inside a message, or was broken before.
        """
        if self._broken is not None:
            raise self._broken
        left = len(self._buffer) - self._at + len(self._tail)
        if left:
            of = f" of {self._need}" if self._need > _PRELUDE else ""
            raise self._fail(f"the body ends inside a message: {left}{of} bytes of it came")

    def _messages(self) -> Iterator[Message]:
        while True:
            if self._broken is not None:
                raise self._broken
            have = len(self._buffer) - self._at
            if have < self._need:
                if have + len(self._tail) < self._need:
                    # Do not hold on to the messages already handed out.
                    self._buffer, self._at = self._buffer[self._at :], 0
                    return
                self._buffer, self._at = self._buffer[self._at :] + self._tail, 0
                self._tail = bytearray()
            buffer, begin = self._buffer, self._at
            total, headers_length, checksum = _LENGTHS.unpack_from(buffer, begin)
            if self._need == _PRELUDE:
                self._check_prelude(total, headers_length, checksum)
                if len(buffer) - begin < total:
                    self._need = total
                    continue
            end = begin + total - 4
            if crc32(buffer[begin:end]) != _U32.unpack_from(buffer, end)[0]:
                raise self._bad_message(begin, end)
            headers_end = begin + _PRELUDE + headers_length
            block = buffer[begin + _PRELUDE : headers_end]
            headers = self._known.get(block)
            if headers is None:
                headers = self._headers(block)
            self._at = end + 4
            self._need = _PRELUDE
            yield Message(headers, buffer[headers_end:end])

    def _check_prelude(self, total: int, headers_length: int, checksum: int) -> None:
        actual = crc32(self._buffer[self._at : self._at + 8])
        if actual != checksum:
            raise self._fail(f"the prelude's checksum is {checksum:#010x}, its bytes give {actual:#010x}")
        payload_length = total - headers_length - _OVERHEAD
        if payload_length < 0:
            raise self._fail(f"a message of {total} bytes cannot hold headers of {headers_length}")
        if headers_length > MAX_HEADERS:
            raise self._fail(f"headers of {headers_length} bytes; the limit is {MAX_HEADERS}")
        if payload_length > MAX_PAYLOAD:
            raise self._fail(f"a payload of {payload_length} bytes; the limit is {MAX_PAYLOAD}")

    def _bad_message(self, begin: int, end: int) -> ProtocolError:
        actual = crc32(self._buffer[begin:end])
        (checksum,) = _U32.unpack_from(self._buffer, end)
        return self._fail(f"the message's checksum is {checksum:#010x}, its bytes give {actual:#010x}")

    def _headers(self, block: bytes) -> Mapping[str, HeaderValue]:
        try:
            headers = MappingProxyType(_read_headers(block))
        except _BadHeaders as bad:
            raise self._fail(str(bad)) from None
        if len(self._known) < _KNOWN_HEADERS:
            self._known[block] = headers
        return headers

    def _fail(self, why: str) -> ProtocolError:
        self._broken = ProtocolError(f"broken event stream: {why}")
        return self._broken


class _BadHeaders(ValueError):
    """The header block is not what the format says."""


def _read_headers(block: bytes) -> dict[str, HeaderValue]:
    headers: dict[str, HeaderValue] = {}
    at, end = 0, len(block)
    while at < end:
        name_end = at + 1 + block[at]
        if name_end == at + 1:
            raise _BadHeaders("a header without a name")
        if name_end >= end:
            raise _BadHeaders("a header is cut off")
        name = _text(block[at + 1 : name_end], "a header's name")
        value, at = _read_value(block, name_end + 1, block[name_end], name)
        if name in headers:
            raise _BadHeaders(f"header {name!r} is there twice")
        headers[name] = value
    return headers


def _read_value(block: bytes, at: int, kind: int, name: str) -> tuple[HeaderValue, int]:
    """The value at `at`, and where it ends."""
    try:
        match kind:
            case 0 | 1:
                return kind == 0, at
            case 2 | 3 | 4 | 5:
                integer = _INTEGERS[kind]
                return integer.unpack_from(block, at)[0], at + integer.size
            case 6 | 7:
                begin = at + 2
                end = begin + _U16.unpack_from(block, at)[0]
                data = block[begin:end]
                if end <= len(block):
                    return data if kind == 6 else _text(data, f"header {name!r}"), end
            case 8:
                return Timestamp(_I64.unpack_from(block, at)[0]), at + 8
            case 9:
                if at + 16 <= len(block):
                    return UUID(bytes=block[at : at + 16]), at + 16
            case _:
                raise _BadHeaders(f"header {name!r} has a value of unknown type {kind}")
    except error:
        pass  # struct says that bytes are missing
    raise _BadHeaders(f"the value of header {name!r} is cut off")


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _BadHeaders(f"{what} is not UTF-8") from None


def encode(headers: Mapping[str, HeaderValue], payload: bytes = b"") -> bytes:
    """One message as bytes; the inverse of the decoder. Integers take the shortest of the four types that holds them.

    Raises:
        ValueError: a name, a value or the whole is longer than the format or its limits allow.
    """
    block = b"".join(_write_header(name, value) for name, value in headers.items())
    if len(block) > MAX_HEADERS or len(payload) > MAX_PAYLOAD:
        raise ValueError(f"headers of {len(block)} and a payload of {len(payload)} bytes are over the limits")
    prelude = _U32.pack(_OVERHEAD + len(block) + len(payload)) + _U32.pack(len(block))
    message = prelude + _U32.pack(crc32(prelude)) + block + payload
    return message + _U32.pack(crc32(message))


def _write_header(name: str, value: HeaderValue) -> bytes:
    encoded = name.encode()
    if not 0 < len(encoded) < 256:
        raise ValueError(f"a header's name has 1 to 255 bytes, {name!r} has {len(encoded)}")
    return bytes((len(encoded),)) + encoded + _write_value(value)


def _write_value(value: HeaderValue) -> bytes:
    match value:
        case bool():
            return b"\x00" if value else b"\x01"
        case int():
            for kind, integer in _INTEGERS.items():
                if -(1 << (8 * integer.size - 1)) <= value < 1 << (8 * integer.size - 1):
                    return bytes((kind,)) + integer.pack(value)
            raise ValueError(f"{value} does not fit into 64 bits")
        case bytes() | str():
            data = value.encode() if isinstance(value, str) else value
            if len(data) > 0xFFFF:
                raise ValueError(f"a header's value has at most 65535 bytes, this one {len(data)}")
            return (b"\x07" if isinstance(value, str) else b"\x06") + _U16.pack(len(data)) + data
        case Timestamp():
            return b"\x08" + _I64.pack(value.milliseconds)
        case UUID():
            return b"\x09" + value.bytes
