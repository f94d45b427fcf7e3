"""A conversation as Llama takes it on Bedrock: its rules of turns, as a pure function.

Bedrock checks more than the schema says, and for Llama more than for other families:

| rule | what is done |
|---|---|
| instructions stand apart from the conversation | system messages are taken out, wherever they stand |
| the first turn is a user's | a turn "." is put before it |
| neighbours of one role are one turn | they are made one here |
| a turn of tool results holds nothing else | an assistant's "." is put between it and what a user says next |
| an assistant's turn is text or calls, not both | text beside calls is left out |
| the results of one turn's calls stand together, right after it | results are put there; a missing one is refused |
| calls and results need tools in the request | without tools they are written as text |
| ids of calls are letters, digits and `_.:-`, names letters, digits, `_` and `-`, 64 at most | others are rewritten |
| no text is blank | blank text is left out |

Whatever was changed is told in a notice. The "." between results and text is recorded as accepted by Llama 4 Maverick:
pydantic/pydantic-ai:tests/models/cassettes/test_bedrock/test_bedrock_llama_tool_result_followed_by_text_accepted.yaml
; the refusals are quoted in strands-agents/harness-sdk issue 1223 (results beside text), in langchain-ai/langchain-aws'
and quarkiverse/quarkus-langchain4j's issue 1983 (text beside calls), and in anomalyco/opencode PR 41780 (a result that
is missing).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Literal, TypeAlias

from ..errors import CapabilityError
from ..spi import Target
from ..types.dataclass import dataclass
from ..types.messages import Message
from ..types.parts import Document, Image, Text, ToolCall, Video
from ..types.response import Notice
from ..types.tools import canonical_json

__all__ = ["Block", "Call", "Conversation", "Result", "Turn", "arrange"]

LONGEST = 64
"""Characters of a tool's name and of a call's id.
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolUseBlock.html"""
FILLER = "."
"""The text of a turn that only keeps others apart."""
NOTHING = "(no output)"
"""What a tool said that said nothing."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool, under an id and a name that Bedrock takes."""

    id: str
    call: ToolCall

    @property
    def name(self) -> str:
        """The tool's name."""
        return _fitting(self.call.name, r"[^a-zA-Z0-9_-]") or "_"


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool gave back for the call of this id."""

    id: str
    parts: tuple[Text | Image, ...]


Block: TypeAlias = Text | Image | Call | Result


@dataclass(slots=True)
class Turn:
    """One turn of the conversation as it is sent."""

    role: Literal["user", "assistant"]
    blocks: list[Block]

    @property
    def of_results(self) -> bool:
        """Whether it holds what tools gave back."""
        return any(isinstance(block, Result) for block in self.blocks)


@dataclass(slots=True)
class Conversation:
    """Instructions, turns, and what was changed on the way."""

    system: list[str] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def note(self, code: str, message: str, feature: str | None = None) -> None:
        """Tell of a change, once."""
        notice = Notice(code, message, feature)
        if notice not in self.notices:
            self.notices.append(notice)

    def add(self, role: Literal["user", "assistant"], blocks: Sequence[Block]) -> None:
        """A turn, or more of the last one."""
        if not blocks:
            return
        last = self.turns[-1] if self.turns else None
        if last is None or last.role != role:
            self.turns.append(Turn(role, list(blocks)))
        elif last.of_results:
            self.turns += [Turn("assistant", [Text(FILLER)]), Turn(role, list(blocks))]
            what = f"an assistant's turn {FILLER!r} stands between tool results and what the user says next"
            self.note("turn_inserted", what, "tools")
        else:
            last.blocks += blocks


def arrange(messages: Sequence[Message], target: Target, *, tools: bool) -> Conversation:
    """The conversation as Bedrock takes it. `tools` says whether tools go with the request.

    Raises:
        CapabilityError: a part that Bedrock does not take where it stands, a call without a result, a result without a
            call, or no text but blank one. Other hosts may take them.
    """
    made = Conversation()
    ids = _Ids()
    for answer, following in _exchanges(_said(messages, made, target)):
        calls = [call for message in answer for call in message.tool_calls]
        results, others = _pair(calls, following, target)
        if not calls:
            made.add("assistant", [text for message in answer for text in _texts(message, made, target)])
        elif tools:
            _add_blocks(made, answer, [Call(ids.of(call.id), call) for call in calls], results, target)
        else:
            _add_text(made, answer, calls, results, target)
        for message in others:
            made.add("user", _content(message, made, target))
    if not made.turns:
        raise _refused(target, "a conversation of blank text alone")
    if made.turns[0].role != "user":
        made.turns.insert(0, Turn("user", [Text(FILLER)]))
        made.note("turn_inserted", f"a user's turn {FILLER!r} stands first: no conversation begins with an answer")
    return made


def _said(messages: Sequence[Message], made: Conversation, target: Target) -> list[Message]:
    """The conversation without instructions, and without messages that say nothing: those are no turns."""
    said: list[Message] = []
    for message in messages:
        if message.role == "system":
            made.system += [text.text for text in _texts(message, made, target)]
            if said:
                made.note("system_moved", f"{target.name} takes instructions before the conversation only: moved there")
        elif message.role == "tool" or message.tool_calls or _content(message, made, target):
            said.append(message)
    return said


def _exchanges(said: Sequence[Message]) -> Iterator[tuple[list[Message], list[Message]]]:
    """An assistant's messages that stand together (none at first), and what follows up to its next ones."""
    answer: list[Message] = []
    following: list[Message] = []
    for message in said:
        if message.role != "assistant":
            following.append(message)
            continue
        if following:
            yield answer, following
            answer, following = [], []
        answer.append(message)
    yield answer, following


