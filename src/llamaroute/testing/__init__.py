"""For tests: of applications that use llamaroute, and of adapters for it.

* `emulator()`: a local server that speaks the hosts' wire formats; as a pytest fixture, `llamaroute_emulator`.
* `record(path)`, `replay(path)`: what went over the wire, written down and played back, pieces and timing kept.
* `check_adapter(spec, settings=..., samples=[Sample(...)])`: the library's own conformance checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._emulator import emulator
    from .cassette import record, replay
    from .conformance import Sample, check_adapter

_MODULES = {
    "emulator": "_emulator",
    "record": "cassette",
    "replay": "cassette",
    "Sample": "conformance",
    "check_adapter": "conformance",
}

__all__ = ["Sample", "check_adapter", "emulator", "record", "replay"]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'llamaroute.testing' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
