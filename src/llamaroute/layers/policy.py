"""Asks whether a target may be asked, and tells the caller when its model is about to end."""

from __future__ import annotations

from ..pipeline.core import Call
from ..routing.policy import check, ending, retired
from ..spi import Target

__all__ = ["admit", "permit"]


def admit(call: Call, target: Target) -> None:
    """Called before anything of a target is done: `permit`, and a notice where the model is about to end."""
    permit(call, target)
    if target.row.end_of_life is not None and (notice := ending(target, call.ledger.today)) is not None:
        call.ledger.notice(notice)


def permit(call: Call, target: Target) -> None:
    """Whether the target may be asked.

    Raises:
        PolicyError: a rule forbids it.
        ModelRetiredError: its model has ended, on a day that is documented, recorded or the user's own.
    """
    if call.rules is not None:
        check(call.request, target, call.rules)
    if target.row.end_of_life is not None and (gone := retired(target, call.ledger.today)) is not None:
        raise gone
