"""The shape of the emulator's answers against recordings of the real hosts: key paths and their JSON types.

The recordings are not part of the project; `LLAMAROUTE_CASES` names their folder (one JSON a case, in a folder for each
host: request, and response with status, headers, body).
"""

from __future__ import annotations

import base64
import json
import os
import re
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.eventstream import EventStreamBuffer

from llamaroute.emulator import Emulator, Reply

FOLDER = os.environ.get("LLAMAROUTE_CASES")
ACCOUNT = "0123456789abcdef0123456789abcdef"
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "f", "parameters": {"type": "object", "properties": {}}},
}
# Cases that the emulator does not reproduce, and why.
LEFT_OUT = {
    "plain-logprobs": "log probabilities are not emulated",
    "error-bad-tool-schema": "grammar compilation is not emulated",
    "error-image-unreachable-url": "the emulator fetches nothing",
    "error-image-three": "the count was limited by a launch flag",
    "error-bad-image": "that server ran a text model",
    "error-image": "that server ran without a vision tower",
    "fixture--prism--gemma-reasoning-response": "a reasoning model",
    "fixture--prism--reasoning-null-content-response": "a reasoning model",
    "fixture--prism--reasoning-response": "a reasoning model",
    "fixture--prism--reasoning-stream-response": "a reasoning model",
    "fixture--prism--structured-response-with-reasoning": "a reasoning model",
    "fixture--prism--stream-null-fields-response": "another model's nulls",
    "plain-image--lmnr-python--chat-legacy-image-0": "the image was taken out of the recording",
    "plain-tools-no-call-image--pydantic-ai--model-sees-multiple-images-groq-1": "the image was taken out",
    "plain-image--pydantic-ai--image-url-input-0": "an older release of the host",
    "stream--openinference--async-chat-stream-0": "another model, in an older shape",
    "plain-toolcall--mirascope--a-llama-llama-4-maverick-17b-128e-instruct-fp8-async-0": "the router adds a key",
}
FOLDERS = {
    "selfhosted-vllm-live": "vllm",
    "selfhosted-vllm-llama4-live": "vllm",
    "selfhosted-llamacpp-live": "llamacpp",
    "selfhosted-tgi": "tgi",
    "selfhosted-ollama": "ollama",
    "cloudflare": "cloudflare",
    "huggingface": "huggingface",
    "openai-compatible-other": "huggingface",  # Groq's and Together's own hosts: the router passes their bodies through
}


def cases() -> list[Any]:
    if FOLDER is None:
        return [pytest.param(None, id="none")]
    found = []
    for folder, host in FOLDERS.items():
        for path in sorted(Path(FOLDER, folder).glob("*.json")):
            case = json.loads(path.read_text())
            url = str(case["request"].get("url") or case["request"].get("path"))
            if "/api/chat" in url or "api-inference" in url or "/audio/" in url or path.stem in LEFT_OUT:
                continue
            if host == "huggingface" and not _emulated_provider(url, path.stem):
                continue
            found.append(pytest.param((host, url, case), id=f"{folder}/{path.stem}"))
    return found


def _emulated_provider(url: str, name: str) -> bool:
    if "groq.com" in url or ("together" in url and "huggingface" not in url):
        return name.startswith(("plain", "stream")) and "fallback" not in name
    return "issue" in name or any(f"/{provider}/" in url for provider in ("together", "novita", "groq", "nscale"))


def events(text: str) -> list[Any]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ") and line != "data: [DONE]"]


def shape(value: Any, at: str = "") -> set[tuple[str, str]]:
    """Every key path with its JSON type; array positions are dropped."""
    if isinstance(value, dict):
        inner = [shape(part, f"{at}.{key}") for key, part in value.items()]
        return {(at, "object")}.union(*inner)
    if isinstance(value, list):
        return {(at, "array")}.union(*[shape(part, f"{at}[]") for part in value])
    kind = "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
    return {(at, kind)}


def paths(found: set[tuple[str, str]], *, with_nulls: bool) -> set[str]:
    return {path for path, kind in found if with_nulls or kind != "NoneType"}


def reply_of(body: str, streamed: bool) -> Reply:
    """A reply that says what the recording says."""
    text, finish = "", None
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for chunk in events(body) if streamed else [json.loads(body)]:
        for choice in chunk.get("choices", []):
            part = choice.get("delta") or choice.get("message") or {}
            finish = choice.get("finish_reason") or finish
            content = part.get("content") or ""
            text += content if isinstance(content, str) else json.dumps(content)
            for index, call in enumerate(part.get("tool_calls") or []):
                at = call.get("index", index)
                names[at] = call["function"].get("name") or names.get(at, "f")
                arguments[at] = arguments.get(at, "") + (call["function"].get("arguments") or "")
    calls = [(names[at], arguments[at]) for at in sorted(names)]
    return Reply(text, tool_calls=calls, finish_reason=None if calls else finish, exact=True)


