"""What tokens cost."""

from __future__ import annotations

from decimal import Decimal

from ..types.capability import ModelRow
from ..types.response import Cost, Usage

__all__ = ["cost_of"]

_MILLION = Decimal(1_000_000)


def cost_of(usage: Usage, row: ModelRow) -> Cost | None:
    """The price of `usage` by the catalogue's row, or None when it has no price. Cached tokens count in full: no host
    of Llama 4 publishes a lower price for them."""
    if row.input_price is None or row.output_price is None:
        return None
    usd = (usage.input_tokens * row.input_price + usage.output_tokens * row.output_price) / _MILLION
    return Cost(usd, usage.estimated)