def _add_blocks(
    made: Conversation, answer: Sequence[Message], calls: Sequence[Call], results: Sequence[Message], target: Target
) -> None:
    """Calls, and their results in one turn after them."""
    if any(_texts(message, made, target) for message in answer):
        what = f"{target.name} takes no text beside tool calls: the text of earlier turns with calls was left out"
        made.note("text_beside_calls", what, "tools")
    made.add("assistant", calls)
    given = [tuple(_content(message, made, target)) or (Text(NOTHING),) for message in results]
    made.add("user", [Result(call.id, parts) for call, parts in zip(calls, given, strict=True)])


def _add_text(
    made: Conversation, answer: Sequence[Message], calls: Sequence[ToolCall], results: Sequence[Message], target: Target
) -> None:
    """The same in words."""
    for message in answer:
        made.add("assistant", [*_texts(message, made, target), *map(_in_words, message.tool_calls)])
    for call, result in zip(calls, results, strict=True):
        made.add("user", [Text(f"[Result of {call.name}]"), *_content(result, made, target)])
    what = f"{target.name} takes calls and results only with tools: those of earlier turns were written as text"
    made.note("tools_as_text", what, "tools")


def _pair(
    calls: Sequence[ToolCall], following: Sequence[Message], target: Target
) -> tuple[list[Message], list[Message]]:
    """The result of each call, in the calls' order, and the other messages."""
    results: list[Message | None] = [None] * len(calls)
    others: list[Message] = []
    for message in following:
        if message.role != "tool":
            others.append(message)
            continue
        # Some hosts give each of several calls the same id: then the first result is the first call's.
        waiting = (i for i, call in enumerate(calls) if results[i] is None and call.id == message.tool_call_id)
        place = next(waiting, None)
        if place is None:
            what = f"the result for call {message.tool_call_id!r} where no call waits for it"
            raise _refused(target, f"{what} (before the next answer of the assistant's, and once)")
        results[place] = message
    found = [message for message in results if message is not None]
    if len(found) < len(calls):
        missing = ", ".join(f"{c.id!r} ({c.name})" for c, m in zip(calls, results, strict=True) if m is None)
        raise _refused(target, f"calls without a result: {missing}; give each one with tool_result(call, ...)")
    return found, others


class _Ids:
    """Ids of calls as Bedrock takes them: the host's own where they fit, and each once."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def of(self, id: str) -> str:
        """The id to send for a call known as `id`."""
        base = _fitting(id, r"[^a-zA-Z0-9_.:-]") or "call"
        candidates = itertools.chain((base,), (f"{base[: LONGEST - 6]}_{n}" for n in itertools.count(2)))
        found = next(name for name in candidates if name not in self._used)
        self._used.add(found)
        return found


def _fitting(name: str, foreign: str) -> str:
    return re.sub(foreign, "_", name)[:LONGEST]


def _content(message: Message, made: Conversation, target: Target) -> list[Text | Image]:
    """Text and images of a message, without blank text."""
    return [part for part in _parts(message, target) if not isinstance(part, Text) or _speaks(part, made, target)]


def _texts(message: Message, made: Conversation, target: Target) -> list[Text]:
    """The text of a turn that can hold no images."""
    texts: list[Text] = []
    for part in _parts(message, target):
        if isinstance(part, Image):
            what = f"images in {message.role} messages"
            raise _refused(target, what)
        if _speaks(part, made, target):
            texts.append(part)
    return texts


def _parts(message: Message, target: Target) -> Iterator[Text | Image]:
    for part in message.parts:
        match part:
            case Text() | Image():
                yield part
            case Document() | Video():
                raise _refused(target, f"{type(part).__name__} parts; turn them into images first")
            case ToolCall():
                if message.role != "assistant":
                    raise _refused(target, f"tool calls in {message.role} messages")


def _refused(target: Target, what: str) -> CapabilityError:
    return CapabilityError(f"{target.name} does not take {what}", missing={target.name: what})


def _speaks(text: Text, made: Conversation, target: Target) -> bool:
    if text.text.strip():
        return True
    if text.text:  # an empty one is nothing that anybody would miss
        made.note("blank_text", f"{target.name} takes no text of blanks alone: it was left out", "text")
    return False


def _in_words(call: ToolCall) -> Text:
    return Text(f"[Called {call.name} with {call.raw_arguments or canonical_json(call.arguments)}]")