def body_of(host: str, case: dict[str, Any], reply: Reply | None, streamed: bool) -> Any:
    """The recorded request; where none was kept, one of the same kind."""
    sent = case["request"].get("body")
    if sent:
        return sent
    body: dict[str, Any] = {"model": case.get("model") or "tgi", "messages": HELLO, "stream": streamed}
    if reply is not None and reply.tool_calls:
        body["tools"] = [TOOL]
    if "usage" in case["response"]["body"] and '"usage":null}\n\ndata: [DONE]' not in case["response"]["body"]:
        body["stream_options"] = {"include_usage": True}
    return body


def target(emu: Emulator, host: str, url: str) -> str:
    """Where the recorded request goes on the emulator."""
    path = httpx.URL(url).path.replace("/v1/v1/", "/v1/").replace("ACCOUNT_ID", ACCOUNT)
    if "gateway.ai.cloudflare.com" in url:
        return f"{emu.url}/cloudflare-gateway{path}"
    if "api.groq.com" in url:
        return f"{emu.url}/huggingface/groq{path}"
    if "api.together" in url:
        return f"{emu.url}/huggingface/together{path}"
    return f"{emu.url}/{host}{path}"


@pytest.mark.skipif(FOLDER is None, reason="recorded cases: not run (LLAMAROUTE_CASES is not set)")
@pytest.mark.parametrize("recorded", cases())
def test_shape(recorded: tuple[str, str, dict[str, Any]]) -> None:
    host, url, case = recorded
    response = case["response"]
    raw = response["body"]
    streamed = "data: " in raw[:20]
    reply = reply_of(raw, streamed) if response["status"] == 200 else None
    body = body_of(host, case, reply, streamed)
    model = body.get("model") if isinstance(body, dict) else None
    unknown_model = case["response"]["status"] == 404 or "not supported by any" in raw
    served = [] if unknown_model else [str(model).removeprefix("workers-ai/")]
    quirks = ["response-object"] if '"content":{' in raw else []
    quirks += ["empty-choices"] if '"choices": []' in raw else []
    quirks += ["role-chunk"] if "prism" in str(case.get("source")) else []
    if "issue" in str(case.get("source")) and host in ("cloudflare", "huggingface"):
        pytest.skip("the request was not kept: see test_error_texts")
    hosts = {"vllm": ["llama-4"], "llamacpp": ["llama-4"]} if unknown_model else {}
    names = {host: served or hosts.get(host, []), "cloudflare-gateway": served}
    names = {name: models for name, models in names.items() if models}
    size = 100 if "context" in raw and response["status"] == 400 else 2000
    with Emulator(models=names, context={"vllm": size, "llamacpp": size}, quirks=quirks) as emu:
        if reply is not None:
            emu.reply(reply)
        key = emu.key(host) or "any"
        content = body if isinstance(body, str) else json.dumps(body) if body is not None else None
        answer = httpx.request(
            case["request"]["method"], target(emu, host, url), content=content, timeout=10,
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        )  # fmt: skip
    assert answer.status_code == response["status"], answer.text
    real: Any = events(raw) if streamed else json.loads(raw)
    mine: Any = events(answer.text) if streamed else answer.json()
    # Snapshots were taken through a client library, which fills in nulls of its own.
    fidelity = str(case.get("fidelity"))
    exact = fidelity.startswith("recorded") and "level" not in fidelity
    seen, made = shape(real), shape(mine)
    allowed = {".usage.prompt_tokens_details", ".usage.completion_tokens_details"}
    if exact:
        assert paths(made, with_nulls=True) == paths(seen, with_nulls=True)
    else:
        assert paths(seen, with_nulls=False) - allowed <= paths(made, with_nulls=True)
        assert paths(made, with_nulls=False) <= paths(seen, with_nulls=True)
    kinds_seen, kinds_made = dict(sorted(seen)), dict(sorted(made))
    for path in kinds_seen.keys() & kinds_made.keys():
        both = {kind for at, kind in seen if at == path} | {kind for at, kind in made if at == path}
        assert len(both - {"NoneType"}) <= 1, path
    if response["status"] != 200 and exact:
        for name in ("content-type", "allow", "connection"):
            if name in response["headers"]:
                assert answer.headers.get(name) == response["headers"][name]


