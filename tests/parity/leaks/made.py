"""Leaks made by rule: the forms in which calls are written, the literals in them, the text around them.

`write` is the models' side of `tool_syntax.py` and shares nothing with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Call = tuple[str, Mapping[str, Any]]


def _python(value: Any, dumps: Callable[[str], str] = repr) -> str:
    match value:
        case str():
            return dumps(value)
        case dict():
            return "{" + ", ".join(f"{dumps(key)}: {_python(item, dumps)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(_python(item, dumps) for item in value) + "]"
        case _:
            return repr(value)


def _call(call: Call, dumps: Callable[[str], str] = repr, prefix: str = "", space: str = " ") -> str:
    name, arguments = call
    inside = f",{space}".join(f"{key}={_python(value, dumps)}" for key, value in arguments.items())
    return f"{prefix}{name}({inside})"


def _listed(calls: Sequence[Call], **how: Any) -> str:
    return "[" + ", ".join(_call(call, **how) for call in calls) + "]"


def _objects(calls: Sequence[Call], key: str, **more: Any) -> list[dict[str, Any]]:
    return [{**more, "name": name, key: dict(arguments)} for name, arguments in calls]


def _openai(calls: Sequence[Call], *, text: bool) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{n}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(args) if text else args},
        }
        for n, (name, args) in enumerate(calls)
    ]


def _each(objects: Sequence[Any], between: str, indent: int | None = None, plain: bool = False) -> str:
    return between.join(json.dumps(item, indent=indent, ensure_ascii=plain) for item in objects)


def _parameters(call: Call) -> str:
    name, arguments = call
    tags = "".join(f"<parameter={key}>\n{_text(value)}\n</parameter>\n" for key, value in arguments.items())
    return f"<function={name}>\n{tags}</function>"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


FORMS: Mapping[str, Callable[[Sequence[Call]], str]] = {
    "list": _listed,
    "list, JSON's quotes": lambda calls: _listed(calls, dumps=json.dumps),
    "list over lines": lambda calls: "[\n  " + ",\n  ".join(_call(call, space="\n    ") for call in calls) + "\n]",
    "list, prefixed": lambda calls: _listed(calls, prefix="functions."),
    "python_start": lambda calls: f"<|python_start|>{_listed(calls)}<|python_end|>",
    "python_start, bare": lambda calls: "<|python_start|>" + "\n".join(map(_call, calls)) + "<|python_end|>",
    "python_start, JSON": lambda calls: f"<|python_start|>{_each(_objects(calls, 'parameters'), '; ')}<|python_end|>",
    "python_tag, JSON": lambda calls: f"<|python_tag|>{_each(_objects(calls, 'parameters'), '; ')}<|eom_id|>",
    "bare": lambda calls: "; ".join(map(_call, calls)),
    "bare, commas": lambda calls: ", ".join(map(_call, calls)),
    "parameters": lambda calls: _each(_objects(calls, "parameters"), "; "),
    "parameters, lines": lambda calls: _each(_objects(calls, "parameters"), "\n"),
    "parameters, indented": lambda calls: _each(_objects(calls, "parameters"), "\n", indent=2),
    "parameters, ASCII": lambda calls: _each(_objects(calls, "parameters"), "\n", plain=True),
    "arguments": lambda calls: _each(_objects(calls, "arguments"), "\n"),
    "type function": lambda calls: _each(_objects(calls, "parameters", type="function"), "; "),
    "OpenAI": lambda calls: _each(_openai(calls, text=True), "\n"),
    "OpenAI, objects": lambda calls: json.dumps(_openai(calls, text=False)),
    "tool_calls": lambda calls: json.dumps({"tool_calls": _openai(calls, text=True)}),
    "JSON list": lambda calls: json.dumps(_objects(calls, "parameters"), ensure_ascii=False),
    "Python's dict": lambda calls: "\n".join(_python(item) for item in _objects(calls, "parameters")),
    "tool_call": lambda calls: "\n".join(
        f"<tool_call>\n{json.dumps(o)}\n</tool_call>" for o in _objects(calls, "arguments")
    ),
    "tool_call, one": lambda calls: f"<tool_call>{_each(_objects(calls, 'arguments'), chr(10))}</tool_call>",
    "tool_calls tag": lambda calls: f"<tool_calls>{json.dumps(_objects(calls, 'arguments'))}</tool_calls>",
    "function": lambda calls: "\n".join(f"<function={name}>{json.dumps(args)}</function>" for name, args in calls),
    "function, parameters": lambda calls: "\n".join(map(_parameters, calls)),
    "fence": lambda calls: f"```json\n{_each(_objects(calls, 'parameters'), chr(10))}\n```",
    "fence, plain": lambda calls: f"```\n{json.dumps(_objects(calls, 'arguments'), indent=4)}\n```",
}
"""Every form, as a function of the calls."""

WHOLE = frozenset(("bare", "bare, commas"))
"""Forms that count only as the whole answer."""
FENCES = frozenset(("fence", "fence, plain"))
"""Forms that count only where they open or end the answer."""

CONTEXTS: Mapping[str, tuple[str, str, str]] = {
    # before the calls, behind them, and what of that is text
    "alone": ("", "", ""),
    "blank lines before": ("\n\n", "", ""),
    "line end behind": ("", "\n", ""),
    "lines end in CR LF": ("\r\n", "\r\n", ""),
    "end of turn": ("", "<|eot|>", ""),
    "header before": ("<|header_start|>assistant<|header_end|>\n\n", "<|eot|>", ""),
    "a line before": ("I will look that up for you.\n", "", "I will look that up for you."),
    "a sentence before": ("Let me check that: ", "", "Let me check that:"),
    "an invented answer behind": ("", '\n\n{"ok": true, "rows": []}', '{"ok": true, "rows": []}'),
    "prose behind": ("", "\n\nThis returns what you asked for [1].", "This returns what you asked for [1]."),
    "prose around": ("One moment!\n\n", "\n\nI will tell you (soon).", "One moment! I will tell you (soon)."),
    "the next turn behind": ("", "assistant\n\nDone.", "assistant Done."),
}
_ANYWHERE = tuple(CONTEXTS)
_AROUND_WHOLE = ("alone", "blank lines before", "line end behind", "lines end in CR LF", "end of turn", "header before")
_AROUND_FENCES = ("alone", "blank lines before", "a line before", "prose behind", "an invented answer behind")

TOOLS: Mapping[str, Sequence[str]] = {
    "get_weather": ("city", "unit"),
    "search": ("query", "limit", "filters"),
    "run_code": ("code",),
    "send_mail": ("to", "subject", "body"),
    "set-alarm": ("at", "repeat"),
    "now": (),
}
CALLS: Sequence[Sequence[Call]] = (
    (("get_weather", {"city": "Oslo"}),),
    (("get_weather", {"city": "São Paulo", "unit": "c"}),),
    (("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})),
    (("now", {}),),
    (("now", {}), ("get_weather", {"city": "東京"})),
    (("search", {"query": "llama [4] (scout)", "limit": 3}),),
    (
        (
            "search",
            {"query": 'he said "yes"', "limit": -1, "filters": {"lang": ["en", "de"], "safe": True, "since": None}},
        ),
    ),
    (("search", {"query": "a,b;c=d", "filters": {"price": {"min": 0.5, "max": 1e-7}}}),),
    (("run_code", {"code": "print([i for i in range(3)])\nprint({'a': (1,)})"}),),
    (("run_code", {"code": "if x < 3 and y > 2:\n\tx = \"it's\" + '\\n'"}),),
    (("run_code", {"code": "SELECT * FROM t WHERE name = 'O''Neil' -- [x](y)"}),),
    (
        (
            "send_mail",
            {"to": ["ann@example.com", "bob@example.com"], "subject": "Hi, you", "body": "Dear Ann,\n\n{x}\n"},
        ),
    ),
    (("set-alarm", {"at": "07:30", "repeat": [1, 2, 3, 4, 5]}),),
    (("set-alarm", {"at": "7", "repeat": False}), ("now", {}), ("search", {"query": ""})),
    (("search", {"query": "emoji 🎉 and e\u0301", "filters": [[], {}, [{"a": [None]}]]}),),
    (("get_weather", {"city": "get_weather(city='x')"}),),
    (("search", {"query": "</tool_call> <|eot|> ```"}),),
    (("send_mail", {"to": "a@b.c", "subject": "[now()]", "body": '{"name": "now", "parameters": {}}'}),),
)


def fits(form: str, calls: Sequence[Call]) -> bool:
    """Whether the form can carry these arguments without changing them."""
    values = [value for _, arguments in calls for value in arguments.values()]
    if form == "function, parameters":  # has no quotes: text that reads as a value is one
        texts = [value for value in values if isinstance(value, str)]
        return not any(not t or t != t.strip() or t[0] in "0123456789-[{\"'" or "<" in t or t in _WORDS for t in texts)
    if form in ("list", "list over lines", "python_start") or form.startswith(("bare", "list")):
        return "-" not in "".join(key for _, arguments in calls for key in arguments)
    return True


_WORDS = frozenset(("True", "true", "False", "false", "None", "null"))


def contexts(form: str) -> Sequence[str]:
    """The contexts in which the form counts."""
    if form in WHOLE:
        return _AROUND_WHOLE
    if form in FENCES:
        return _AROUND_FENCES
    return _ANYWHERE


def leaks() -> Iterator[dict[str, Any]]:
    """Forms, calls and contexts: each form with every other kind of calls, and with as many contexts."""
    for row, (form, write) in enumerate(FORMS.items()):
        around = contexts(form)
        for column, calls in enumerate(CALLS):
            if (row + column) % 2 or not fits(form, calls):
                continue
            context = around[(row + column) // 2 % len(around)]
            before, behind, rest = CONTEXTS[context]
            yield {
                "id": f"{form} / {context} / {column}",
                "kind": "made",
                "tools": TOOLS,
                "text": before + write(calls) + behind,
                "calls": [[name, dict(arguments)] for name, arguments in calls],
                "rest": rest,
            }
