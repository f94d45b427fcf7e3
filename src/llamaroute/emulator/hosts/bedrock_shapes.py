"""The shape of a Converse request: members, unions, lengths, ranges and patterns, checked the way AWS's servers do.

Members and constraints are those of the service's public model (`bedrock-runtime`, 2023-09-30):
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html. Constraint texts are the ones that
all AWS services share ("N validation errors detected: Value ... failed to satisfy constraint: ...").
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["REQUEST", "BadRequestError", "check_shape", "without_nulls"]


class BadRequestError(Exception):
    """The request is refused: the error's type, its text, and its HTTP status."""

    def __init__(self, message: str, kind: str = "ValidationException", status: int = 400) -> None:
        super().__init__(message)
        self.message, self.kind, self.status = message, kind, status


class Shape:
    """Base of all shapes: any JSON value is right."""

    def broken(self, value: Any, at: str) -> Iterator[str]:
        """The constraints that the value breaks; a value of the wrong type raises at once."""
        yield from ()


@dataclass(frozen=True)
class Text(Shape):
    """A string."""

    least: int = 0
    most: int | None = None
    pattern: str | None = None
    words: Sequence[str] = ()

    def broken(self, value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, str):
            raise _wrong_type(value, "String")
        yield from _length(value, len(value), at, self.least, self.most)
        if self.words and value not in self.words:
            yield _constraint(value, at, f"satisfy enum value set: [{', '.join(self.words)}]")
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            yield _constraint(value, at, f"satisfy regular expression pattern: {self.pattern}")


@dataclass(frozen=True)
class Blob(Shape):
    """Bytes in base64."""

    least: int = 1

    def broken(self, value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, str):
            raise _wrong_type(value, "Blob")
        try:
            size = len(base64.b64decode(value, validate=True))
        except (binascii.Error, ValueError):
            # The text is invented.
            raise BadRequestError("Blob value is not valid base64", "SerializationException") from None
        yield from _length("java.nio.HeapByteBuffer", size, at, self.least, None)


@dataclass(frozen=True)
class Number(Shape):
    """An integer, or with `whole` False any number."""

    least: float | None = None
    most: float | None = None
    whole: bool = False

    def broken(self, value: Any, at: str) -> Iterator[str]:
        good = isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)
        if not good:
            raise _wrong_type(value, "Integer" if self.whole else "Float")
        if self.least is not None and value < self.least:
            yield _constraint(value, at, f"have value greater than or equal to {self.least}")
        if self.most is not None and value > self.most:
            yield _constraint(value, at, f"have value less than or equal to {self.most}")


@dataclass(frozen=True)
class Bool(Shape):
    """True or false."""

    def broken(self, value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, bool):
            raise _wrong_type(value, "Boolean")
        yield from ()


@dataclass(frozen=True)
class Items(Shape):
    """A list."""

    item: Shape
    least: int = 0
    most: int | None = None

    def broken(self, value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, list):
            raise _wrong_type(value, "List")
        yield from _length(value, len(value), at, self.least, self.most)
        for index, item in enumerate(value):
            yield from self.item.broken(item, f"{at}.{index + 1}.member")


@dataclass(frozen=True)
class Table(Shape):
    """A map with free keys."""

    key: Text
    value: Shape
    least: int = 0
    most: int | None = None

    def broken(self, value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, Mapping):
            raise _wrong_type(value, "Map")
        yield from _length(value, len(value), at, self.least, self.most)
        for key, inner in value.items():
            yield from self.key.broken(key, at)
            yield from self.value.broken(inner, f"{at}.{key}.member")


@dataclass(frozen=True)
class Struct(Shape):
    """An object with known members; of a union exactly one member is set."""

    members: Mapping[str, Shape]
    required: Sequence[str] = ()
    union: bool = False

    def broken(self, value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, Mapping):
            raise _wrong_type(value, "Struct")
        given = {name: part for name, part in value.items() if part is not None}
        for name in sorted(set(given) - set(self.members)):
            yield _Surplus(f"{at}.{name}".lstrip("."))
        if self.union and len(given) != 1:
            # The text is invented; servers built with Smithy say something like it.
            text = f"Unions must have exactly one member set: {at or 'input'} has {len(given)}"
            raise BadRequestError(text, "SerializationException")
        for name in self.required:
            if name not in given:
                yield _constraint("null", f"{at}.{name}".lstrip("."), "not be null").replace("'null'", "null", 1)
        for name, part in given.items():
            if name in self.members:
                yield from self.members[name].broken(part, f"{at}.{name}".lstrip("."))


