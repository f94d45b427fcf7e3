"""What callers pass to `chat` and `stream`: the arguments' types, and their checks, before any provider sees them.

Nothing here knows which target will answer: ranges that differ between hosts are the adapt layer's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any, Literal, TypeAlias, TypedDict

from .errors import InputError
from .layers.retry import RetryPolicy
from .output import OutputSpec
from .pipeline.core import Timeout
from .tools import as_tools
from .types.messages import Input, messages_from
from .types.parts import ToolCall
from .types.request import NUMBERS, ChatRequest
from .types.tools import Tool

__all__ = [
    "CallOptions",
    "ChatOptions",
    "OnTool",
    "RunOptions",
    "check_names",
    "given_fit",
    "given_model",
    "given_policy",
    "given_priority",
    "given_retries",
    "given_seconds",
    "given_steps",
    "given_timeout",
    "request_from",
]

MOST_URGENT = 100
_NUMBER = (int, float)

Verdict: TypeAlias = ToolCall | str | bool | None
OnTool: TypeAlias = Callable[[ToolCall], Verdict | Awaitable[Verdict]]


class CallOptions(TypedDict, total=False):
    """The keyword arguments that all calls share. Left out or None means: the host's default.

    Knobs keep the host's ranges (see `llamaroute.catalog`); a value the chosen target cannot take is a
    `CapabilityError` before anything is sent.
    """

    model: str | None
    """Route, `provider:model`, provider or model name. Default: the configuration's `default`."""
    system: str | None
    """System prompt, put before the messages."""
    tool_choice: str
    """`auto` (default), `none`, `required`, or a tool's name."""
    output_retries: int
    """How often an answer that does not fit `output` goes back to the model with what is wrong. Default: 1.
    Streams are not asked again. Of `run` and `run_stream`, also how many turns in a row may make calls that do not fit
    the tools."""
    max_tokens: int | None
    """Most tokens of the answer, at least 1."""
    temperature: float | None
    """Randomness; 0 for none."""
    top_p: float | None
    """Nucleus sampling, above 0 to 1."""
    top_k: int | None
    """Only the k likeliest tokens, at least 1."""
    seed: int | None
    """For answers that repeat, as far as the host can."""
    stop: str | Sequence[str] | None
    """Texts at which the answer ends; they are not part of it."""
    frequency_penalty: float | None
    """Penalty that grows with each use of a token."""
    presence_penalty: float | None
    """Penalty for tokens used at all."""
    repetition_penalty: float | None
    """Factor against repetition; 1 is none."""
    logprobs: bool | int | None
    """True, or how many alternatives per token to report."""
    parallel_tool_calls: bool | None
    """Whether one answer may hold several tool calls."""
    headers: Mapping[str, str] | None
    """Headers sent with this call."""
    timeout: float | Timeout | None
    """Total seconds, or a `Timeout`."""
    retry: Any
    """Attempts in all, a `RetryPolicy`, or a tenacity `Retrying`."""
    metadata: Mapping[str, str] | None
    """For observers; never sent."""
    fit: Literal["trim"] | int | None
    """Leave out what was said longest ago so that the request fits: `trim` to the target's window, or a number of
    tokens. The system prompt, the last user turn and tool calls with their results stay. Default: nothing is left
    out."""
    priority: int
    """Who goes first of the calls that wait for a free place at an account: higher ones, -100 to 100. Default: 0."""
    extra: Mapping[str, Mapping[str, Any]] | None
    """Account or kind -> keys merged last into the request's body."""


class ChatOptions(CallOptions, total=False):
    """The keyword arguments of `chat` and `stream`: `CallOptions`, and the tools."""

    tools: Sequence[Tool | Callable[..., Any] | Mapping[str, Any]]
    """Functions, `Tool`s or OpenAI-style dicts the model may call; nothing is called by `chat` and `stream`."""


class RunOptions(CallOptions, total=False):
    """The keyword arguments of `run` and `run_stream` beside `tools=`: `CallOptions`, which hold for each turn
    (`timeout` too), and those of the loop. `tool_choice` of `required` or a name forces the first turn alone."""

    max_steps: int
    """Most turns of the model. Default: 8. Calls of the last one are not carried out; see `RunResult`."""
    on_tool: OnTool | None
    """Asked before a call is carried out. Returns None or True to let it, False or a text to refuse it (the text is
    what the model is told), or a `ToolCall` to carry out instead; what it raises ends the run. May be async."""
    tool_timeout: float | None
    """Seconds that a call of a tool may take, unless the `Tool` says. Default: no limit."""
    on_error: Literal["return", "raise"]
    """What becomes of a tool that raises or takes too long: the model is told (`return`, the default), or the run ends
    with a `ToolError`."""


