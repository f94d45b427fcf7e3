"""A request as the emulated model sees it: one neutral form, whatever shape the host takes.

Hosts check the request their own way first; what is read here is forgiving, because it only feeds the default answer,
the token estimate and a real model behind the emulator.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .images import ImageSeen, from_data_url, image_tokens
from .script import Reply, tokens

__all__ = ["Prompt", "default_reply", "read_prompt", "sample"]

_TEMPLATE_TOKENS = 11  # what a chat template adds to an otherwise empty prompt; the number itself means nothing


@dataclass(slots=True)
class Prompt:
    """The part of a chat request that decides the answer. Tools and schema are in OpenAI's form."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    tool_choice: Any = None
    schema: dict[str, Any] | None = None
    json_object: bool = False
    max_tokens: int | None = None
    stop: list[str] = field(default_factory=list)
    stream: bool = False
    sampling: dict[str, Any] = field(default_factory=dict)
    _images: list[ImageSeen] | None = None

    @property
    def images(self) -> list[ImageSeen]:
        """Every image in the conversation, in order."""
        if self._images is None:  # decoding megabytes of base64 once is enough
            self._images = self._find_images()
        return self._images

    def _find_images(self) -> list[ImageSeen]:
        found: list[ImageSeen] = []
        for part in self._parts():
            if part.get("type") == "image_url":
                link = part.get("image_url")
                url = link.get("url", "") if isinstance(link, Mapping) else link
                if isinstance(url, str):
                    found.append(from_data_url(url) or ImageSeen("image/*", url=url[:200]))
        return found

    @property
    def last_user_text(self) -> str:
        """The text of the last user message."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return _text(message.get("content"))
        return _text(self.messages[-1].get("content")) if self.messages else ""

    @property
    def tokens(self) -> int:
        """Estimated prompt tokens: text, tool definitions (unless `tool_choice` is none) and images."""
        total = _TEMPLATE_TOKENS
        for message in self.messages:
            total += 3 + len(tokens(_text(message.get("content"))))
            if message.get("tool_calls"):
                total += len(tokens(json.dumps(message["tool_calls"])))
        if self.tools and self.tool_choice != "none":
            total += len(tokens(json.dumps(self.tools)))
        return total + sum(image_tokens(image) for image in self.images)

    @property
    def forced_tool(self) -> Mapping[str, Any] | None:
        """The function that the request insists on (the first one for "required"), else None."""
        functions: list[Mapping[str, Any]] = [tool["function"] for tool in self.tools]
        if not functions or self.tool_choice in (None, "auto", "none"):
            return None
        if isinstance(self.tool_choice, Mapping):
            named = self.tool_choice.get("function", self.tool_choice)
            wanted = named.get("name") if isinstance(named, Mapping) else None
            return next((function for function in functions if function.get("name") == wanted), None)
        if self.tool_choice in ("required", "any"):
            return functions[0]
        return next((function for function in functions if function.get("name") == self.tool_choice), None)

    def openai_body(self) -> dict[str, Any]:
        """The request for an OpenAI-compatible server (a real model behind the emulator)."""
        body: dict[str, Any] = {"messages": self.messages, **self.sampling}
        if self.tools:
            body["tools"] = self.tools
            if self.tool_choice is not None:
                body["tool_choice"] = self.tool_choice
        if self.schema is not None:
            schema = {"name": "answer", "schema": self.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self.json_object:
            body["response_format"] = {"type": "json_object"}
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        if self.stop:
            body["stop"] = self.stop
        return body

    def _parts(self) -> list[Mapping[str, Any]]:
        parts: list[Mapping[str, Any]] = []
        for message in self.messages:
            content = message.get("content")
            if isinstance(content, Mapping):
                parts.append(content)
            elif isinstance(content, list):
                parts.extend(part for part in content if isinstance(part, Mapping))
        return parts


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return str(content.get("text", ""))
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return ""


def _tool(tool: Any) -> dict[str, Any] | None:
    if not isinstance(tool, Mapping):
        return None
    function = tool.get("function") if isinstance(tool.get("function"), Mapping) else tool
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return None
    return {"type": "function", "function": dict(function)}


_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "seed", "frequency_penalty", "presence_penalty", "repetition_penalty",
)  # fmt: skip


def read_prompt(body: Mapping[str, Any], *, default_max_tokens: int | None = None) -> Prompt:
    """Read an OpenAI-style chat body, Cloudflare's native one, or TGI's; unknown and malformed fields are passed
    over."""
    messages = body.get("messages")
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        text = body.get("prompt", body.get("inputs", ""))
        messages = [{"role": "user", "content": text if isinstance(text, str) else ""}]
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    stop = body.get("stop")
    prompt = Prompt(
        messages=[dict(message) for message in messages if isinstance(message, Mapping)],
        tools=[read for tool in _list(body.get("tools")) if (read := _tool(tool)) is not None],
        tool_choice=body.get("tool_choice"),
        max_tokens=limit if isinstance(limit, int) and not isinstance(limit, bool) else default_max_tokens,
        stop=[stop] if isinstance(stop, str) else [word for word in _list(stop) if isinstance(word, str)],
        stream=body.get("stream") is True,
        sampling={key: body[key] for key in _SAMPLING if body.get(key) is not None},
    )
    _read_format(prompt, body)
    return prompt


def _read_format(prompt: Prompt, body: Mapping[str, Any]) -> None:
    form = body.get("response_format")
    if isinstance(body.get("guided_json"), Mapping):
        prompt.schema = dict(body["guided_json"])
    if not isinstance(form, Mapping) or form.get("type") in (None, "text", "regex"):
        return
    schema = form.get("json_schema", form.get("value"))
    if isinstance(schema, Mapping):
        inner = schema.get("schema")
        prompt.schema = dict(inner if isinstance(inner, Mapping) else schema)
    else:
        prompt.json_object = True


def sample(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """A value that fits the JSON Schema: constants, enums and defaults where given, else the plainest value of the
    type."""
    root = schema if root is None else root
    if not isinstance(schema, Mapping) or depth > 8:
        return "value"
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    if isinstance(ref := schema.get("$ref"), str):
        target: Any = root
        for step in ref.lstrip("#/").split("/"):
            target = target.get(step, {}) if isinstance(target, Mapping) else {}
        return sample(target, root, depth + 1)
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return sample(schema[key][0], root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0] if kind else "string"
    match kind:
        case "object":
            properties = schema.get("properties")
            named = properties if isinstance(properties, Mapping) else {}
            return {name: sample(part, root, depth + 1) for name, part in named.items()}
        case "array":
            count = max(1, int(schema.get("minItems", 1)))
            return [sample(schema.get("items", {}), root, depth + 1) for _ in range(count)]
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1 if "exclusiveMinimum" in schema else 1)
        case "boolean":
            return True
        case "null":
            return None
    text = "text"
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    return text.ljust(least, "x")[: most if isinstance(most, int) else None]


def default_reply(prompt: Prompt) -> Reply:
    """The answer when nothing was scripted: a call of a forced tool, JSON for a schema, what was seen, or an echo."""
    forced = prompt.forced_tool
    if forced is not None:
        return Reply(tool_calls=[(str(forced["name"]), sample(forced.get("parameters") or {"type": "object"}))])
    if prompt.schema is not None:
        return Reply(json.dumps(sample(prompt.schema), ensure_ascii=False))
    if prompt.json_object:
        return Reply(json.dumps({"answer": prompt.last_user_text[:200]}, ensure_ascii=False))
    images = prompt.images
    if images:
        seen = "; ".join(str(image) for image in images)
        return Reply(f"I see {len(images)} image{'s' if len(images) > 1 else ''} ({seen}).")
    return Reply(f"You said: {prompt.last_user_text}")