def test_error_texts() -> None:
    """Errors known from public reports, word for word (their requests were not published)."""
    with Emulator(quirks=["auto-tools-refused"]) as emu:
        key = {"authorization": f"Bearer {emu.key('vllm')}"}
        body = {"model": "llama-4-scout", "messages": HELLO, "tools": [TOOL]}
        answer = httpx.post(emu.base_url("vllm") + "/chat/completions", json=body, headers=key)
        assert answer.json()["error"]["message"].startswith('"auto" tool choice requires --enable-auto-tool-choice')
        key = {"authorization": f"Bearer {emu.key('huggingface')}"}
        url = emu.base_url("huggingface") + "/chat/completions"
        answer = httpx.post(url, json={"model": "moonshotai/Kimi-K2-Instruct", "messages": HELLO}, headers=key)
        assert answer.json() == {
            "error": {
                "message": "The requested model 'moonshotai/Kimi-K2-Instruct' is not supported by any provider you "
                "have enabled.",
                "type": "invalid_request_error",
                "param": "model",
                "code": "model_not_supported",
            }
        }  # fmt: skip


# ── Bedrock: JSON and binary frames ──

BEDROCK_LEFT_OUT = {
    "error-400--pydantic-ai--return-content-uploaded-file-document-bedrock-claude-1": "a rule of Claude",
    "error-400--pydantic-ai--rn-matrix-direct-uploaded-file-document-bedrock-nova-1": "a rule of Nova",
    "error-400--ruby-llm--a-2-lite-v1-0-handles-context-length-exceeded-errors-0": "Nova's words",
    "stream--pydantic-ai--bedrock-model-stream-empty-text-delta-0": "a reasoning model",
}
STRANGER = (
    "AWS4-HMAC-SHA256 Credential=AKIANOBODY/20261123/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=0"
)


def bedrock_cases() -> list[Any]:
    if FOLDER is None:
        return [pytest.param(None, id="none")]
    paths = sorted(path for path in Path(FOLDER, "bedrock").glob("*.json") if path.stem not in BEDROCK_LEFT_OUT)
    return [pytest.param(json.loads(path.read_text()), id=path.stem) for path in paths]


def bedrock_frames(data: bytes) -> list[tuple[list[tuple[str, str]], Any]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(list(event.headers.items()), json.loads(event.payload)) for event in buffer]


def bedrock_reply(case: dict[str, Any]) -> Reply:
    """A reply that says what the recording says."""
    if "body_base64" not in case["response"]:
        answer = json.loads(case["response"]["body"])
        text = "".join(block["text"] for block in answer["output"]["message"]["content"])
        return Reply(text, finish_reason=answer["stopReason"], exact=True)
    text, calls, finish = "", [], None
    for headers, payload in bedrock_frames(base64.b64decode(case["response"]["body_base64"])):
        kind = dict(headers).get(":event-type")
        if kind == "contentBlockDelta":
            text += payload["delta"]["text"]
        elif kind == "contentBlockStart":
            calls.append((payload["start"]["toolUse"]["name"], ""))
        elif kind == "messageStop":
            finish = payload["stopReason"]
    return Reply(text, tool_calls=calls, finish_reason=finish, exact=True)


def bedrock_emulator(case: dict[str, Any]) -> Emulator:
    """An emulator in the state in which the recorded answer was given."""
    response = case["response"]
    said = response.get("body", "")
    quirks = [] if "serverToolUsage" in str(response) or "body_base64" in response else ["no-bedrock-server-tool-usage"]
    if "body_base64" in response and b"serverToolUsage" not in base64.b64decode(response["body_base64"]):
        quirks.append("no-bedrock-server-tool-usage")
    served = "us.meta.llama0" if "identifier is invalid" in said else case["model"]
    size = 500 if "Input is too long" in said else 1_000_000
    emu = Emulator(
        models={"bedrock": [f"us.{served}" if "on-demand" in said else served]},
        context={"bedrock": size},
        quirks=quirks,
    )
    if response["status"] == 500:
        emu.fault(status=500)
    if response["status"] == 200:
        emu.reply(bedrock_reply(case))
    if case["what"].startswith("stream cut"):
        frames = bedrock_frames(base64.b64decode(response["body_base64"]))
        kind = dict(frames[-1][0])[":exception-type"]
        emu.fault(error_after=2, code=kind[0].upper() + kind[1:])
    return emu


