"""How many tokens a request has: estimated, counted with a tokenizer, or bounded from below. Pure.

Nothing here loads a tokenizer: whoever has one (`tokenizer.py`) hands in `text_tokens`, text -> tokens. Llama 4's chat
format around the texts is Meta's; hosts that serve Llama 4 render it, and their recorded counts are those given here,
or one more where a host puts a second begin-of-text before it (docs/tokens.md has the recordings).
https://github.com/meta-llama/llama-models/blob/main/models/llama4/prompt_format.md
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from pydantic_core import to_json

from .types.dataclass import dataclass
from .types.messages import Message
from .types.parts import Document, Image, Part, Text, ToolCall, Video
from .types.request import ChatRequest
from .types.response import ChatResponse, Usage
from .types.tools import Tool, canonical_json

__all__ = [
    "ESTIMATE_MARGIN",
    "Counted",
    "TextTokens",
    "TokenCount",
    "around",
    "at_least",
    "at_most",
    "count",
    "count_message",
    "estimate",
    "estimate_tokens",
    "estimate_usage",
]

TextTokens: TypeAlias = Callable[[str], int]
"""Text -> how many tokens it is."""

ESTIMATE_MARGIN = 1.36
"""Of 3,166 texts (code, documentation, interface texts in 110 languages), 95 % have at most so many times their
estimate; docs/tokens.md."""

BEGIN_OF_TEXT = 1
HEADER = 2
"""`<|header_start|>` and `<|header_end|>`; the role between them and the line breaks behind are counted as text."""
END_OF_TURN = 1
ANSWER_HEADER = 4
"""The header of the answer, which every prompt ends with: two marks, `assistant`, line breaks."""
TOOLS_INTRODUCTION = 51
"""What the format says before a list of tools. Hosts differ most here: some say ten times as much."""
LEAST_PICTURE = 144
"""Patches of one tile. Several pictures may be sent as one, so this holds for all pictures of a request together."""
UNSEEN_PICTURE = 1_300
"""A picture that was not loaded yet, so that its size is not known: most that one costs unless `detail` says more."""
UNSEEN_PAGES = 20
"""Pages of a document that was not opened yet: `[images] max_pages` unless configured otherwise."""
LARGEST_PICTURE = 2_500
"""A picture on the largest canvas of tiles, and some marks."""


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Input tokens of a request.

    `estimated` is False when the target counted them itself, or when Llama 4's own tokenizer did and nothing in the
    request is rendered differently from host to host (tools are). `target` is the one counted for, `window` the
    tokens that it serves, prompt and answer together, or None where that is not known.
    """

    tokens: int
    estimated: bool
    target: str = ""
    window: int | None = None


class Counted(NamedTuple):
    """A number of tokens, and whether every host would come to it."""

    tokens: int
    exact: bool


# -- with a tokenizer -------------------------------------------------------------------------------------------------


def count(request: ChatRequest, text_tokens: TextTokens) -> Counted:
    """Tokens of the prompt that the request becomes."""
    total, exact = around(request, text_tokens)
    for message in request.messages:
        tokens, same = count_message(message, text_tokens)
        total += tokens
        exact = exact and same
    return Counted(total, exact)


def around(request: ChatRequest, text_tokens: TextTokens) -> Counted:
    """Tokens of all that is not a message: tools, a schema, and the frame."""
    total = BEGIN_OF_TEXT + ANSWER_HEADER
    tools = request.tools if request.tool_choice != "none" else ()
    if tools:
        total += TOOLS_INTRODUCTION + sum(text_tokens(_tool_text(tool)) for tool in tools)
    if request.output is not None:
        total += text_tokens(canonical_json(request.output.schema))
    return Counted(total, not request.tools and request.output is None)


def count_message(message: Message, text_tokens: TextTokens) -> Counted:
    """Tokens of one turn, its header included."""
    role = "ipython" if message.role == "tool" else message.role
    total = HEADER + text_tokens(role) + END_OF_TURN
    exact = message.role != "tool" and not message.tool_calls
    text = "\n\n"  # in one piece with the text behind it: line breaks that follow it share its token
    for part in message.parts:
        match part:
            case Text():
                text += part.text
                continue
            case ToolCall():
                text += canonical_json({"name": part.name, "parameters": part.arguments})
                continue
            case Image():
                tokens, known = _picture(part)
            case _:  # pages and frames are pictures once the media layer has seen them
                tokens, known = _pictures(part) * UNSEEN_PICTURE, False
        total += (text_tokens(text) if text else 0) + tokens
        exact = exact and known
        text = ""
    return Counted(total + (text_tokens(text) if text else 0), exact and not _has_marks(message))


_MARK = r"<\|[a-z0-9_]+\|>"


def _has_marks(message: Message) -> bool:
    """Whether a text holds what looks like the format's own marks: hosts differ in what they make of them."""
    return any(
        "<|" in part.text and _pattern(_MARK).search(part.text) for part in message.parts if isinstance(part, Text)
    )


def _pictures(part: Part) -> int:
    """How many pictures a part becomes; of a document nobody has opened, as many as it may have."""
    match part:
        case Text() | ToolCall():
            return 0
        case Image():
            return 1
        case Document():
            return UNSEEN_PAGES if part.pages is None else len(part.pages)
        case Video():
            return part.frames