class _Surplus(str):
    """The path of a member that the service's model does not have."""

    __slots__ = ()


_TYPES = {str: "STRING_VALUE", bool: "TRUE_VALUE", int: "NUMBER_VALUE", float: "DECIMAL_VALUE"}


def _wrong_type(value: Any, wanted: str) -> BadRequestError:
    if isinstance(value, Mapping):
        text = "Start of structure or map found where not expected."
    elif isinstance(value, list):
        text = "Start of list found where not expected"
    else:
        text = f"{_TYPES.get(type(value), 'NULL_VALUE')} cannot be converted to {wanted}"
    return BadRequestError(text, "SerializationException")


def _constraint(value: Any, at: str, must: str) -> str:
    return f"Value '{value}' at '{at}' failed to satisfy constraint: Member must {must}"


def _length(value: Any, length: int, at: str, least: int, most: int | None) -> Iterator[str]:
    if length < least:
        yield _constraint(value, at, f"have length greater than or equal to {least}")
    if most is not None and length > most:
        yield _constraint(value, at, f"have length less than or equal to {most}")


def check_shape(body: Any, *, refuse_unknown: bool) -> None:
    """Raise BadRequestError where the body does not fit the service's model."""
    found = list(REQUEST.broken(body, ""))
    surplus = [part for part in found if isinstance(part, _Surplus)]
    if surplus and refuse_unknown:
        text = f"Malformed input request: extraneous key [{surplus[0]}] is not permitted, please reformat your input"
        raise BadRequestError(f"{text} and try again.")
    broken = [part for part in found if not isinstance(part, _Surplus)]
    if broken:
        many = "s" if len(broken) > 1 else ""
        raise BadRequestError(f"{len(broken)} validation error{many} detected: {'; '.join(broken)}")


_FREE = ("input", "json", "additionalModelRequestFields")


def without_nulls(value: Any) -> Any:
    """The body without members that are null: they count as not given, except in free-form documents."""
    if isinstance(value, Mapping):
        kept = {name: part for name, part in value.items() if part is not None}
        return {name: part if name in _FREE else without_nulls(part) for name, part in kept.items()}
    return [without_nulls(part) for part in value] if isinstance(value, list) else value


