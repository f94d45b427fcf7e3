"""Keeps requests out of windows they are too long for, and trims their history where the caller asked for it.

It runs once per target, before anything is adapted: each serves another window. Refused is only what is certainly too
long: more tokens than a documented, recorded or configured window holds, counted with Llama 4's own tokenizer, or more
words than that. What is only likely too long is sent, with a notice.
"""

from __future__ import annotations

from functools import partial
from math import ceil

from ..catalog import is_llama_4
from ..errors import ContextLengthError
from ..fitting import Fitted, fit
from ..pipeline.core import Call, Handler, Reply
from ..pipeline.ops import Blocking, Plan
from ..spi import Target
from ..tokens import ESTIMATE_MARGIN, TextTokens, around, at_least, at_most, count, count_message, estimate
from ..types.messages import Message
from ..types.request import ChatRequest
from ..types.response import Notice

__all__ = ["refusal", "room", "too_long", "window"]

ANSWER = 4096
"""Tokens kept free for the answer where neither the call nor the target says how long it may be."""
FRAME = 16
"""Tokens kept free besides: hosts put a few of their own around a prompt."""
TOOLS = 600
"""The same where there are tools. Some say much about them: a recorded prompt of Nscale's with two small ones has 608
tokens (pydantic/pydantic-ai:tests/models/cassettes/test_tool_choice_matrix[list_single-huggingface])."""


def window(call: Call, handler: Handler) -> Plan[Reply]:
    """The layer.

    Raises:
        ContextLengthError: the request is certainly too long for the target, or cannot be made to fit. Nothing was
            sent; `limit` and `tokens` say why.
    """
    call.ledger.trimmed = None
    budget, limit = _budget(call), call.target.row.context_window
    if budget is None and limit is None:
        return handler(call)
    most = at_most(call.request)
    if budget is not None and most > budget:
        return _trimmed(call, handler, budget)
    if limit is not None and most > limit:
        return _checked(call, handler)
    return handler(call)  # most calls


def _trimmed(call: Call, handler: Handler, budget: int) -> Plan[Reply]:
    text_tokens = yield from _text_tokens(call)
    fitted = yield Blocking(partial(_fitted, call.request, budget, text_tokens), until=call.deadline)
    _report(call, fitted, budget)
    call.ledger.trimmed = fitted.request
    return (yield from handler(call.evolve(request=fitted.request)))


def _checked(call: Call, handler: Handler) -> Plan[Reply]:
    text_tokens = yield from _text_tokens(call)
    yield Blocking(partial(_check, call, text_tokens), until=call.deadline)
    return (yield from handler(call))


def too_long(request: ChatRequest, target: Target, text_tokens: TextTokens | None = None) -> tuple[int, int] | None:
    """`(tokens, limit)` when the request certainly has more tokens than the target serves: at least so many, of so
    many. None when it fits, or when that is not certain."""
    limit = target.row.context_window
    if limit is None or not target.row.window_sure or not _is_known(target) or at_most(request) <= limit:
        return None
    tokens = at_least(request)
    if tokens <= limit and text_tokens is not None:
        tokens = at_least(request, text_tokens)
    return (tokens, limit) if tokens > limit else None


def refusal(call: Call, target: Target) -> str | None:
    """Why the target would be passed over, for `explain`; may load the tokenizer."""
    limit = target.row.context_window
    if call.fit is not None or limit is None or at_most(call.request) <= limit:
        return None
    text_tokens = call.tokenizer() if call.tokenizer is not None and _is_known(target) else None
    found = too_long(call.request, target, text_tokens)
    return None if found is None else f"{target.name}: {_why(*found)}"


def room(request: ChatRequest, target: Target) -> int | None:
    """Tokens that a prompt may have at the target so that the answer has room; None when its window is not known."""
    limit = target.row.context_window
    if limit is None:
        return None
    row = target.row
    answer = request.max_tokens or row.default_max_tokens or min(ANSWER, row.max_output or ANSWER, limit // 4)
    return max(limit - answer - FRAME - (TOOLS if request.tools else 0), 0)


def _budget(call: Call) -> int | None:
    """Tokens that the prompt is made to fit; None when nothing is trimmed."""
    if call.fit is None:
        return None
    free = room(call.request, call.target)
    if isinstance(call.fit, int):
        return call.fit if free is None else min(call.fit, free)
    if free is None:
        message = (
            f"the window of {call.target.name} is not known, so nothing was trimmed; pass fit=<tokens>, or set "
            f'[models."{call.target.model}"] context_window'
        )
        call.ledger.notice(Notice("window_unknown", message, "context"))
    return free


def _is_known(target: Target) -> bool:
    """Whether the target's tokenizer is Llama 4's."""
    return is_llama_4(target.model) or is_llama_4(target.model_id)


def _text_tokens(call: Call) -> Plan[TextTokens | None]:
    if call.tokenizer is None or not _is_known(call.target):
        return None
    found: TextTokens | None = yield Blocking(call.tokenizer, until=call.deadline)
    return found


def _fitted(request: ChatRequest, budget: int, text_tokens: TextTokens | None) -> Fitted:
    tokens, margin = (text_tokens, 1.0) if text_tokens is not None else (estimate, ESTIMATE_MARGIN)

    def weigh(message: Message) -> int:
        return ceil(count_message(message, tokens).tokens * margin)

    return fit(request, budget, weigh, ceil(around(request, tokens).tokens * margin))


def _report(call: Call, fitted: Fitted, budget: int) -> None:
    name = call.target.name
    if fitted.tokens > budget:
        raise _error(
            call.target,
            f"the request cannot be trimmed to {budget:,} tokens: without what came before, its system prompt, last "
            f"user turn and last tool step have {fitted.tokens:,}",
            fitted.tokens,
            budget,
        )
    lost = [f"{fitted.messages} of {len(call.request.messages)} messages"] if fitted.messages else []
    lost += [f"{fitted.pictures} older image{'' if fitted.pictures == 1 else 's'}"] if fitted.pictures else []
    if lost:
        message = f"{' and '.join(lost)} left out, oldest first, so that {name} takes the request ({budget:,} tokens)"
        call.ledger.notice(Notice("history_trimmed", message, "context"))


def _check(call: Call, text_tokens: TextTokens | None) -> None:
    request, target = call.request, call.target
    if (found := too_long(request, target, text_tokens)) is not None:
        raise _error(target, _why(*found), *found)
    limit = target.row.context_window or 0
    tokens = count(request, text_tokens or estimate).tokens
    if tokens > limit:
        message = f"the request has about {tokens:,} tokens, and {target.name} is said to serve {limit:,}"
        call.ledger.notice(Notice("window_exceeded", message, "context"))


def _why(tokens: int, limit: int) -> str:
    return f"the request has at least {tokens:,} tokens, and {limit:,} are served here"


def _error(target: Target, message: str, tokens: int, limit: int) -> ContextLengthError:
    remedy = 'shorten it, let fit="trim" leave out old turns, or ask a target with a larger window'
    error = ContextLengthError(
        f"{message}; {remedy}; nothing was sent", provider=target.provider, target=target.name, model=target.model
    )
    error.tokens, error.limit = tokens, limit
    return error