def request_from(input: Input, options: ChatOptions, spec: OutputSpec | None) -> ChatRequest:
    """The request that the arguments make.

    Raises:
        InputError: one of them cannot be used.
    """
    check_names(options, ChatOptions)
    system = options.get("system")
    if system is not None and not isinstance(system, str):
        raise InputError(f"system= takes text, not {type(system).__name__}")
    messages = messages_from(input, system_text=system)
    if not options and spec is None:
        return ChatRequest(messages)
    choice = options.get("tool_choice") or "auto"
    tools = options.get("tools") or ()
    return ChatRequest(
        messages=messages,
        tools=as_tools(tools, choice) if tools or choice != "auto" else (),
        tool_choice=choice,
        output=None if spec is None else spec.schema,
        **{name: _CHECKS[name](value) for name, value in options.items() if name in _CHECKS},
    )


def check_names(options: Mapping[str, Any], known: Any) -> None:
    """Refuse arguments that `known`, a TypedDict, does not have."""
    names = known.__annotations__
    if not options.keys() <= names.keys():
        unknown = options.keys() - names.keys()
        import difflib

        name = sorted(unknown)[0]
        near = difflib.get_close_matches(name, names, 1)
        raise InputError(f"there is no argument {name}={f'; did you mean {near[0]}=?' if near else ''}")


def _number(name: str, kind: type, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int if kind is int else _NUMBER):
        whole = "a whole number" if kind is int else "a number"
        raise InputError(f"{name}= takes {whole}, not {value!r}")
    if value != value or value in (inf, -inf):
        raise InputError(f"{name}= takes a finite number, not {value!r}")
    if name in ("max_tokens", "top_k") and value < 1:
        raise InputError(f"{name}= must be at least 1, not {value!r}")
    return value


def _table(name: str, kind: type, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, kind) for k, v in value.items()):
        inner = " of tables" if kind is Mapping else ""
        raise InputError(f"{name}= takes a table{inner} with names as keys, not {type(value).__name__}")
    return value


def _headers(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    # Values are not shown: they may be keys.
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise InputError("headers= takes a table of texts with names as keys")
    return {name.lower(): text for name, text in value.items()}


def given_retries(value: Any) -> int:
    """A call's `output_retries=`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"output_retries= takes a whole number from 0, not {value!r}")
    return value


def _truth(name: str, value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise InputError(f"{name}= takes True or False, not {value!r}")
    return value


def _logprobs(value: Any) -> int | None:
    if isinstance(value, bool):
        return 0 if value else None
    count: int | None = _number("logprobs", int, value)
    if count is not None and count < 0:
        raise InputError(f"logprobs= takes True or a number of alternatives from 0, not {value!r}")
    return count


def _stop(stop: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if stop is None:
        return None
    if not isinstance(stop, str | Sequence | set | frozenset):
        raise InputError(f"stop= takes a text or a list of texts, not {type(stop).__name__}")
    texts = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(text, str) and text for text in texts):
        raise InputError("stop= takes a text or a list of texts, none of them empty")
    return texts or None


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    **{name: partial(_number, name, kind) for name, kind in NUMBERS.items()},
    "logprobs": _logprobs,
    "stop": _stop,
    "parallel_tool_calls": partial(_truth, "parallel_tool_calls"),
    "headers": _headers,
    "extra": partial(_table, "extra", Mapping),
    "metadata": partial(_table, "metadata", object),
}
"""The options that are fields of the request, and what makes fields of them."""


def given_timeout(timeout: float | Timeout) -> dict[str, Any]:
    """A call's `timeout=` as the limits it sets."""
    if isinstance(timeout, Timeout):
        return {name: getattr(timeout, name) for name in ("connect", "first_token", "idle", "total")}
    return {"total": _positive("timeout=", timeout)}


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"{name} takes seconds above 0, not {value!r}")
    return float(value)


def given_seconds(name: str, value: Any) -> float | None:
    """Seconds above 0, or None for no limit."""
    return None if value is None else _positive(name, value)


def given_steps(value: Any) -> int:
    """A run's `max_steps=`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"max_steps= takes a whole number from 1, not {value!r}")
    return value


def given_policy(retry: Any) -> Any:
    """A call's `retry=` as a policy: an int, a RetryPolicy, or anything with tenacity's retry, stop and wait."""
    if retry is None or isinstance(retry, RetryPolicy):
        return retry
    if isinstance(retry, int) and not isinstance(retry, bool):
        return RetryPolicy(attempts=retry)
    if all(callable(getattr(retry, name, None)) for name in ("retry", "stop", "wait")):
        return retry
    raise InputError(f"retry= takes a number of attempts, a RetryPolicy or a tenacity Retrying, not {retry!r}")


def given_priority(value: Any) -> int:
    """A call's `priority=`."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MOST_URGENT:
        raise InputError(f"priority= takes a whole number from -{MOST_URGENT} to {MOST_URGENT}, not {value!r}")
    return value


def given_fit(value: Any) -> Literal["trim"] | int | None:
    """A call's `fit=`."""
    if value is None or value == "trim":
        return value  # type: ignore[no-any-return]
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise InputError(f"fit= takes 'trim' or a number of tokens from 1, not {value!r}")


def given_model(value: Any) -> str | None:
    """A call's `model=`."""
    if value is not None and not isinstance(value, str):
        raise InputError(f"model= takes the name of a route, a provider or a model, not {value!r}")
    return value
