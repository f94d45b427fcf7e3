"""One recorded answer -> what the library makes of it, through the whole client with a transport that plays bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import llamaroute as lr
from llamaroute.pipeline.ops import Head, Send
from llamaroute.registry import provider_spec
from llamaroute.routing.resolve import make_account
from llamaroute.spi import WireResponse
from llamaroute.types.capability import ModelRow
from llamaroute.types.response import Phase

PIECES = (0, 7, 1)
"""Bytes a read: 0 for the whole body at once."""

OUT_OF_SCOPE = "out of scope"
_CHAT = ("/chat/completions", "/ai/run/", "/workers-ai/", "/invocations", "/converse")


@dataclass(frozen=True)
class Case:
    """A recorded exchange; `name` is folder/file."""

    name: str
    folder: str
    url: str
    method: str
    request: Any
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def streamed(self) -> bool:
        """Whether the caller had asked for a stream."""
        if "/converse" in self.url:
            return self.url.endswith("/converse-stream")
        if isinstance(self.request, dict) and "stream" in self.request:
            return bool(self.request["stream"])
        return "event-stream" in self.headers.get("content-type", "") or self.body.lstrip()[:5] == b"data:"

    @property
    def chat(self) -> bool:
        """Whether it is an exchange of a chat route that a provider here speaks."""
        path = urlsplit(self.url).path
        return self.method == "POST" and any(part in path for part in _CHAT)

    @property
    def table(self) -> dict[str, Any] | None:
        """The provider's config table, or None when no provider of this version is meant."""
        if self.folder == "cloudflare":
            api = "native" if "/ai/run/" in self.url else "openai"
            return {"kind": "cloudflare", "account_id": "0" * 32, "api_key": "k", "api": api, "model": "m"}
        if self.folder.startswith("azure-"):
            api = "models" if self.folder == "azure-foundry" else "v1"
            return {"kind": "azure", "endpoint": self.url, "api_key": "k", "api": api, "model": "m"}
        if self.folder == "bedrock":
            return {"kind": "bedrock", "api_key": "k", "region": "us-east-1"}
        if self.folder == "databricks":
            api = "invocations" if self.url.endswith("/invocations") else "openai"
            return {"kind": "databricks", "host": "adb-0.0.azuredatabricks.net", "token": "k", "api": api, "model": "m"}
        if self.folder == "vertex":
            return {"kind": "vertex", "project": "p", "access_token": "k"}
        if self.folder == "huggingface":
            return {"kind": "huggingface", "api_key": "k", "model": "m"}
        if self.folder == "openai-compatible-other" or self.folder.startswith("selfhosted-"):
            dialect = "tgi" if self.folder == "selfhosted-tgi" else "openai"
            return {"kind": "openai-compatible", "base_url": "http://host/v1", "dialect": dialect, "model": "m"}
        return None


def cases(folder: Path) -> Iterator[Case]:
    """The cases of a folder of recordings, or of one of its subfolders."""
    for path in sorted(folder.rglob("*.json")):
        data = json.loads(path.read_text("utf-8"))
        if not isinstance(data, dict) or not {"request", "response"} <= data.keys():
            continue
        response, request = data["response"], data["request"]
        if "body_base64" in response:
            body = base64.b64decode(response["body_base64"])
        else:
            text = response.get("body", "")
            body = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else json.dumps(text).encode()
        headers = {k.lower(): str(v) for k, v in (response.get("headers") or {}).items() if v is not None}
        yield Case(
            name=f"{path.parent.name}/{path.stem}",
            folder=path.parent.name,
            url=request.get("url") or "http://host/v1/chat/completions",
            method=request.get("method") or "POST",
            request=request.get("body"),
            status=int(response["status"]),
            headers=headers,
            body=body,
        )


class Playing:
    """A transport that answers every request with the same bytes, in pieces."""

    def __init__(self, case: Case, piece: int) -> None:
        self.case, self.piece = case, piece

    def open(self, send: Send) -> Playing:
        self.at = 0
        self.head = Head(self.case.status, self.case.headers)
        return self

    def read(self, until: float, phase: Phase) -> bytes:
        data = self.case.body[self.at : self.at + self.piece] if self.piece else self.case.body[self.at :]
        self.at += len(data)
        return data

    def close(self) -> None:
        pass


def play(case: Case, piece: int, table: dict[str, Any] | None = None) -> str:
    """What comes out, as one line; `table` is another account than the case's own."""
    table = table or case.table
    if table is None:
        return "no provider of this version"
    if not case.chat:
        if case.status >= 400 and "/api/chat" not in case.url:
            return f"{describe_error(mapped(case, table))} (map_error only)"
        return OUT_OF_SCOPE
    with lr.Client({"providers": {"p": table}}, transport=Playing(case, piece), env={}) as client:
        try:
            if not case.streamed:
                return describe(client.chat("x", retry=1))
            with client.stream("x", retry=1) as stream:
                for _ in stream:
                    pass
            return describe(stream.response)
        except lr.LlamarouteError as error:
            return describe_error(error)


def mapped(case: Case, table: dict[str, Any]) -> lr.ProviderError:
    """The error of a route that is no chat route."""
    spec = provider_spec(table["kind"])
    account = make_account("p", spec, spec.settings.model_validate(table), (), {})
    target = account.target(ModelRow("m", "m"))
    return spec.adapter.map_error(WireResponse(case.status, case.headers, case.body), target)


def describe(response: lr.ChatResponse[Any]) -> str:
    """Text, tool calls, finish and usage."""
    usage = response.usage
    counted = "estimated" if usage.estimated else f"{usage.input_tokens}+{usage.output_tokens}={usage.total_tokens}"
    calls = "".join(f" {call.name}({json.dumps(call.arguments)})" for call in response.tool_calls)
    bad = "".join(f" !{call.error}" for call in response.tool_calls if call.error)
    reasoning = f" reasoning={len(response.reasoning)}" if response.reasoning else ""
    logprobs = f" logprobs={len(response.logprobs)}" if response.logprobs else ""
    notices = "".join(f" [{notice.code}]" for notice in response.warnings)
    return (
        f"{response.finish_reason}({response.raw_finish_reason}) {counted} {response.text!r}"
        f"{calls}{bad}{reasoning}{logprobs}{notices}"
    )


def describe_error(error: lr.LlamarouteError) -> str:
    """Class, status, code and message."""
    if isinstance(error, lr.StreamInterruptedError):
        cause = type(error.__cause__).__name__
        return f"{type(error).__name__} from {cause}: {error.args[0]!r} after {error.partial and error.partial.text!r}"
    assert isinstance(error, lr.ProviderError), repr(error)
    return f"{type(error).__name__} status={error.status} code={error.code} retry={error.retryable}: {error.args[0]!r}"
