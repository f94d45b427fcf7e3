"""Guards around an adapter's calls: a look at clock, chance, environment, files or network fails and is noted."""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
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


class _Environment(dict[str, str]):
    """Stands in for `os.environ`: notes who looks. Other threads see the real one."""

    def __init__(self, real: Mapping[str, str], note: Callable[[str], None]) -> None:
        super().__init__()
        self._real, self._note, self._here = real, note, threading.get_ident()

    def _seen(self, key: object) -> Mapping[str, str]:
        if threading.get_ident() != self._here:
            return self._real
        self._note(f"reads the environment ({key})")
        return {}

    def __getitem__(self, key: str) -> str:
        return self._seen(key)[key]

    def get(self, key: str, default: Any = None) -> Any:
        """See `dict`."""
        return self._seen(key).get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._seen(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen("all of it"))


@contextmanager
def guarded(bodies: tuple[str, ...]) -> Iterator[list[str]]:
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

    def log(logger: logging.Logger, level: int, message: object, arguments: Any, *rest: Any, **more: Any) -> None:
        if threading.get_ident() != here:
            real_log(logger, level, message, arguments, *rest, **more)
            return
        text = str(message) % arguments if arguments else str(message)
        if any(body in text for body in bodies):
            note(f"logs a body ({logger.name})")

    def enabled(logger: logging.Logger, level: int) -> bool:
        return threading.get_ident() == here or real_enabled(logger, level)

    real_log, real_enabled = logging.Logger._log, logging.Logger.isEnabledFor

    try:
        for module_name, names, what in _FORBIDDEN:
            for name in names:
                forbid(importlib.import_module(module_name), name, what)
        undo.append((os, "environ", os.environ))
        os.environ = _Environment(os.environ, note)  # type: ignore[assignment]  # noqa: B003
        # Below the level of the logger's own, so that a debug line counts although nobody listens here.
        for name, stand_in in (("_log", log), ("isEnabledFor", enabled)):
            undo.append((logging.Logger, name, getattr(logging.Logger, name)))
            setattr(logging.Logger, name, stand_in)
        yield seen
    finally:
        for owner, name, real in reversed(undo):
            setattr(owner, name, real)
