"""The emulator as a context manager and as the body of a pytest fixture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..emulator import Emulator

__all__ = ["emulator"]


@contextmanager
def emulator(**options: Any) -> Iterator[Emulator]:
    """A started `Emulator(**options)`, stopped at the end.

    ```python
    with emulator(replies=["Hello!"]) as emu: ...


    @pytest.fixture
    def emu():
        with emulator() as running:
            yield running
    ```
    """
    with Emulator(**options) as running:
        yield running
