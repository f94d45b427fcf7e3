"""`llamaroute explain` says what a call would do, and sends nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamaroute.emulator import Emulator

FILE = """\
version = 1
default = "chat"
[providers.azure]
endpoint = "{url}/azure"
api_key  = "k"
[providers.bedrock]
region  = "us-east-1"
api_key = "k"
[providers.old]
kind     = "openai-compatible"
base_url = "{url}/openai/v1"
model    = "m"
features = {{ tools = "refuse" }}
[routes.chat]
targets = ["old", "azure:llama-4-maverick", "bedrock:llama-4-scout"]
"""


@pytest.fixture
def file(emu: Emulator) -> str:
    Path("llamaroute.toml").write_text(FILE.format(url=emu.url), "utf-8")
    return "llamaroute.toml"


def test_a_plain_call(cli: Any, file: str, emu: Emulator) -> None:
    done = cli("explain", "Hi", "--no-stream")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "1. old:m (m)",
        "2. azure:llama-4-maverick (Llama-4-Maverick-17B-128E-Instruct-FP8)",
        "3. bedrock:llama-4-scout (us.meta.llama4-scout-17b-instruct-v1:0)",
    ]
    assert emu.requests == []


def test_what_is_made_up_and_what_is_refused(cli: Any, file: str) -> None:
    done = cli("explain", "--with", "forced-tools")
    assert done.code == 0
    old, azure, bedrock = done.out.split("\n2. ")[0], *done.out.split("\n2. ")[1].split("\n3. ")
    assert "passed over: old:m cannot serve tools" in old
    assert "tools: emulate by prompt" in azure
    assert "forced_tools: emulate by instruction" in bedrock
    assert "stream_tools: emulate by plain-call" in bedrock


def test_as_json(cli: Any, file: str) -> None:
    plan = json.loads(cli("explain", "--with", "json", "--json").out)
    assert plan["route"] == "chat"
    assert plan["targets"][0]["target"] == "old:m"
    steps = {step["feature"]: step["by"] or step["how"] for step in plan["targets"][1]["steps"]}
    assert steps == {"stream": "native", "json_schema": "prompt"}
    assert json.loads(cli("explain", "--model", "azure", "--json").out)["route"] is None


def test_nobody_can(cli: Any, file: str) -> None:
    done = cli("explain", "--model", "old", "--with", "tools")
    assert done.code == 1
    assert "passed over" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--with", "wings"], "tools, forced-tools and json"), (["--model", "nope"], "nope")]
)
def test_bad_usage(cli: Any, file: str, arguments: list[str], said: str) -> None:
    done = cli("explain", *arguments)
    assert done.code == 2
    assert said in done.err
