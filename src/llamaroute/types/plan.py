"""What would happen to a request: the result of `client.explain`, and what the layers go by."""

from __future__ import annotations

from dataclasses import field
from typing import Literal, TypeAlias

from .capability import Feature, Support
from .dataclass import dataclass
from .routing import Strategy

__all__ = ["Means", "Plan", "PlannedTarget", "Step"]

Means: TypeAlias = Literal["", "schema", "prompt", "instruction", "tool", "plain-call", "sheet"]
"""How a feature is made up.

* `schema`: a JSON Schema that allows nothing but calls stands in for tools.
* `prompt`: tools, or the JSON that is wanted, are described in the system message, and the text is read.
* `instruction`: the tools are the host's own; that one must be called is said in words, and asked again if it was not.
* `tool`: the JSON that is wanted is the argument of a tool that must be called.
* `plain-call`: the host is asked for a whole answer, of which a stream is made.
* `sheet`: several images are merged into numbered sheets.
"""


@dataclass(frozen=True, slots=True)
class Step:
    """How one feature of a request is served at one target.

    Attributes:
        feature: what the request needs.
        how: `native`, `emulate` or `refuse`.
        by: by what means it is made up; empty when it is not.
        why: why it is refused.
    """

    feature: Feature
    how: Support
    by: Means = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    """A target in the order in which a call would ask.

    Attributes:
        target: `provider:model`.
        model_id: the provider's own id.
        steps: how each feature would be served.
        refused: why the target would be passed over, unasked; empty when it would be asked.
        could_serve: other configured targets that could serve the request.
    """

    target: str
    model_id: str
    steps: tuple[Step, ...] = ()
    refused: str = ""
    could_serve: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Which targets a call would ask, in which order, and what would be made up or refused there.

    Attributes:
        targets: in order.
        route: the route's name, when the call names one or the configured default is one.
        strategy: the route's. Of those that draw or take turns, `targets` has the most likely order.
    """

    targets: tuple[PlannedTarget, ...] = field(default=())
    route: str | None = None
    strategy: Strategy = "failover"

    def __str__(self) -> str:
        lines = [] if self.strategy == "failover" else [f"strategy: {self.strategy}"]
        for number, planned in enumerate(self.targets, 1):
            lines.append(f"{number}. {planned.target} ({planned.model_id})")
            if planned.refused:
                lines.append(f"   passed over: {planned.refused}")
            lines += [f"   {step.feature}: {step.how}{f' by {step.by}' if step.by else ''}" for step in planned.steps]
        return "\n".join(lines)