_ANY = Shape()
_STRING = Text()
_FILLED = Text(1)
_NAME = Text(1, 64, "[a-zA-Z0-9_-]+")
_CALL_ID = Text(1, 64, "[a-zA-Z0-9_.:-]+")
_S3 = Struct(
    {
        "uri": Text(1, 1024, r"s3://[a-z0-9][\.\-a-z0-9]{1,61}[a-z0-9](/.*)?"),
        "bucketOwner": Text(pattern="[0-9]{12}"),
    },
    ["uri"],
)
_SOURCE = Struct({"bytes": Blob(), "s3Location": _S3}, union=True)
_IMAGE = Struct({"format": Text(words=("png", "jpeg", "gif", "webp")), "source": _SOURCE}, ["format", "source"])
_CITATIONS = Struct({"enabled": Bool()}, ["enabled"])
_DOCUMENT = Struct(
    {
        "format": Text(words=("pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md")),
        "name": Text(1, 200),
        "source": Struct(
            {
                "bytes": Blob(),
                "s3Location": _S3,
                "text": _STRING,
                "content": Items(Struct({"text": _STRING}, union=True)),
            },
            union=True,
        ),
        "context": _STRING,
        "citations": _CITATIONS,
    },
    ["name", "source"],
)
_MEDIA = Struct({"format": _STRING, "source": _SOURCE}, ["format", "source"])
_CACHE_POINT = Struct({"type": Text(words=("default",)), "ttl": Text(words=("5m", "1h"))}, ["type"])
_TOOL_USE = Struct(
    {"toolUseId": _CALL_ID, "name": _NAME, "input": _ANY, "type": Text(words=("server_tool_use",))},
    ["toolUseId", "name", "input"],
)
_TOOL_RESULT = Struct(
    {
        "toolUseId": _CALL_ID,
        "content": Items(
            Struct(
                {
                    "json": _ANY,
                    "text": _STRING,
                    "image": _IMAGE,
                    "document": _DOCUMENT,
                    "video": _MEDIA,
                    "searchResult": _ANY,
                },
                union=True,
            )
        ),
        "status": Text(words=("success", "error")),
        "type": _STRING,
    },
    ["toolUseId", "content"],
)
_REASONING = Struct(
    {"reasoningText": Struct({"text": _STRING, "signature": _STRING}, ["text"]), "redactedContent": Blob(0)},
    union=True,
)
_BLOCK = Struct(
    {
        "text": _STRING,
        "image": _IMAGE,
        "document": _DOCUMENT,
        "video": _MEDIA,
        "audio": _MEDIA,
        "toolUse": _TOOL_USE,
        "toolResult": _TOOL_RESULT,
        "guardContent": _ANY,
        "cachePoint": _CACHE_POINT,
        "reasoningContent": _REASONING,
        "citationsContent": _ANY,
        "searchResult": _ANY,
        "toolAddition": _ANY,
        "toolRemoval": _ANY,
    },
    union=True,
)
_MESSAGE = Struct({"role": Text(words=("user", "assistant", "system")), "content": Items(_BLOCK)}, ["role", "content"])
_TOOL = Struct(
    {
        "toolSpec": Struct(
            {
                "name": _NAME,
                "description": _FILLED,
                "inputSchema": Struct({"json": _ANY}, union=True),
                "strict": Bool(),
            },
            ["name", "inputSchema"],
        ),
        "systemTool": Struct({"name": _NAME}, ["name"]),
        "cachePoint": _CACHE_POINT,
    },
    union=True,
)
_META = r"[a-zA-Z0-9\s:_@$#=/+,-.]*"
REQUEST = Struct(
    {
        "messages": Items(_MESSAGE),
        "system": Items(Struct({"text": _FILLED, "guardContent": _ANY, "cachePoint": _CACHE_POINT}, union=True)),
        "inferenceConfig": Struct(
            {
                "maxTokens": Number(1, whole=True),
                "temperature": Number(0, 1),
                "topP": Number(0, 1),
                "stopSequences": Items(_FILLED, 0, 2500),
            }
        ),
        "toolConfig": Struct(
            {
                "tools": Items(_TOOL),
                "toolChoice": Struct(
                    {"auto": Struct({}), "any": Struct({}), "tool": Struct({"name": _NAME}, ["name"])}, union=True
                ),
            },
            ["tools"],
        ),
        "guardrailConfig": Struct(
            {
                "guardrailIdentifier": Text(
                    0, 2048, r"(|([a-z0-9]+)|(arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}:[0-9]{12}:guardrail/[a-z0-9]+))"
                ),
                "guardrailVersion": Text(pattern=r"(|([1-9][0-9]{0,7})|(DRAFT))"),
                "trace": Text(words=("enabled", "disabled", "enabled_full")),
                "streamProcessingMode": Text(words=("sync", "async")),
            }
        ),
        "additionalModelRequestFields": _ANY,
        "promptVariables": Table(_STRING, Struct({"text": _STRING}, union=True)),
        "additionalModelResponseFieldPaths": Items(Text(1, 256), 0, 10),
        "requestMetadata": Table(Text(1, 256, _META), Text(0, 256, _META), 1, 16),
        "performanceConfig": Struct({"latency": Text(words=("standard", "optimized"))}),
        "serviceTier": Struct({"type": Text(words=("priority", "default", "flex", "reserved"))}, ["type"]),
        "outputConfig": Struct(
            {
                "textFormat": Struct(
                    {
                        "type": Text(words=("json_schema",)),
                        "structure": Struct(
                            {
                                "jsonSchema": Struct(
                                    {"schema": _STRING, "name": _STRING, "description": _STRING}, ["schema"]
                                )
                            },
                            union=True,
                        ),
                    },
                    ["type", "structure"],
                ),
                "effort": Text(0, 16),
            }
        ),
    }
)
