"""Bedrock's recorded answers: what comes out of the whole client is what botocore reads in the same bytes."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.providers.bedrock import SPEC
from llamaroute.types.messages import assistant, tool_result, user
from llamaroute.types.parts import ToolCall
from llamaroute.types.tools import Tool
from tests.oracle.bedrock_readers import gathered, meaning, ours, theirs_plain, theirs_stream
from tests.providers.wires import ask, json_of, target_of

from .player import PIECES, Case, Playing, cases

FOLDER = os.environ.get("LLAMAROUTE_CASES")
CASES = [case for case in cases(Path(FOLDER)) if case.folder == "bedrock"] if FOLDER else []

pytestmark = pytest.mark.skipif(not FOLDER, reason="recorded cases: not run (LLAMAROUTE_CASES is not set)")


def answered(case: Case, piece: int) -> Any:
    with lr.Client({"providers": {"p": case.table}}, transport=Playing(case, piece), env={}) as client:
        if not case.streamed:
            return client.chat("x", retry=1)
        with client.stream("x", retry=1) as stream:
            for _ in stream:
                pass
        return stream.response


def test_folder_holds_cases() -> None:
    assert len(CASES) > 20


def test_a_conversation_that_maverick_took_is_what_is_sent() -> None:
    """`status` is optional, and lists and tables without anything in them are left out."""
    (case,) = [case for case in CASES if "tool-result-followed-by-text-accepted" in case.name]
    recorded = copy.deepcopy(case.request)
    (spec,) = [tool["toolSpec"] for tool in recorded["toolConfig"]["tools"]]
    call = ToolCall("t1", spec["name"], {})
    turns = (
        user("show me my expenses"),
        assistant(call),
        tool_result(call, "ok"),
        user("Thanks. Now just say the word DONE."),
    )
    tool = Tool(spec["name"], "", spec["inputSchema"]["json"])
    target = target_of(SPEC, {"api_key": "k", "region": "us-east-1"}, "llama-4-maverick")
    sent = json_of(SPEC.adapter.build_request(ask(*turns, tools=(tool,)), target, stream=False))
    del recorded["messages"][2]["content"][0]["toolResult"]["status"]
    assert {**sent, "system": [], "inferenceConfig": {}} == recorded


@pytest.mark.parametrize("case", [c for c in CASES if c.status == 200 and not c.streamed], ids=lambda c: c.name)
def test_whole_answers(case: Case) -> None:
    parsed = theirs_plain(case.body)
    theirs = meaning(parsed["output"]["message"]["content"], parsed["stopReason"], parsed["usage"])
    assert [ours(answered(case, piece)) for piece in PIECES] == [theirs] * 3


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.status == 200 and c.streamed and "midstream" not in c.name], ids=lambda c: c.name
)
def test_streams(case: Case) -> None:
    theirs = gathered(theirs_stream(case.body))
    assert theirs["stop"]
    assert [ours(answered(case, piece)) for piece in PIECES] == [theirs] * 3


@pytest.mark.parametrize("case", [c for c in CASES if "midstream" in c.name], ids=lambda c: c.name)
def test_exceptions_inside_streams(case: Case) -> None:
    """The text that came before is kept."""
    for piece in PIECES:
        with pytest.raises(lr.StreamInterruptedError) as caught:
            answered(case, piece)
        assert caught.value.partial is not None
        assert caught.value.partial.text
        assert isinstance(caught.value.__cause__, lr.ServerError | lr.RateLimitError)