@pytest.mark.skipif(FOLDER is None, reason="recorded cases: not run (LLAMAROUTE_CASES is not set)")
@pytest.mark.parametrize("case", bedrock_cases())
def test_bedrock_shape(case: dict[str, Any]) -> None:
    response = case["response"]
    body = json.dumps(case["request"]["body"] or {"messages": [{"role": "user", "content": [{"text": "Hello"}]}]})
    body = re.sub(r"<\d+ base64 characters removed>", "AAAA", body)
    with bedrock_emulator(case) as emu:
        key = STRANGER if response["status"] == 403 else f"Bearer {emu.key('bedrock')}"
        url = emu.base_url("bedrock") + case["request"]["url"].partition(".amazonaws.com")[2]
        headers = {"authorization": key, "content-type": "application/json"}
        answer = httpx.post(url, content=body, headers=headers, timeout=10)
    assert answer.status_code == response["status"], answer.text
    for name in ("content-type", "x-amzn-errortype"):
        if name in response["headers"]:
            assert answer.headers[name] == response["headers"][name]
    assert "x-amzn-requestid" in answer.headers
    if "body_base64" not in response:
        real, mine = json.loads(response["body"]), answer.json()
        assert shape(mine) == shape(real)
        if response["status"] == 200:
            assert json.dumps({**mine, "metrics": 0, "usage": 0}) == json.dumps({**real, "metrics": 0, "usage": 0})
            assert list(mine["usage"]) == list(real["usage"])
        else:
            assert mine == real, "errors word for word"
        return
    seen, made = bedrock_frames(base64.b64decode(response["body_base64"])), bedrock_frames(answer.content)
    assert _told(made) == _told(seen)
    by_hand = "author-written" in case["fidelity"] or case["response"]["headers"]["x-amzn-requestid"].startswith(
        "test-"
    )
    for kind, payload in {dict(headers)[headers[0][0]]: payload for headers, payload in seen}.items():
        (*_, same) = (payload for headers, payload in made if dict(headers)[headers[0][0]] == kind)
        if kind.endswith("Exception"):  # frames written by hand: the text alone
            assert same.keys() >= payload.keys()
            continue
        assert shape(same) == shape(payload)
        assert by_hand or list(same) == list(payload)


def _told(frames: list[tuple[list[tuple[str, str]], Any]]) -> list[list[tuple[str, str]]]:
    """The headers of all frames; neighbours of one kind count once, since texts are cut elsewhere."""
    return [headers for headers, _ in groupby(frames, key=lambda frame: frame[0])]


# ── Azure and Databricks: other models than Llama 4, in several ages of the services ──

CLOUD_LEFT_OUT = {
    "stream--chatlas--github-logprobs-0": "log probabilities are not emulated",
    "error-400--mirascope--azure-gpt-5-mini-0x": "a rule of GPT-5",
    "error-403--issue--feature-disabled": "a rule of ai_query",
    "plain--pydantic-ai--databricks-list-content-with-reasoning-0": "a reasoning model",
    "stream--pydantic-ai--databricks-stream-empty-reasoning-0": "a reasoning model",
}
# Keys that some recordings have and others lack, and that the emulator leaves out, and why.
CLOUD_NOT_MADE = re.compile(
    r"\.obfuscation"  # padding in newer streams
    r"|\.latency_checkpoint.*"  # one deployment's own measurements
    r"|\.protected_material_(text|code)|\.(cache_(read|creation)_input_tokens|safety_identifier)"  # other models
    r"|\.prompt_filter_results\[\]\.content_filter_result(\..*)?"  # seen once: the plural's slip
)
# Behind /models stood an OpenAI model when it was recorded; the emulator has the documented form there.
MODELS_NOT_MADE = re.compile(
    r"\.message\.(annotations|refusal)|\.usage\.(prompt|completion)_tokens_details.*|\.(service_tier|system_fingerprint)"
)


def cloud_cases() -> list[Any]:
    if FOLDER is None:
        return [pytest.param(None, id="none")]
    found = []
    for folder in ("azure-foundry", "azure-openai", "databricks"):
        for path in sorted(Path(FOLDER, folder).glob("*.json")):
            if path.stem not in CLOUD_LEFT_OUT:
                found.append(pytest.param(json.loads(path.read_text()), id=f"{folder}/{path.stem}"))
    return found


def cloud_target(case: dict[str, Any]) -> tuple[str, str]:
    """The emulated host, and path and query there."""
    url = httpx.URL(case["request"]["url"])
    path = url.raw_path.decode().replace("/v1/v1/", "/v1/")
    if case["provider"] == "databricks":
        return "databricks", path
    if "github.ai" in url.host:  # the same API family under a path of its own
        return "azure", "/openai/v1/chat/completions"
    return ("azure-models" if path.startswith("/models") else "azure"), path


