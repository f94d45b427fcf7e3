"""What `run` gives back: the model's turns, the tools' results, and what they came to."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from .dataclass import dataclass
from .events import ToolResult
from .messages import Message
from .parts import ToolCall
from .response import ChatResponse, Cost, FinishReason, Notice, Usage

__all__ = ["RunFinish", "RunResult", "Step", "sum_cost", "sum_usage"]

T = TypeVar("T")

if TYPE_CHECKING:
    Step: TypeAlias = ChatResponse[Any] | ToolResult
else:
    Step = ChatResponse | ToolResult  # with its parameter, pydantic would build the whole response's schema here

RunFinish: TypeAlias = FinishReason | Literal["max_steps"]


@dataclass(frozen=True, slots=True)
class RunResult(Generic[T]):
    """What a tool loop came to.

    Args:
        steps: every model turn (`ChatResponse`) and tool result (`ToolResult`), in order.
        messages: the whole conversation, the input and its system prompt included. Append a turn and pass it on to
            `chat` or `run` (without `system=`). Where it ends with calls that were not carried out, `run` begins with
            those.
        finish_reason: the last turn's; `max_steps` when the model still wanted to call tools (see `tool_calls`) and
            might not; `interrupted` when the stream was left.
    """

    steps: tuple[Step, ...]
    messages: tuple[Message, ...]
    finish_reason: RunFinish

    @property
    def responses(self) -> tuple[ChatResponse[Any], ...]:
        """The model's turns."""
        return tuple(step for step in self.steps if isinstance(step, ChatResponse))

    @property
    def results(self) -> tuple[ToolResult, ...]:
        """The tools' results."""
        return tuple(step for step in self.steps if isinstance(step, ToolResult))

    @property
    def response(self) -> ChatResponse[T]:
        """The last turn; an empty one when none came to an end."""
        responses = self.responses
        return responses[-1] if responses else ChatResponse()

    @property
    def text(self) -> str:
        """The last turn's text."""
        return self.response.text

    @property
    def output(self) -> T | None:
        """The validated object, when `output=` was given; None when the run ended before an answer."""
        return self.response.output

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Calls that were not carried out: those of the last turn, when `max_steps` was reached."""
        return self.response.tool_calls if self.finish_reason == "max_steps" else ()

    @property
    def usage(self) -> Usage:
        """Tokens of all turns together."""
        return sum_usage([response.usage for response in self.responses])

    @property
    def cost(self) -> Cost | None:
        """Cost of all turns together; None when one of them has no price."""
        return sum_cost([response.cost for response in self.responses])

    @property
    def warnings(self) -> tuple[Notice, ...]:
        """The warnings of all turns, each once."""
        notices = [notice for response in self.responses for notice in response.warnings]
        if self.finish_reason == "max_steps":
            names = ", ".join(call.name for call in self.tool_calls)
            notices.append(
                Notice("max_steps", f"the run ended after its last allowed turn; not called: {names}", "tools")
            )
        return tuple(dict.fromkeys(notices))


def sum_usage(usages: Sequence[Usage]) -> Usage:
    """Tokens of several answers together; `raw` is the last one's."""
    return Usage(
        sum(usage.input_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
        sum(usage.total_tokens for usage in usages),
        None if all(usage.cached_tokens is None for usage in usages) else sum(u.cached_tokens or 0 for u in usages),
        estimated=any(usage.estimated for usage in usages),
        raw=usages[-1].raw if usages else None,
    )


def sum_cost(costs: Sequence[Cost | None]) -> Cost | None:
    """Cost of several answers together; None when one of them has no price."""
    known = [cost for cost in costs if cost is not None]
    if not known or len(known) < len(costs):
        return None
    return Cost(sum((cost.usd for cost in known), Decimal(0)), any(cost.estimated for cost in known))
