"""What botocore makes of Bedrock's answers, and what we make of them, in the same words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.eventstream import EventStream
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser

SERVICE = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"), "bedrock-runtime")
CONVERSE = SERVICE.operation_model("Converse")
STREAM = SERVICE.operation_model("ConverseStream")


def theirs_plain(body: bytes) -> dict[str, Any]:
    response = {"status_code": 200, "headers": {}, "body": body}
    parsed: dict[str, Any] = create_parser("rest-json").parse(response, CONVERSE.output_shape)
    return parsed


def meaning(content: list[dict[str, Any]], stop_reason: str, usage: Mapping[str, int]) -> dict[str, Any]:
    uses = [block["toolUse"] for block in content if "toolUse" in block]
    thoughts = [block.get("reasoningContent", {}).get("reasoningText", {}).get("text", "") for block in content]
    return {
        "text": "".join(block.get("text", "") for block in content),
        "reasoning": "".join(thoughts),
        "calls": [(use["toolUseId"], use["name"], use["input"]) for use in uses],
        "stop": stop_reason,
        "output tokens": usage["outputTokens"],
        "total tokens": usage["totalTokens"],
        "cached": usage.get("cacheReadInputTokens"),
    }


def ours(response: Any) -> dict[str, Any]:
    return {
        "text": response.text,
        "reasoning": response.reasoning,
        "calls": [(call.id, call.name, call.arguments) for call in response.tool_calls],
        "stop": response.raw_finish_reason,
        "output tokens": response.usage.output_tokens,
        "total tokens": response.usage.total_tokens,
        "cached": response.usage.cached_tokens,
    }


class Raw:
    """What botocore reads a stream from."""

    def __init__(self, body: bytes, size: int) -> None:
        self.pieces = [body[at : at + size] for at in range(0, len(body), size)]

    def stream(self) -> Any:
        return iter(self.pieces)

    def close(self) -> None:
        pass


def theirs_stream(body: bytes, size: int = 64) -> list[dict[str, Any]]:
    """All events, as a user of boto3 gets them."""
    parser = create_parser("rest-json")._event_stream_parser
    shape = STREAM.output_shape.members["stream"]
    return list(EventStream(Raw(body, size), shape, parser, "ConverseStream"))


def gathered(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Events put together by hand, as AWS's examples do."""
    blocks: dict[int, dict[str, Any]] = {}
    reason, usage = "", {}
    for given in events:
        if "contentBlockStart" in given:
            begun = given["contentBlockStart"]
            blocks[begun["contentBlockIndex"]] = {"toolUse": {**begun["start"]["toolUse"], "input": ""}}
        elif "contentBlockDelta" in given:
            delta = given["contentBlockDelta"]["delta"]
            block = blocks.setdefault(given["contentBlockDelta"]["contentBlockIndex"], {})
            if "text" in delta:
                block["text"] = block.get("text", "") + delta["text"]
            elif "toolUse" in delta:
                block["toolUse"]["input"] += delta["toolUse"]["input"]
            elif "text" in delta.get("reasoningContent", {}):
                thought = block.setdefault("reasoningContent", {}).setdefault("reasoningText", {"text": ""})
                thought["text"] += delta["reasoningContent"]["text"]
        elif "messageStop" in given:
            reason = given["messageStop"]["stopReason"]
        elif "metadata" in given:
            usage = given["metadata"]["usage"]
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
    return meaning([blocks[index] for index in sorted(blocks)], reason, usage)
