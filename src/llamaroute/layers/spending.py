"""Keeps calls within what may be spent.

Before an attempt, the most that it may cost is set aside; afterwards what it did cost takes its place. So what is
counted is never less than what is owed, however many calls are under way, and a call that could carry the sum over
the limit is not sent.

What a host bills for an attempt that failed is not known. Its own refusals (status 400 and above) and what was never
sent count as nothing; of an answer that broke off, or that nobody waited for, the prompt and what came of it count.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from contextlib import suppress
from decimal import ROUND_CEILING, Decimal
from math import ceil
from typing import TYPE_CHECKING

from ..catalog.prices import cost_of
from ..errors import PolicyError, ProviderError
from ..pipeline.core import Call, Handler, Outcome, Reply
from ..pipeline.ops import Blocking, Plan
from ..spi import Target
from ..tokens import ESTIMATE_MARGIN, estimate_tokens, estimate_usage
from ..types.dataclass import dataclass
from ..types.response import Usage

if TYPE_CHECKING:
    from ..state.base import Counter

__all__ = ["Limit", "Spending", "nano", "spending", "usd"]

DAY = datetime.timedelta(days=1)
_NANO = Decimal(1_000_000_000)


def nano(dollars: Decimal) -> int:
    """Billionths of a dollar, rounded up: whole numbers add up alike everywhere."""
    return int((dollars * _NANO).to_integral_value(ROUND_CEILING))


def usd(amount: int) -> Decimal:
    """The dollars of so many billionths."""
    return Decimal(amount) / _NANO


@dataclass(frozen=True, slots=True)
class Limit:
    """What may be spent.

    Attributes:
        key: key of the configuration that says so.
        usd: US dollars.
        name: name of the sum it is about; without one, the call's own.
    """

    key: str
    usd: Decimal
    name: str = ""


@dataclass(frozen=True, slots=True)
class Spending:
    """All limits that hold for a call, and where sums are kept.

    `unpriced` is the key that refuses targets whose cost cannot be foreseen; empty when they are let through.
    """

    limits: tuple[Limit, ...]
    counter: Counter
    unpriced: str = ""


def spending(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer; it sits inside retry, so that each attempt is counted.

    Raises:
        PolicyError: the attempt could cost more than is left. It was not sent.
    """
    rules = call.spending
    return handler(call) if rules is None else _spending(call, handler, rules)


def _spending(call: Call, handler: Handler, rules: Spending) -> Plan[Reply]:
    ledger, target = call.ledger, call.target
    foreseen = _foreseen(call)
    if foreseen is None:
        if rules.unpriced:
            raise _unforeseen(target, rules.unpriced)
        return (yield from handler(call))
    prompt, most = foreseen
    purse = ledger.payer or ledger
    today = ledger.today
    until = datetime.datetime.combine(today + 2 * DAY, datetime.time(), datetime.UTC).timestamp()
    held: list[str] = []

    def settle(cost: int) -> None:
        purse.spent += cost - most
        for name in held:
            rules.counter.settle(name, cost - most, until)

    purse.spent += most
    sent = False
    try:
        for limit in rules.limits:
            allowed = nano(limit.usd)
            if not limit.name:
                granted, spent = purse.spent <= allowed, purse.spent - most
            else:
                name = f"{limit.name}:{today}"
                granted, spent = yield from _reserve(call, rules.counter, name, most, allowed, until)
                if granted:
                    held.append(name)
            if not granted:
                raise _too_much(target, limit, spent, most)
        sent = True
        reply = yield from handler(call)
    except GeneratorExit:  # the caller went away
        settle(prompt if sent else 0)
        raise
    except ProviderError as error:
        settle(prompt if sent and _billed(error) else 0)
        raise
    except BaseException:
        settle(0)
        raise
    if (response := reply.response) is not None:
        usage = response.usage
        settle(_cost(estimate_usage(call.request, response) if usage.estimated else usage, target))
        return reply
    reply.finishers.append(_finisher(settle, prompt, target))
    return reply


def _reserve(call: Call, counter: Counter, name: str, most: int, allowed: int, until: float) -> Plan[tuple[bool, int]]:
    """Ask for `most`. What is granted to a caller that went away meanwhile is given back by whoever sees it."""
    if not counter.blocking:
        return counter.reserve(name, most, allowed, until)
    granted: list[int] = []
    gone: list[bool] = []

    def give_back() -> None:
        with suppress(IndexError):  # of the thread and the caller, one finds it
            counter.settle(name, -granted.pop(), until)

    def reserve() -> tuple[bool, int]:
        result = counter.reserve(name, most, allowed, until)
        if result[0]:
            granted.append(most)
            if gone:
                give_back()
        return result

    try:
        result: tuple[bool, int] = yield Blocking(reserve, call.deadline)
    except BaseException:
        gone.append(True)
        give_back()
        raise
    return result


def _finisher(settle: Callable[[int], None], prompt: int, target: Target) -> Callable[[Outcome], None]:
    def finish(outcome: Outcome) -> None:
        if outcome.usage is not None:
            settle(_cost(outcome.usage, target))
        else:
            settle(prompt + _cost(Usage(output_tokens=outcome.output_tokens or 0), target))

    return finish


def _billed(error: ProviderError) -> bool:
    """Whether the host may have begun to answer."""
    return (error.status is None or error.status < 400) and error.phase not in ("queue", "connect")


def _cost(usage: Usage, target: Target) -> int:
    cost = cost_of(usage, target.row)
    return 0 if cost is None else nano(cost.usd)


def _foreseen(call: Call) -> tuple[int, int] | None:
    """What the prompt costs, and the most that the attempt may cost; None when that cannot be said."""
    request, target = call.request, call.target
    row = target.row
    if target.transport == "local" and row.input_price is None and row.output_price is None:
        return 0, 0
    if row.input_price is None or row.output_price is None:
        return None
    tokens = ceil(estimate_tokens(request) * ESTIMATE_MARGIN)
    answer = request.max_tokens or row.max_output
    if answer is None and row.context_window is not None:
        answer = max(row.context_window - tokens, 0)
    if answer is None and row.output_price:
        return None
    prompt = Usage(input_tokens=tokens)
    return _cost(prompt, target), _cost(Usage(input_tokens=tokens, output_tokens=answer or 0), target)


def _too_much(target: Target, limit: Limit, spent: int, most: int) -> PolicyError:
    when = "today" if limit.name else "by this call"
    return PolicyError(
        f"{target.name} is forbidden by {limit.key}: of ${_text(limit.usd)}, ${_text(usd(spent))} are spent or set "
        f"aside {when}, and this attempt may cost up to ${_text(usd(most))}; pass a smaller max_tokens, or raise the "
        "budget; it was not sent",
        rule=limit.key,
        target=target.name,
        limit=limit.usd,
        spent=usd(spent),
        cost=usd(most),
    )


def _unforeseen(target: Target, key: str) -> PolicyError:
    row = target.row
    if row.input_price is None or row.output_price is None:
        what = f'its price is not known; set [models."{target.model}"] input_price and output_price (0 if it is yours)'
    else:
        what = "how long its answer may become is not known; pass max_tokens"
    return PolicyError(
        f'{target.name} is forbidden by a budget: {what}, or set {key} = "allow"; it was not sent',
        rule=key,
        target=target.name,
    )


def _text(amount: Decimal) -> str:
    text = f"{amount:.6f}".rstrip("0")
    return text + "0" * max(0, 2 - len(text.partition(".")[2]))