def _picture(image: Image) -> Counted:
    data = image.loaded()
    if data is None:
        return Counted(UNSEEN_PICTURE, False)
    from .media.sniff import sniff  # most calls have no picture
    from .media.tiles import image_tokens

    found = sniff(data.data)
    if found is None or not found.width or not found.height:
        return Counted(UNSEEN_PICTURE, False)
    return Counted(image_tokens(found.width, found.height), True)


def _tool_text(tool: Tool) -> str:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.schema}
    return to_json({"type": "function", "function": function}, indent=4, inf_nan_mode="null").decode() + "\n\n"


# -- bounds that hold without one -------------------------------------------------------------------------------------


def at_least(request: ChatRequest, text_tokens: TextTokens | None = None) -> int:
    """Tokens that the request has on every host of Llama 4, whatever is made of its tools, calls and pictures.

    Without a tokenizer, words are counted: the tokenizer cuts text into pieces none of which reaches over white space
    into another word, so that a word is at least a token. (A piece may hold line breaks and slashes behind
    punctuation; words of slashes alone are not counted.)
    """
    tokens = text_tokens or _words
    total = BEGIN_OF_TEXT + ANSWER_HEADER + (LEAST_PICTURE if request.images else 0)
    for message in request.messages:
        if not message.tool_calls:  # hosts that take no text beside calls are not sent it
            total += HEADER + END_OF_TURN
            total += sum(tokens(part.text.strip()) for part in message.parts if isinstance(part, Text))
    return total


def _words(text: str) -> int:
    words = text.split()
    return len(words) - sum(not word.strip("/") for word in words if word[0] == "/")


def at_most(request: ChatRequest) -> int:
    """Tokens that it can't exceed by much: the tokenizer's smallest piece is a byte. Quick, for a first look."""
    total = BEGIN_OF_TEXT + ANSWER_HEADER + 16 * len(request.messages)
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Text):
                total += _bytes(part.text)
            elif isinstance(part, ToolCall):
                total += _bytes(canonical_json({"name": part.name, "parameters": part.arguments}))
            else:
                total += _pictures(part) * LARGEST_PICTURE
    if request.tools:
        total += 1_000 + sum(_bytes(_tool_text(tool)) for tool in request.tools)  # 1,000: on tools in general
    if request.output is not None:
        total += _bytes(canonical_json(request.output.schema))
    return total


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


# -- estimates --------------------------------------------------------------------------------------------------------

_SAMPLE, _SLICES = 200_000, 50
"""Of longer texts, so many characters are looked at, in slices spread over all of it."""

_KINDS = (
    (r"[A-Za-z]+", 0.32),
    (r"[A-Za-z]", 0.20),
    (r"[0-9]{1,3}", 1.43),
    (r"[!-/:-@\[-`{-~]+", 0.74),
    (r"\s*\n\s*", 0.40),
)
"""What a text is made of, and the tokens each costs: least squares over the texts that `ESTIMATE_MARGIN` names."""

_SCRIPTS = (
    ("[\u00a0-\u024f]", 1.27),  # Latin letters with marks
    ("[\u1e00-\u1eff]", 0.10),  # Vietnamese; whole words are tokens
    ("[\u0370-\u03ff]", 0.41),  # Greek
    ("[\u0400-\u052f]", 0.33),  # Cyrillic
    ("[\u0590-\u05ff]", 0.65),  # Hebrew
    ("[\u0600-\u06ff]", 0.49),  # Arabic
    ("[\u0900-\u0dff]", 0.50),  # Indic
    ("[\u0e00-\u0eff]", 0.39),  # Thai, Lao
    ("[\u0530-\u058f\u10a0-\u10ff]", 0.60),  # Armenian, Georgian
    ("[\u3000-\u30ff\uff00-\uffef]", 0.48),  # kana and full-width forms
    ("[\u3400-\u9fff]", 0.82),  # Chinese characters
    ("[\uac00-\ud7af]", 0.69),  # Hangul
)
_OTHER = 0.90
_NOT_ASCII = r"[^\x00-\x7f]"


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """Compiled when first needed: together they are some 3 ms of a program's start."""
    return re.compile(text)


def estimate(text: str) -> int:
    """About how many tokens a text is; at least 1 unless it is empty."""
    if not text:
        return 0
    if len(text) > _SAMPLE:
        step, size = len(text) / _SLICES, _SAMPLE // _SLICES
        sample = "".join(text[int(i * step) : int(i * step) + size] for i in range(_SLICES))
        return max(1, round(_estimated(sample) * len(text) / len(sample)))
    return max(1, round(_estimated(text)))


def _estimated(text: str) -> float:
    total = sum(len(_pattern(kind).findall(text)) * cost for kind, cost in _KINDS)
    if text.isascii():
        return total
    other = len(_pattern(_NOT_ASCII).findall(text))
    for script, cost in _SCRIPTS:
        found = len(_pattern(script).findall(text))
        total += found * cost
        other -= found
    return total + other * _OTHER


def estimate_tokens(request: ChatRequest) -> int:
    """About how many input tokens a request has."""
    return count(request, estimate).tokens


def estimate_usage(request: ChatRequest, response: ChatResponse[Any]) -> Usage:
    """Usage for a host that reported none."""
    tokens_in = estimate_tokens(request)
    calls = sum(estimate(call.name + call.raw_arguments) for call in response.tool_calls)
    tokens_out = estimate(response.text) + calls
    return Usage(tokens_in, tokens_out, tokens_in + tokens_out, estimated=True)
