"""What Amazon Bedrock's Converse refuses, and in which words: rules of the API, then those of Llama's models.

Texts are those of recordings and user reports where one is known
(pydantic/pydantic-ai:tests/models/cassettes/test_multimodal_tool_returns/..., strands-agents/sdk-python issue 1241,
strands-agents/harness-sdk issue 1223, boto/boto3 issues 4415 and 4463, earendil-works/pi issue 3739); the others are
marked as invented.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..images import sniff
from ..prompt import Prompt, read_prompt
from .bedrock_shapes import BadRequestError

__all__ = ["LLAMA_MAX_TOKENS", "check", "check_llama", "merged", "read"]

LLAMA_MAX_TOKENS = 8192  # https://docs.aws.amazon.com/bedrock/latest/userguide/ model card: max output 8K
_LLAMA_IMAGES = 8  # aws-samples/generative-ai-use-cases issue 1040
_MESSAGE_IMAGES = 20
_IMAGE_BYTES = 3_932_160  # 3.75 MB
_IMAGE_SIDE = 8000
_NATIVE_FIELDS = ("temperature", "top_p", "max_gen_len")  # of the model's own format
_MODEL = "The model returned the following errors: "


@dataclass(frozen=True, slots=True)
class Turn:
    """Neighbours of one role are one turn to the model."""

    role: str
    blocks: Sequence[Mapping[str, Any]]

    def kinds(self) -> list[str]:
        """The kind of each block."""
        return [next(iter(block)) for block in self.blocks]

    def of(self, kind: str) -> list[Any]:
        """All blocks of a kind."""
        return [block[kind] for block in self.blocks if kind in block]


def merged(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """The conversation in turns."""
    turns: list[Turn] = []
    for message in messages:
        role, blocks = str(message["role"]), list(message["content"])
        if turns and turns[-1].role == role:
            turns[-1] = Turn(role, [*turns[-1].blocks, *blocks])
        else:
            turns.append(Turn(role, blocks))
    return turns


def _unsupported(name: str) -> BadRequestError:
    return BadRequestError(f"This model doesn't support the {name} field. Remove {name} and try again.")


def _unknown_block(kind: str) -> BadRequestError:
    text = f"This model doesn't support the {kind} content block that you provided."
    return BadRequestError(f"{text} Update the content block and try again.")


def _malformed(key: str) -> BadRequestError:
    text = f"Malformed input request: #: extraneous key [{key}] is not permitted, please reformat your input"
    return BadRequestError(f"{_MODEL}{text} and try again.")


# ── rules of the API ──


def check(body: Mapping[str, Any], model: str) -> None:
    """What every model refuses, but for videos, which Nova takes."""
    messages = body.get("messages") or ()
    if not messages:
        raise BadRequestError("A conversation must start with a user message.")
    _blanks(body, messages)
    if messages[0]["role"] == "assistant":
        text = "A conversation must start with a user message. Try again with a conversation that starts with a user"
        raise BadRequestError(f"{text} message.")
    _tools(body)
    turns = merged(messages)
    _results(turns, has_tools="toolConfig" in body)
    for index, turn in enumerate(turns):
        for kind in turn.kinds():
            if kind in ("video", "audio") and "amazon.nova" not in model:
                raise _unknown_block(kind)
        for block in turn.blocks:
            if "image" in block and turn.role != "user":  # the text is invented
                raise BadRequestError(f"messages.{index}.content: Images can be provided in user messages only.")
        if sum("image" in block for block in turn.blocks) > _MESSAGE_IMAGES:
            raise BadRequestError(f"{_MODEL}messages: too many images: image_count > {_MESSAGE_IMAGES}")
    for image in _images(messages):
        _image(image)


def _blanks(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> None:
    for place, block in enumerate(body.get("system") or ()):
        if "text" in block and not block["text"].strip():
            raise _blank("SystemContentBlock", f"system.{place}")  # inferred from the text for messages
    for index, message in enumerate(messages):
        if not message["content"]:
            text = f"The content field in the Message object at messages.{index} is empty. Add a ContentBlock object"
            raise BadRequestError(f"{text} to the content field and try again.")
        for place, block in enumerate(message["content"]):
            if "text" in block and not block["text"].strip():
                raise _blank("ContentBlock", f"messages.{index}.content.{place}")


def _blank(kind: str, at: str) -> BadRequestError:
    text = f"The text field in the {kind} object at {at} is blank."
    return BadRequestError(f"{text} Add text to the text field, and try again.")


def _tools(body: Mapping[str, Any]) -> None:
    config = body.get("toolConfig")
    if config is None:
        return
    if not config["tools"]:
        raise BadRequestError("The provided request is not valid")
    names: list[str] = []
    for index, tool in enumerate(config["tools"]):
        if "toolSpec" not in tool:
            continue
        spec = tool["toolSpec"]
        schema = spec["inputSchema"]["json"]
        if not isinstance(schema, Mapping) or schema.get("type") != "object":
            at = f"toolConfig.tools.{index}.toolSpec.inputSchema.json.type"
            raise BadRequestError(f"The value at {at} must be one of the following: object.")
        if spec["name"] in names:
            first = names.index(spec["name"])
            raise BadRequestError(f"The tool {spec['name']} is already defined at toolConfig.tools.{first}.")
        names.append(spec["name"])
    chosen = (config.get("toolChoice") or {}).get("tool")
    if chosen is not None and chosen["name"] not in names:  # the text is invented
        raise BadRequestError(f"The tool {chosen['name']} at toolConfig.toolChoice.tool.name is not defined.")


def _results(turns: Sequence[Turn], *, has_tools: bool) -> None:
    """Each call is answered in the next turn, and nothing else is answered."""
    asked: list[str] = []
    for index, turn in enumerate(turns):
        calls = [call["toolUseId"] for call in turn.of("toolUse")]
        results = [result["toolUseId"] for result in turn.of("toolResult")]
        if (calls or results) and not has_tools:
            text = "The toolConfig field must be defined when using toolUse and toolResult content blocks."
            raise BadRequestError(text)
        at = f"messages.{index}.content"
        if (calls and turn.role != "assistant") or (results and turn.role != "user"):  # the text is invented
            kind, role = ("toolUse", "assistant") if calls else ("toolResult", "user")
            raise BadRequestError(f"{at}: {kind} blocks can be provided in {role} messages only.")
        if len(set(calls)) < len(calls):
            twice = sorted({call for call in calls if calls.count(call) > 1})
            raise BadRequestError(f"The toolUse blocks at {at} contain duplicate Ids: {', '.join(twice)}")
        missing = [call for call in asked if call not in results]
        if missing:
            text = f"Expected toolResult blocks at {at} for the following Ids: {', '.join(missing)}"
            raise BadRequestError(text)
        if len(results) > len(asked):
            text = f"The number of toolResult blocks at {at} exceeds the number of toolUse blocks of previous turn."
            raise BadRequestError(text)
        asked = calls


def _images(messages: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """All images, those in tool results too."""
    for message in messages:
        for block in message["content"]:
            if "image" in block:
                yield block["image"]
            for inner in block.get("toolResult", {}).get("content", ()):
                if "image" in inner:
                    yield inner["image"]


def _image(image: Mapping[str, Any]) -> None:
    if "bytes" not in image["source"]:
        raise _unsupported("s3Uri")
    data = base64.b64decode(image["source"]["bytes"])
    seen = sniff(data)
    if seen is None or seen[0] != f"image/{image['format']}":
        raise BadRequestError(f"{_MODEL}The provided image does not match the specified image format.")
    if len(data) > _IMAGE_BYTES or max(seen[1:]) > _IMAGE_SIDE:  # the text is invented
        raise BadRequestError(f"{_MODEL}image exceeds the maximum allowed size of 3.75 MB or 8000 px a side")


# ── rules of Llama ──


def check_llama(body: Mapping[str, Any], *, streams: bool, stream_tools: bool) -> None:
    """What Meta's models refuse beyond that."""
    config = body.get("toolConfig")
    if streams and config is not None and not stream_tools:
        raise BadRequestError("This model doesn't support tool use in streaming mode.")
    _fields(body)
    turns = merged(body["messages"])
    for index, turn in enumerate(turns):
        kinds = turn.kinds()
        for kind in kinds:
            _block(kind, turn.role)
        talk = any(kind not in ("toolUse", "toolResult") for kind in kinds)
        at = f"messages.{index}.content: Conversation blocks and"
        if talk and "toolResult" in kinds:
            raise BadRequestError(f"{at} tool result blocks cannot be provided in the same turn.")
        if talk and "toolUse" in kinds:
            raise BadRequestError(f"{at} tool use blocks cannot be provided in the same turn.")
    if sum(1 for _ in _images(body["messages"])) > _LLAMA_IMAGES:
        # No text is published for Llama 4; Llama 3.2 says this about more than one image (boto/boto3 issue 4463).
        raise BadRequestError(f"{_MODEL}Validation Error")


