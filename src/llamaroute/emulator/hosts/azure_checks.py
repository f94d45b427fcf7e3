"""What the Azure AI Model Inference API checks in a request: the ranges and types of its specification.

https://github.com/Azure/azure-rest-api-specs (specification/ai/ModelInference/models/chat_completions.tsp). The form
of a refusal (422 with pydantic's list) was seen from a serverless deployment
(https://github.com/BerriAI/litellm/issues/4800); that Llama's own backend enforces every range is inferred.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["SPEC_FIELDS", "extra_problem", "forbidden", "problems"]

_NUMBERS: dict[str, tuple[float, float]] = {
    "temperature": (0, 1),
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
}
_ROLES = ("system", "developer", "user", "assistant", "tool")
_FORMATS = ("text", "json_object", "json_schema")
_CHOICES = ("auto", "none", "required")
_OPTIONS = ["error", "drop", "pass-through"]
SPEC_FIELDS = frozenset((
    *_NUMBERS, "messages", "model", "max_tokens", "stop", "seed", "stream", "response_format", "tools", "tool_choice",
))  # fmt: skip

Problem = dict[str, Any]


def extra_problem(setting: str | None, surplus: list[str], *, lenient: bool) -> str | None:
    """Why fields that the API does not know are refused, or None.

    The words are those of Azure's own model server (https://github.com/Azure/azureml-assets,
    assets/training/model_management/environments/foundation-model-serve/context/foundation/model/serve/
    request_adapter.py). Since June 2026 it lets them through unless told otherwise (pull request 5104): `lenient`.
    """
    if setting is not None and setting not in _OPTIONS:
        return f"Unexpected EXTRA_PARAMETERS option {setting}, expected options are {_OPTIONS}"
    if not surplus or setting in ("drop", "pass-through") or (setting is None and lenient):
        return None
    return (
        f"Extra parameters {surplus} are not allowed when extra-parameters is not set or set to be 'error'. "
        "Set extra-parameters to 'pass-through' to pass to the model."
    )


def forbidden(name: str, value: Any) -> Problem:
    """A field that the backend behind the API does not know."""
    return _problem("extra_forbidden", [name], "Extra inputs are not permitted", value)


def problems(body: Mapping[str, Any]) -> list[Problem]:
    """Everything that does not fit the specification, as pydantic lists it; null stands for absent."""
    return [*_numbers(body), *_plain(body), *_messages(body.get("messages")), *_tools(body)]


def _problem(kind: str, where: list[Any], text: str, value: Any, **ctx: Any) -> Problem:
    found = {"type": kind, "loc": ["body", *where], "msg": text, "input": value}
    return {**found, "ctx": ctx} if ctx else found


def _numbers(body: Mapping[str, Any]) -> Iterator[Problem]:
    for name, (low, high) in _NUMBERS.items():
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield _problem("float_type", [name], "Input should be a valid number", value)
        elif value > high:
            text = f"Input should be less than or equal to {high}"
            yield _problem("less_than_equal", [name], text, value, le=float(high))
        elif value < low:
            text = f"Input should be greater than or equal to {low}"
            yield _problem("greater_than_equal", [name], text, value, ge=float(low))
    for name in ("max_tokens", "seed"):
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            yield _problem("int_type", [name], "Input should be a valid integer", value)
        elif name == "max_tokens" and value < 0:
            yield _problem("greater_than_equal", [name], "Input should be greater than or equal to 0", value, ge=0)


def _plain(body: Mapping[str, Any]) -> Iterator[Problem]:
    checks: dict[str, tuple[Callable[[Any], bool], str, str]] = {
        "model": (lambda v: isinstance(v, str), "string_type", "Input should be a valid string"),
        "stream": (lambda v: isinstance(v, bool), "bool_type", "Input should be a valid boolean"),
        "stop": (lambda v: isinstance(v, list), "list_type", "Input should be a valid list"),
        "response_format": (lambda v: isinstance(v, Mapping), "dict_type", "Input should be a valid dictionary"),
        "tools": (lambda v: isinstance(v, list), "list_type", "Input should be a valid list"),
    }
    for name, (holds, kind, text) in checks.items():
        if body.get(name) is not None and not holds(body[name]):
            yield _problem(kind, [name], text, body[name])
    stop = body.get("stop")
    if isinstance(stop, list):
        if not stop:
            yield _problem("too_short", ["stop"], "List should have at least 1 item after validation, not 0", stop)
        for index, word in enumerate(stop):
            if not isinstance(word, str):
                yield _problem("string_type", ["stop", index], "Input should be a valid string", word)
    form = body.get("response_format")
    if isinstance(form, Mapping) and form.get("type") not in _FORMATS:
        yield _one_of(["response_format", "type"], form.get("type"), _FORMATS)
    if isinstance(form, Mapping) and form.get("type") == "json_schema":
        schema = form.get("json_schema")
        held = schema if isinstance(schema, Mapping) else {}
        for key in ("name", "schema"):
            if key not in held:
                yield _problem("missing", ["response_format", "json_schema", key], "Field required", schema)


def _one_of(where: list[Any], value: Any, words: tuple[str, ...]) -> Problem:
    shown = ", ".join(f"'{word}'" for word in words[:-1]) + f" or '{words[-1]}'"
    return _problem("literal_error", where, f"Input should be {shown}", value, expected=shown)


def _messages(messages: Any) -> Iterator[Problem]:
    if messages is None:
        yield _problem("missing", ["messages"], "Field required", None)
    elif not isinstance(messages, list):
        yield _problem("list_type", ["messages"], "Input should be a valid list", messages)
    elif not messages:
        text = "List should have at least 1 item after validation, not 0"
        yield _problem("too_short", ["messages"], text, messages)
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        if not isinstance(message, Mapping):
            yield _problem("dict_type", ["messages", index], "Input should be a valid dictionary", message)
            continue
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES:
            yield _one_of(["messages", index, "role"], role, _ROLES)
        if role == "tool" and not isinstance(message.get("tool_call_id"), str):
            yield _problem("missing", ["messages", index, "tool_call_id"], "Field required", message)
        at = ["messages", index, "content"]
        if content is None and role == "assistant":
            continue
        if isinstance(content, str) or (isinstance(content, list) and role in ("user", "assistant")):
            yield from _parts(content, at)
        else:
            yield _problem("string_type", at, "Input should be a valid string", content)


def _parts(content: Any, at: list[Any]) -> Iterator[Problem]:
    for index, part in enumerate(content if isinstance(content, list) else ()):
        where = [*at, index]
        if not isinstance(part, Mapping):
            yield _problem("dict_type", where, "Input should be a valid dictionary", part)
        elif part.get("type") == "text":
            if not isinstance(part.get("text"), str):
                yield _problem("string_type", [*where, "text"], "Input should be a valid string", part.get("text"))
        elif part.get("type") == "image_url":
            link = part.get("image_url")
            if not isinstance(link, Mapping) or not isinstance(link.get("url"), str):
                yield _problem("missing", [*where, "image_url", "url"], "Field required", link)
        else:
            yield _one_of([*where, "type"], part.get("type"), ("text", "image_url"))


def _tools(body: Mapping[str, Any]) -> Iterator[Problem]:
    tools = body.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            yield _problem("missing", ["tools", index, "function", "name"], "Field required", tool)
    choice = body.get("tool_choice")
    if choice is None or choice in _CHOICES:
        return
    named = choice.get("function") if isinstance(choice, Mapping) else None
    if not isinstance(named, Mapping) or not isinstance(named.get("name"), str):
        yield _one_of(["tool_choice"], choice, _CHOICES)
