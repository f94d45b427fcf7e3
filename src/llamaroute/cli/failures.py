"""How a command ends: its exit code, and what is said about an error. Never a traceback, never a secret."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

from ..errors import (
    AllTargetsFailedError,
    CapabilityError,
    ConfigError,
    InputError,
    LlamarouteError,
    OutputValidationError,
    PolicyError,
    ProviderError,
)
from .output import OutputClosedError, attempt_line, note

__all__ = ["DONE", "FAILED", "INTERRUPTED", "POLICY", "USAGE", "exit_code", "guarded", "outcome", "report"]

DONE, FAILED, USAGE, POLICY, INTERRUPTED = 0, 1, 2, 3, 130

P = ParamSpec("P")


def guarded(command: Callable[P, int | None]) -> Callable[P, None]:
    """`command` for typer: what it returns or raises becomes the exit code."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        raise typer.Exit(outcome(lambda: command(*args, **kwargs)))

    return run


def outcome(work: Callable[[], int | None]) -> int:
    """Do `work`; its exit code, whatever happens."""
    try:
        return work() or DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except (OutputClosedError, BrokenPipeError):
        return DONE  # the reader has all it wanted
    except LlamarouteError as error:
        report(error)
        return exit_code(error)
    except Exception as error:
        _unexpected(error)
        return FAILED


def exit_code(error: LlamarouteError) -> int:
    """The exit code that an error means."""
    if isinstance(error, PolicyError):
        return POLICY
    return USAGE if isinstance(error, ConfigError | InputError | CapabilityError) else FAILED


def report(error: LlamarouteError) -> None:
    """Say what went wrong, on stderr."""
    match error:
        case AllTargetsFailedError():
            note("error", error.message)
            for attempt in error.attempts:
                if attempt.error is not None:
                    note("", f"  {attempt_line(attempt)}")
        case ProviderError() if len(error.attempts) > 1:
            note("error", f"{error} (after {len(error.attempts)} attempts)")
        case OutputValidationError():
            note("error", str(error))
            for problem in error.errors:
                note("", f"  {problem}")
        case _:
            note("error", str(error))


def _unexpected(error: Exception) -> None:
    # Not its text: what an error of another library quotes may be a secret.
    note("error", f"unexpected {type(error).__name__}; run again with LLAMAROUTE_TRACEBACK=1 for the traceback")
    if os.environ.get("LLAMAROUTE_TRACEBACK") == "1":
        import traceback

        traceback.print_exception(error)