def _block(kind: str, role: str) -> None:
    if role == "system":  # the text is invented
        raise BadRequestError("This model doesn't support the system role in messages. Use the system field instead.")
    if kind in ("reasoningContent", "citationsContent", "searchResult"):
        raise _unknown_block(kind)
    if kind == "cachePoint":
        raise _uncached()
    if kind in ("toolAddition", "toolRemoval"):
        raise _unsupported(kind)


def _uncached() -> BadRequestError:
    text = "You invoked an unsupported model or your request did not allow prompt caching. See the documentation for"
    return BadRequestError(f"{text} more information.", "AccessDeniedException", 403)


def _fields(body: Mapping[str, Any]) -> None:
    limit = (body.get("inferenceConfig") or {}).get("maxTokens")
    if limit is not None and limit > LLAMA_MAX_TOKENS:
        text = f"The maximum tokens you requested exceeds the model limit of {LLAMA_MAX_TOKENS}. Try again with a"
        raise BadRequestError(f"{text} maximum tokens value that is lower than {LLAMA_MAX_TOKENS}.")
    for name in body.get("outputConfig") or {}:
        raise _unsupported(f"outputConfig.{name}")  # that it is refused is known, the words are inferred
    extra = body.get("additionalModelRequestFields")
    for name in extra if isinstance(extra, Mapping) else ():
        if name not in _NATIVE_FIELDS:
            raise _malformed(name)
    if (body.get("performanceConfig") or {}).get("latency") == "optimized":
        raise _unsupported("performanceConfig.latency")  # inferred
    if any("cachePoint" in block for block in body.get("system") or ()):
        raise _uncached()
    config = body.get("toolConfig") or {}
    for name in config.get("toolChoice") or {}:
        if name != "auto":
            raise _unsupported(f"toolConfig.toolChoice.{name}")
    for index, tool in enumerate(config.get("tools") or ()):
        if "cachePoint" in tool:
            raise _uncached()
        if "systemTool" in tool:
            raise _unsupported(f"toolConfig.tools.{index}.systemTool")  # inferred
        if tool["toolSpec"].get("strict") is not None:  # that it is refused is known, the words are inferred
            raise _unsupported(f"toolConfig.tools.{index}.toolSpec.strict")


