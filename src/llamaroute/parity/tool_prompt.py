"""Tools for a target that has none, described in the prompt; calls in Llama 4's own form, `[f(a=1), g(b="x")]`.

`rewrite` turns a request with tools into one without; `tool_text.py` reads the calls out of the answer. Format:
https://github.com/meta-llama/llama-models/blob/main/models/llama4/prompt_format.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..types.messages import Message
from ..types.parts import Part, Text, ToolCall
from ..types.request import ChatRequest
from ..types.tools import Tool, canonical_json

__all__ = ["as_turns", "history", "instructed", "pythonic", "rewrite", "with_system"]


def rewrite(request: ChatRequest) -> ChatRequest:
    """The request without tools: they stand in the system message, and earlier calls and results as text."""
    messages = history(request.messages)
    if request.tools and request.tool_choice != "none":
        messages = with_system(messages, _instructions(request))
    return request.evolve(messages=messages, tools=(), tool_choice="auto", parallel_tool_calls=None)


def instructed(request: ChatRequest) -> ChatRequest:
    """The request with the host's own tools, and words in the place of a `tool_choice` that the host does not know."""
    name = request.tool_choice
    if name == "required":
        return request.evolve(
            messages=with_system(request.messages, "Answer by calling one of the tools. Do not answer in words."),
            tool_choice="auto",
        )
    only = tuple(tool for tool in request.tools if tool.name == name)
    text = f"Answer by calling the tool {name}. Do not answer in words."
    return request.evolve(messages=with_system(request.messages, text), tools=only, tool_choice="auto")


def with_system(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    """The messages with more text at the end of the system message, or as one."""
    if messages and messages[0].role == "system":
        first = messages[0]
        return (replace(first, parts=(*first.parts, Text(f"\n\n{text}"))), *messages[1:])
    return (Message("system", (Text(text),)), *messages)


def _instructions(request: ChatRequest) -> str:
    tools: tuple[Tool, ...] = request.tools
    choice = request.tool_choice
    if choice not in ("auto", "required"):
        tools = tuple(tool for tool in tools if tool.name == choice)
    functions = "\n".join(
        canonical_json({"name": tool.name, "description": tool.description, "parameters": tool.schema})
        for tool in tools
    )
    example = pythonic([ToolCall("", tools[0].name, _example(tools[0]))])
    when = (
        "When a function helps to answer, call it instead of answering. When none does, answer in words."
        if choice == "auto"
        else f"Answer by calling {'one of the functions' if choice == 'required' else choice}, and in no other way."
    )
    several = "" if request.parallel_tool_calls is False else ", separated by commas if there are several"
    return (
        f"You can call functions. {when}\n"
        f"A call is a list in square brackets on a line of its own, with nothing before or after it{several}:\n"
        f"{example}\n"
        "Arguments are given by name, as Python literals. Call only these functions, and invent no results: they come "
        f"in the next message.\nFunctions:\n{functions}"
    )


def _example(tool: Tool) -> dict[str, Any]:
    """Arguments that show the form: the required ones, with a value of their type."""
    properties = tool.schema.get("properties") or {}
    wanted = tool.schema.get("required") or list(properties)[:1]
    return {name: _sample(properties.get(name)) for name in wanted}


def _sample(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return "..."
    if choices := schema.get("enum"):
        return choices[0]
    if "default" in schema:
        return schema["default"]
    kind = schema.get("type")
    samples: dict[str, Any] = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}, "null": None}
    return samples.get(kind, "...") if isinstance(kind, str) else "..."


def pythonic(calls: list[ToolCall]) -> str:
    """Calls in Llama 4's form."""
    written = (f"{call.name}({', '.join(f'{k}={_literal(v)}' for k, v in call.arguments.items())})" for call in calls)
    return f"[{', '.join(written)}]"


def _literal(value: Any) -> str:
    """A Python literal; strings in double quotes, as the model writes them."""
    match value:
        case str():
            return canonical_json(value)  # a JSON string is a Python one
        case dict():
            return "{" + ", ".join(f"{canonical_json(str(k))}: {_literal(v)}" for k, v in value.items()) + "}"
        case list() | tuple():
            return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


def history(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Earlier calls and their results as plain turns: calls as the model writes them, results as the user's answer."""
    return as_turns(messages, _written, "{name} returned: ")


def _written(message: Message) -> tuple[Part, ...]:
    text, calls = message.text, pythonic(list(message.tool_calls))
    return (Text(f"{text}\n{calls}" if text.strip() else calls),)


def as_turns(
    messages: tuple[Message, ...], written: Callable[[Message], tuple[Part, ...]], result: str
) -> tuple[Message, ...]:
    """The conversation without calls and results.

    Args:
        messages: the conversation.
        written: what an assistant's turn with calls becomes.
        result: stands before a result, which becomes part of a user's turn; `{name}` is the tool's.
    """
    if not any(message.role == "tool" or message.tool_calls for message in messages):
        return messages
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    turns: list[Message] = []
    after_result = False
    for message in messages:
        if message.role == "tool":
            name = message.name or names.get(message.tool_call_id or "", "the function")
            parts: tuple[Part, ...] = (Text(result.format(name=name)), *message.parts)
            if after_result:
                turns[-1] = replace(turns[-1], parts=(*turns[-1].parts, Text("\n"), *parts))
            else:
                turns.append(Message("user", parts))
        elif message.tool_calls:
            turns.append(Message("assistant", written(message)))
        else:
            turns.append(message)
        after_result = message.role == "tool"
    return tuple(turns)
