"""What is printed how: answers and data on stdout, everything about them on stderr.

Text from hosts and models is not trusted: control characters, with which a terminal can be made to do things, are
shown instead of sent wherever a terminal may read them.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from ..errors import LlamarouteError

if TYPE_CHECKING:
    from ..types.response import Attempt, ChatResponse

__all__ = [
    "OutputClosedError",
    "OutputError",
    "attempt_line",
    "note",
    "prepare_streams",
    "safe",
    "size",
    "stderr_is_terminal",
    "stdout_is_terminal",
    "summary",
    "table",
    "unwritable",
    "write",
]


class OutputClosedError(Exception):
    """Whoever read stdout has gone, such as `head -1`: no failure, but nothing is left to be done."""


class OutputError(LlamarouteError):
    """Stdout cannot be written to: a full disk, for example."""


_CONTROL: dict[int, int | None] = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t\r"}
_CONTROL |= {0x0D: None, 0x7F: 0x2421, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}
"""Control characters to their pictures (U+2400...); a carriage return, which hides what stood before it, to nothing."""

_COLOURS = {"error": "31", "warning": "33", "": "2"}


def safe(text: str) -> str:
    """`text` without control characters but line breaks and tabs."""
    return text.translate(_CONTROL)


def _stdout() -> TextIO | None:
    return sys.stdout  # None when the process was started with it closed


def _stderr() -> TextIO | None:
    return sys.stderr


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def stdout_is_terminal() -> bool:
    """Whether a person reads stdout."""
    return _is_terminal(_stdout())


def stderr_is_terminal() -> bool:
    """Whether a person reads stderr."""
    return _is_terminal(_stderr())


def prepare_streams() -> None:
    """UTF-8 into pipes and files, whatever the locale: JSON has to be, and answers hold any character."""
    stream = _stdout()
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        own = stdout_is_terminal() or "PYTHONIOENCODING" in os.environ
        reconfigure(encoding=None if own else "utf-8", errors="replace")


def write(text: str) -> None:
    """Write to stdout, at once.

    Raises:
        OutputClosedError: nobody reads it any more.
        OutputError: it cannot be written.
    """
    stream = _stdout()
    if stream is None:
        return
    try:
        stream.write(safe(text) if _is_terminal(stream) else text)
        stream.flush()
    except OSError as error:
        raise unwritable(error) from None


def unwritable(error: OSError) -> OutputClosedError | OutputError:
    """What an error of writing to stdout means. Stdout leads nowhere from here on."""
    stream = _stdout()
    if stream is not None:
        with suppress(OSError, ValueError):
            # Or Python complains, when it ends, about what is still buffered.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    # Windows says EINVAL of a pipe whose other end is closed.
    if isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL):
        return OutputClosedError()
    return OutputError(f"cannot write to standard output: {error.strerror or error}")


def note(kind: str, text: str) -> None:
    """A line on stderr: `error: ...`, `warning: ...`, or just text when `kind` is empty. Never fails."""
    stream = _stderr()
    if stream is None:
        return
    line = safe(f"{kind}: {text}" if kind else text)
    if _is_terminal(stream) and os.name != "nt" and not os.environ.get("NO_COLOR") and kind in _COLOURS:
        label, rest = (f"{kind}:", line[len(kind) + 1 :]) if kind else (line, "")
        line = f"\x1b[{_COLOURS[kind]}m{label}\x1b[0m{rest}"
    with suppress(OSError, ValueError):
        print(line, file=stream, flush=True)


def attempt_line(attempt: Attempt) -> str:
    """A failed attempt in one line: target, status, error."""
    status = "no answer" if attempt.status is None else f"status {attempt.status}"
    error = attempt.error
    said = "ok" if error is None else f"{error.type}: {' '.join(error.message.split())}"
    code = f" (code {error.code})" if error is not None and error.code else ""
    return f"{attempt.target}: {status}, {said}{code}"


def summary(response: ChatResponse[object]) -> str:
    """What an answer took: `target: tokens, cost, seconds`."""
    usage, cost = response.usage, response.cost
    about = "about " if usage.estimated else ""
    tokens = f"{about}{usage.input_tokens} + {usage.output_tokens} tokens"
    price = "no price known" if cost is None else f"{'about ' if cost.estimated else ''}${cost.usd:.6f}"
    tries = len(response.attempts)
    retried = f", {tries} attempts" if tries > 1 else ""
    return f"{response.target}: {tokens}, {price}, {response.timing.total:.2f} s{retried}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as columns, the first one their heads."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


def size(count: int) -> str:
    """Bytes as people write them: `98.4 MB`."""
    value = float(count)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
