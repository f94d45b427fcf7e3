"""The helper itself: what e2e tests rely on."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

from . import start_llamacpp

TINY = Path(os.environ.get("LLAMAROUTE_TINY_MODEL") or Path(__file__).parents[2] / "examples" / "tiny_llama_4")


def ask(url: str, key: str | None = None) -> tuple[int, dict]:
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "temperature": 0}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{url}/v1/chat/completions", body, headers), timeout=30
        ) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_answers_and_checks_its_key() -> None:
    with start_llamacpp(TINY / "tiny-llama-4.gguf", key="secret", alias="tiny") as server:
        status, body = ask(server.url, "secret")
        assert (status, body["model"]) == (200, "tiny")
        assert ask(server.url, "wrong")[0] == 401


def test_says_503_while_loading() -> None:
    with start_llamacpp(TINY / "tiny-llama-4.gguf", delay_load=1.0, wait=False) as server:
        status, body = ask(server.url)
        assert (status, body["error"]["type"]) == (503, "unavailable_error")
        server.wait_ready()
        assert ask(server.url)[0] == 200


def test_the_real_server_says_503_too() -> None:
    """Without the stand-in; a large context makes loading a tiny model take long enough to be seen."""
    with start_llamacpp(TINY / "tiny-llama-4.gguf", ctx=600_000, wait=False) as server:
        assert ask(server.url) == (
            503,
            {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}},
        )
        server.wait_ready()
        assert ask(server.url)[0] == 200