# ── the request as the model sees it ──


def read(body: Mapping[str, Any], *, default_max_tokens: int | None) -> Prompt:
    """The request in the emulator's neutral form."""
    messages: list[dict[str, Any]] = []
    if body.get("system"):
        text = "\n".join(str(block.get("text", "")) for block in body["system"])
        messages.append({"role": "system", "content": text})
    for turn in merged(body["messages"]):
        messages.extend(_messages(turn))
    inference = body.get("inferenceConfig") or {}
    config = body.get("toolConfig") or {}
    form = (body.get("outputConfig") or {}).get("textFormat")
    asked: dict[str, Any] = {
        "messages": messages,
        "tools": [_function(tool["toolSpec"]) for tool in config.get("tools", ()) if "toolSpec" in tool],
        "tool_choice": _choice(config.get("toolChoice") or {}),
        "max_tokens": inference.get("maxTokens"),
        "temperature": inference.get("temperature"),
        "top_p": inference.get("topP"),
        "stop": inference.get("stopSequences"),
    }
    if form is not None:
        schema = _schema(form["structure"]["jsonSchema"]["schema"])
        asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    given = {name: value for name, value in asked.items() if value is not None}
    return read_prompt(given, default_max_tokens=default_max_tokens)


def _schema(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # the text is invented
        raise BadRequestError("The JSON schema of outputConfig.textFormat is not valid JSON.") from None


def _function(spec: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": spec["name"], "description": spec.get("description", "")}
    return {"type": "function", "function": {**function, "parameters": spec["inputSchema"]["json"]}}


def _choice(choice: Mapping[str, Any]) -> Any:
    if "tool" in choice:
        return {"type": "function", "function": {"name": choice["tool"]["name"]}}
    return "required" if "any" in choice else None


def _messages(turn: Turn) -> Iterator[dict[str, Any]]:
    for result in turn.of("toolResult"):
        content = _content(result["content"])
        yield {"role": "tool", "tool_call_id": result["toolUseId"], "content": content}
    content = _content([block for block in turn.blocks if "toolResult" not in block and "toolUse" not in block])
    calls = [
        {
            "id": call["toolUseId"],
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["input"])},
        }
        for call in turn.of("toolUse")
    ]
    if calls:
        yield {"role": turn.role, "content": content or None, "tool_calls": calls}
    elif content:
        yield {"role": turn.role, "content": content}


def _content(blocks: Sequence[Mapping[str, Any]]) -> Any:
    """The blocks as OpenAI's parts; plain text stays plain."""
    parts: list[dict[str, Any]] = []
    for block in blocks:
        if "text" in block:
            parts.append({"type": "text", "text": block["text"]})
        elif "json" in block:
            parts.append({"type": "text", "text": json.dumps(block["json"])})
        elif "document" in block:
            parts.append({"type": "text", "text": f"[document {block['document']['name']}]"})
        elif "image" in block:
            image = block["image"]
            url = f"data:image/{image['format']};base64,{image['source'].get('bytes', '')}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts
