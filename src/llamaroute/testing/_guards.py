"""Guards around an adapter's calls: a look at clock, chance, environment, files or network fails and is noted."""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["guarded"]

_FORBIDDEN: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("time", ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"), "the clock"),
    ("random", ("random", "randint", "randrange", "choice", "uniform", "getrandbits"), "chance"),
    ("secrets", ("token_hex", "token_bytes", "token_urlsafe"), "chance"),
    ("uuid", ("uuid1", "uuid4"), "chance"),
    ("os", ("urandom", "getenv"), "chance or the environment"),
    ("builtins", ("open",), "a file"),
    ("io", ("open",), "a file"),
    ("os", ("open", "stat", "listdir", "scandir"), "a file"),
    ("socket", ("socket", "create_connection", "getaddrinfo"), "the network"),
)


class _NoEnvironment(dict[str, str]):
    def __init__(self, seen: Callable[[str], None]) -> None:
        super().__init__()
        self._seen = seen

    def __getitem__(self, key: str) -> str:
        self._seen(f"reads the environment ({key})")
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        """See `dict`."""
        self._seen(f"reads the environment ({key})")
        return default

    def __contains__(self, key: object) -> bool:
        self._seen(f"reads the environment ({key})")
        return False

    def __iter__(self) -> Iterator[str]:
        self._seen("reads the environment")
        return iter(())


@contextmanager
def guarded(texts: tuple[str, ...]) -> Iterator[list[str]]:
    """Whatever an adapter must not touch fails in this thread, and is noted. Other threads notice nothing."""
    here = threading.get_ident()
    seen: list[str] = []
    undo: list[tuple[Any, str, Any]] = []

    def note(what: str) -> None:
        if what not in seen:
            seen.append(what)

    def forbid(module: Any, name: str, what: str) -> None:
        real = getattr(module, name)

        def guard(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != here:
                return real(*args, **kwargs)
            note(f"touches {what} ({module.__name__}.{name})")
            raise RuntimeError(f"an adapter is pure: it may not call {module.__name__}.{name}")

        undo.append((module, name, real))
        setattr(module, name, guard)

    def handle(logger: logging.Logger, record: logging.LogRecord) -> None:
        if threading.get_ident() == here and any(text in record.getMessage() for text in texts):
            note(f"logs a body ({record.name})")

    try:
        for module_name, names, what in _FORBIDDEN:
            for name in names:
                forbid(importlib.import_module(module_name), name, what)
        undo.append((os, "environ", os.environ))
        os.environ = _NoEnvironment(note)  # type: ignore[assignment]  # noqa: B003
        undo.append((logging.Logger, "handle", logging.Logger.handle))
        logging.Logger.handle = handle  # type: ignore[method-assign, assignment]
        yield seen
    finally:
        for owner, name, real in reversed(undo):
            setattr(owner, name, real)