def cloud_emulator(case: dict[str, Any], host: str) -> Emulator:
    """An emulator in the state in which the recorded answer was given."""
    response, raw = case["response"], case["response"]["body"]
    quirks = {
        "azure-tools",
        "azure-formats",
        "azure-models-tools",
        "azure-models-formats",
        "azure-models-lenient-extra",
    }
    quirks |= {"databricks-stream-options"}
    if '"completion_tokens":null' in raw:
        quirks.add("databricks-null-usage")
    if case["provider"] == "databricks" and '"tokens"' not in raw and '"choices":[],"usage":{' in raw:
        quirks.add("no-databricks-cumulative-usage")
    if '"content": [{' in raw or '"content":[{' in raw:
        quirks.add("databricks-list-content")
    if "roles must alternate" in raw:
        quirks.add("databricks-roles-alternate")
    name = "else" if "unknown_model" in raw else case["model"]
    emu = Emulator(models={host: [name]}, quirks=sorted(quirks))
    if response["status"] == 200:
        emu.reply(reply_of(raw, "data: " in raw[:20]))
    elif "content_filter" in raw or "PERMISSION_DENIED" in raw:
        error = json.loads(raw)
        code = error.get("error_code") or error["error"]["code"]
        emu.fault(status=response["status"], code=code, message=error.get("message"))
    return emu


def layout(chunks: list[Any]) -> list[tuple[bool, bool, bool]]:
    """What the events of a stream hold (choices, a finish reason, usage); neighbours of one kind count once."""
    kinds = [
        (
            bool(chunk["choices"]),
            any(choice.get("finish_reason") for choice in chunk["choices"]),
            bool(chunk.get("usage")),
        )
        for chunk in chunks
    ]
    return [kind for kind, _ in groupby(kinds)]


@pytest.mark.skipif(FOLDER is None, reason="recorded cases: not run (LLAMAROUTE_CASES is not set)")
@pytest.mark.parametrize("case", cloud_cases())
def test_cloud_shape(case: dict[str, Any]) -> None:
    response, raw = case["response"], case["response"]["body"]
    streamed = "data: " in raw[:20]
    host, path = cloud_target(case)
    turns = HELLO * 2 if "roles must alternate" in raw else HELLO
    body = json.dumps(case["request"]["body"] or {"messages": turns})
    body = re.sub(r"data:image/png;base64,<\d+ base64 characters removed>", "https://example.com/a.png", body)
    with cloud_emulator(case, host) as emu:
        key = "wrong" if response["status"] == 401 else emu.key(host) or ""
        named = {"authorization": f"Bearer {key}"} if host == "databricks" else {"api-key": key}
        answer = httpx.post(
            emu.base_url(host) + path, content=body, headers={**named, "content-type": "application/json"}, timeout=10
        )
    assert answer.status_code == response["status"], answer.text
    fidelity = str(case["fidelity"])
    recorded = fidelity.startswith("recorded") and "level" not in fidelity
    if recorded and response["status"] == 200:
        shown = {"apim-request-id", "x-ms-region", "x-request-id", "x-databricks-org-id", "server-timing"}
        assert shown & set(response["headers"]) - {"x-request-id"} <= set(answer.headers)
    real: Any = events(raw) if streamed else json.loads(raw)
    mine: Any = events(answer.text) if streamed else answer.json()
    if response["status"] != 200 and "content_filter" not in raw and "PERMISSION_DENIED" not in raw:
        assert mine == real, "errors word for word"
        return
    seen, made = shape(real), shape(mine)
    wanted = {at for at in paths(seen, with_nulls=False) if not CLOUD_NOT_MADE.search(at)}
    if host == "azure-models":
        wanted = {at for at in wanted if not MODELS_NOT_MADE.search(at)}
    assert wanted <= paths(made, with_nulls=True)
    # What the emulator writes beyond this recording is in another one of the same service.
    known = {at for other in cloud_cases() if other.values[0]["provider"][:5] == case["provider"][:5]
             for at in recorded_paths(other.values[0])}  # fmt: skip
    assert paths(made, with_nulls=False) <= known
    kinds_seen, kinds_made = dict(sorted(seen)), dict(sorted(made))
    for at in kinds_seen.keys() & kinds_made.keys():
        both = {kind for path, kind in seen if path == at} | {kind for path, kind in made if path == at}
        assert len(both - {"NoneType"}) <= 1, at
    if streamed and recorded and "call" not in case["what"].partition("(")[0]:
        assert layout(mine) == layout(real)


def recorded_paths(case: dict[str, Any]) -> set[str]:
    raw = case["response"]["body"]
    return paths(shape(events(raw) if "data: " in raw[:20] else json.loads(raw)), with_nulls=True)
