"""Bedrock's recorded answers: what comes out of the whole client is what botocore reads in the same bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import llamaroute as lr
from tests.oracle.bedrock_readers import gathered, meaning, ours, theirs_plain, theirs_stream

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
