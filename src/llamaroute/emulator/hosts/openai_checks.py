"""What an OpenAI-shaped host checks in a request, in OpenAI's words; servers with other words override single methods.

Texts and codes: https://platform.openai.com/docs/guides/error-codes and answers seen from the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..answer import Answer, RecordedRequest
from ..images import from_data_url
from ..prompt import Prompt
from .base import Host

__all__ = ["Checks", "RefusedError", "content_parts", "image_link"]


class RefusedError(Exception):
    """The request is refused with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def content_parts(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, Mapping) else None
        found += [part for part in (content if isinstance(content, list) else ()) if isinstance(part, Mapping)]
    return found


def image_link(part: Mapping[str, Any]) -> str:
    """The URL of an image part, "" if it has none."""
    link = part.get("image_url")
    url = link.get("url") if isinstance(link, Mapping) else link
    return url if isinstance(url, str) else ""


_TYPES: dict[str, tuple[type, ...]] = {
    "messages": (list,),
    "tools": (list,),
    "stop": (str, list),
    "response_format": (dict,),
    "stream": (bool,),
    **dict.fromkeys(("temperature", "top_p", "frequency_penalty", "presence_penalty"), (int, float)),
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "n", "seed"), (int,)),
}
_NAMES = {list: "array", dict: "object", str: "string", bool: "boolean", int: "integer", float: "decimal"}


class Checks(Host):
    """Validation of a chat request; every check raises RefusedError with the server's own answer."""

    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        "temperature": (0, 2),
        "top_p": (0, 1),
        "frequency_penalty": (-2, 2),
        "presence_penalty": (-2, 2),
        "top_logprobs": (0, 20),
    }

    def problem(
        self,
        request: RecordedRequest,
        status: int,
        message: str,
        kind: str | None,
        param: str | None = None,
        code: int | str | None = None,
    ) -> Answer:
        """The server's error body."""
        raise NotImplementedError

    def refuse(self, request: RecordedRequest, message: str, param: str | None, code: str | None) -> None:
        raise RefusedError(self.problem(request, 400, message, None, param, code))

    def wrong_type(self, request: RecordedRequest, name: str, value: Any, wanted: str) -> Answer:
        text = f"Invalid type for '{name}': expected {wanted}, but got {_NAMES.get(type(value), 'null')} instead."
        return self.problem(request, 400, text, None, name, "invalid_type")

    def check_types(self, request: RecordedRequest, body: Mapping[str, Any]) -> None:
        """JSON types of the known fields; null stands for absent."""
        for name, wanted in _TYPES.items():
            value = body.get(name)
            right = isinstance(value, wanted) and (not isinstance(value, bool) or bool in wanted)
            if value is not None and not right:
                raise RefusedError(self.wrong_type(request, name, value, _NAMES[wanted[-1]]))

    def check(self, request: RecordedRequest, body: Mapping[str, Any], prompt: Prompt) -> None:
        """Validate; raises RefusedError with the server's answer."""
        self.check_messages(request, body)
        for name, (low, high) in self.ranges.items():
            value = body.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                self.refuse(request, f"Invalid type for '{name}': expected a decimal, but got a string instead.", name,
                            "invalid_type")  # fmt: skip
            elif not low <= value <= high:
                side, bound = ("above maximum", f"<= {high}") if value > high else ("below minimum", f">= {low}")
                text = f"Invalid '{name}': decimal {side} value. Expected a value {bound}, but got {value} instead."
                self.refuse(request, text, name, f"decimal_{side.split()[0]}_{'max' if value > high else 'min'}_value")
        self.check_context(request, body, prompt)

    def check_messages(self, request: RecordedRequest, body: Mapping[str, Any]) -> None:
        messages = body.get("messages")
        if messages is None:
            self.refuse(request, "Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
        if not isinstance(messages, list) or not messages:
            text = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array"
            self.refuse(request, text + " instead.", "messages", "empty_array")
            return
        called: set[str] = set()
        for index, message in enumerate(messages):
            if not isinstance(message, Mapping):
                self.refuse(request, f"Invalid type for 'messages[{index}]'.", f"messages[{index}]", "invalid_type")
                continue
            role = message.get("role")
            if role not in ("system", "developer", "user", "assistant", "tool", "function"):
                text = f"Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', and 'developer'."  # noqa: E501
                self.refuse(request, text, f"messages[{index}].role", "invalid_value")
            calls = message.get("tool_calls")
            made = calls if isinstance(calls, list) else ()
            called.update(str(item.get("id")) for item in made if isinstance(item, Mapping))
            if role == "tool" and message.get("tool_call_id") not in called:
                text = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."
                self.refuse(request, f"Invalid parameter: {text}", f"messages.[{index}].role", None)
            self.check_images(request, message, index)

    def check_images(self, request: RecordedRequest, message: Mapping[str, Any], index: int) -> None:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if not isinstance(part, Mapping) or part.get("type") != "image_url":
                continue
            link = part.get("image_url")
            url = link.get("url") if isinstance(link, Mapping) else None
            if not isinstance(url, str) or not url.startswith(("data:", "http://", "https://")):
                self.bad_image(request, "Expected a base64-encoded data URL with an image MIME type.")
            elif url.startswith("data:") and ((seen := from_data_url(url)) is None or not seen.width):
                self.bad_image(request, "The image data you provided does not represent a valid image.")

    def bad_image(self, request: RecordedRequest, why: str) -> None:
        self.refuse(request, f"Invalid image data. {why}", None, "invalid_image_format")

    def check_context(self, request: RecordedRequest, body: Mapping[str, Any], prompt: Prompt) -> None:
        if prompt.tokens > self.context:
            text = (
                f"This model's maximum context length is {self.context} tokens. However, your messages resulted in "
                f"{prompt.tokens} tokens. Please reduce the length of the messages."
            )
            self.refuse(request, text, "messages", "context_length_exceeded")
