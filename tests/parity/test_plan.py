"""By what means each feature is made up: every combination of what a request needs and what a row has."""

from __future__ import annotations

from typing import Any

import pytest
from tests.pipeline.step import candidate

from llamaroute.errors import CapabilityError
from llamaroute.parity.plan import by, notices, plan, stream_notice
from llamaroute.types.capability import FEATURES, Feature, ImageRule, ModelRow, Support
from llamaroute.types.messages import user
from llamaroute.types.parts import Image
from llamaroute.types.plan import Step
from llamaroute.types.request import ChatRequest
from llamaroute.types.tools import JsonSchema, Tool

TOOL = Tool("f", "does f", {"type": "object", "properties": {}})
SCHEMA = JsonSchema("out", {"type": "object"})
PICTURE = Image(b"GIF89a")


def target(row: ModelRow | None = None, **features: Support):
    return candidate(row=row or ModelRow("m", "m", features={**dict.fromkeys(FEATURES, "native"), **features})).target


def planned(where: Any, *, stream: bool = False, **fields: Any) -> dict[Feature, str]:
    """Feature -> `native`, or the means."""
    messages = fields.pop("messages", (user("x"),))
    steps = plan(ChatRequest(messages, **fields), where, stream=stream)
    return {step.feature: step.by or step.how for step in steps}


@pytest.mark.parametrize(
    ("fields", "stream", "expected"),
    [
        ({}, False, {}),
        ({}, True, {"stream": "native"}),
        ({"tools": (TOOL,)}, False, {"tools": "native"}),
        ({"tools": (TOOL,)}, True, {"stream": "native", "tools": "native", "stream_tools": "native"}),
        ({"tools": (TOOL,), "tool_choice": "required"}, False, {"tools": "native", "forced_tools": "native"}),
        ({"tools": (TOOL,), "tool_choice": "f"}, False, {"tools": "native", "forced_tools": "native"}),
        ({"tools": (TOOL,), "tool_choice": "none"}, True, {"stream": "native"}),
        ({"output": SCHEMA}, False, {"json_schema": "native"}),
        ({"output": SCHEMA}, True, {"stream": "native", "json_schema": "native", "stream_json_schema": "native"}),
        ({"messages": (user("look", PICTURE),)}, False, {"images": "native"}),
    ],
)
def test_a_host_that_has_everything(fields: dict[str, Any], stream: bool, expected: dict[str, str]) -> None:
    assert planned(target(), stream=stream, **fields) == expected


NO_TOOLS: dict[str, Support] = {"tools": "emulate", "forced_tools": "emulate", "stream_tools": "emulate"}
NEITHER: dict[str, Support] = {**NO_TOOLS, "json_schema": "emulate", "stream_json_schema": "emulate"}
AUTO_ONLY: dict[str, Support] = {
    "forced_tools": "emulate", "stream_tools": "emulate", "json_schema": "emulate", "stream_json_schema": "emulate",
}  # fmt: skip


@pytest.mark.parametrize(
    ("features", "fields", "stream", "expected"),
    [
        # in this process: a schema stands in for tools
        (NO_TOOLS, {"tools": (TOOL,)}, False, {"tools": "schema"}),
        (NO_TOOLS, {"tools": (TOOL,), "tool_choice": "f"}, False, {"tools": "schema", "forced_tools": "schema"}),
        (NO_TOOLS, {"tools": (TOOL,)}, True, {"stream": "native", "tools": "schema"}),
        (
            {**NO_TOOLS, "stream_json_schema": "emulate"},
            {"tools": (TOOL,)},
            True,
            {"stream": "native", "tools": "schema", "stream_tools": "plain-call"},
        ),
        # a schema allows one call in an answer
        (NO_TOOLS, {"tools": (TOOL,), "parallel_tool_calls": True}, False, {"tools": "prompt"}),
        (NO_TOOLS, {"tools": (TOOL,), "parallel_tool_calls": False}, False, {"tools": "schema"}),
        (
            NO_TOOLS,
            {"tools": (TOOL,), "parallel_tool_calls": True, "tool_choice": "required"},
            False,
            {"tools": "schema", "forced_tools": "schema"},
        ),
        # tools and JSON in one request: a schema would leave no room for calls
        (NO_TOOLS, {"tools": (TOOL,), "output": SCHEMA}, False, {"tools": "prompt", "json_schema": "prompt"}),
        # Azure: neither tools nor schemas
        (NEITHER, {"tools": (TOOL,)}, False, {"tools": "prompt"}),
        (NEITHER, {"tools": (TOOL,)}, True, {"stream": "native", "tools": "prompt"}),
        (NEITHER, {"tools": (TOOL,), "tool_choice": "f"}, False, {"tools": "prompt", "forced_tools": "instruction"}),
        (
            NEITHER,
            {"tools": (TOOL,), "tool_choice": "required"},
            True,
            {"stream": "native", "tools": "prompt", "forced_tools": "instruction", "stream_tools": "plain-call"},
        ),
        (NEITHER, {"output": SCHEMA}, False, {"json_schema": "prompt"}),
        (NEITHER, {"output": SCHEMA}, True, {"stream": "native", "json_schema": "prompt"}),
        # Bedrock: tools, but not in streams and only as the model likes; no schemas
        (AUTO_ONLY, {"tools": (TOOL,)}, False, {"tools": "native"}),
        (AUTO_ONLY, {"tools": (TOOL,)}, True, {"stream": "native", "tools": "native", "stream_tools": "plain-call"}),
        (
            AUTO_ONLY,
            {"tools": (TOOL,), "tool_choice": "required"},
            False,
            {"tools": "native", "forced_tools": "instruction"},
        ),
        (AUTO_ONLY, {"output": SCHEMA}, False, {"json_schema": "prompt"}),
        (AUTO_ONLY, {"output": SCHEMA, "tools": (TOOL,)}, False, {"tools": "native", "json_schema": "prompt"}),
        # tools that can be forced, and no schemas: the answer is a call
        ({"json_schema": "emulate"}, {"output": SCHEMA}, False, {"json_schema": "tool"}),
        ({"json_schema": "emulate"}, {"output": SCHEMA}, True, {"stream": "native", "json_schema": "prompt"}),
        # streams
        ({"stream": "emulate"}, {}, True, {"stream": "plain-call"}),
        (
            {"stream_json_schema": "emulate"},
            {"output": SCHEMA},
            True,
            {"stream": "native", "json_schema": "native", "stream_json_schema": "plain-call"},
        ),
    ],
)
def test_what_is_made_up_and_how(
    features: dict[str, Support], fields: dict[str, Any], stream: bool, expected: dict[str, str]
) -> None:
    assert planned(target(**features), stream=stream, **fields) == expected


@pytest.mark.parametrize(
    ("feature", "fields", "stream"),
    [
        ("stream", {}, True),
        ("tools", {"tools": (TOOL,)}, False),
        ("stream_tools", {"tools": (TOOL,)}, True),
        ("forced_tools", {"tools": (TOOL,), "tool_choice": "f"}, False),
        ("json_schema", {"output": SCHEMA}, False),
        ("stream_json_schema", {"output": SCHEMA}, True),
        ("images", {"messages": (user(PICTURE),)}, False),
    ],
)
def test_what_is_refused_names_target_and_feature(feature: Feature, fields: dict[str, Any], stream: bool) -> None:
    where = target(**{feature: "refuse"})
    with pytest.raises(CapabilityError, match="acme:llama-4-scout cannot serve") as caught:
        planned(where, stream=stream, **fields)
    assert list(caught.value.missing) == ["acme:llama-4-scout"]


def test_a_model_that_the_account_cannot_have() -> None:
    row = ModelRow("m", "m", unavailable="served in us-east5 only; set region")
    with pytest.raises(CapabilityError, match="acme:llama-4-scout: served in us-east5 only; set region"):
        planned(target(row))


def test_more_images_than_the_host_takes() -> None:
    one = ModelRow("m", "m", image=ImageRule(max_count=1))
    assert planned(target(one), messages=(user(PICTURE, Image(b"GIF89a")),)) == {"images": "sheet"}
    assert planned(target(one), messages=(user(PICTURE),)) == {"images": "native"}
    with pytest.raises(CapabilityError, match="cannot serve images"):
        planned(target(ModelRow("m", "m", image=ImageRule(max_count=0))), messages=(user(PICTURE),))


@pytest.mark.parametrize(
    ("features", "fields", "codes"),
    [
        ({}, {"tools": (TOOL,), "output": SCHEMA}, []),
        (NO_TOOLS, {"tools": (TOOL,)}, ["tools_emulated"]),
        (NEITHER, {"tools": (TOOL,), "tool_choice": "f"}, ["tools_emulated", "forced_tools_emulated"]),
        (NEITHER, {"output": SCHEMA}, ["output_emulated"]),
        ({"json_schema": "emulate"}, {"output": SCHEMA}, ["output_emulated"]),
        (AUTO_ONLY, {"tools": (TOOL,), "tool_choice": "required"}, ["forced_tools_emulated"]),
    ],
)
def test_the_caller_is_told(features: dict[str, Support], fields: dict[str, Any], codes: list[str]) -> None:
    where = target(**features)
    steps = plan(ChatRequest((user("x"),), **fields), where, stream=False)
    told = notices(steps, where)
    assert [notice.code for notice in told] == codes
    assert all(notice.message.startswith(where.name) and notice.feature for notice in told)


def test_a_stream_that_is_made_up_is_told_once_with_the_reason() -> None:
    where = target(**AUTO_ONLY)
    steps = plan(ChatRequest((user("x"),), tools=(TOOL,)), where, stream=True)
    notice = stream_notice(steps, where)
    assert notice is not None
    assert "tools in a stream" in notice.message
    assert stream_notice(plan(ChatRequest((user("x"),)), where, stream=True), where) is None


def test_by() -> None:
    steps = (Step("tools", "native"), Step("json_schema", "emulate", "prompt"))
    assert (by(steps, "tools"), by(steps, "json_schema"), by(steps, "images")) == ("", "prompt", None)
