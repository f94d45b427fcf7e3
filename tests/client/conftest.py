"""Runs async tests that ask for `api` four times: blocking, on asyncio with both engines, and on trio."""

from __future__ import annotations

import gc
import inspect
import os
from collections.abc import Iterator

import pytest

from llamaroute.emulator import Emulator

from .api import FLAVOURS, Api


@pytest.fixture(scope="session")
def _quick_collection() -> None:
    """Lets `gc.collect` look at what came after this alone: the modules loaded make it slow otherwise."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=FLAVOURS)
def api(request: pytest.FixtureRequest, _quick_collection: None) -> Iterator[Api]:
    yield Api(request.param)
    gc.collect()  # what was left open is noticed here, in the test that left it (warnings are errors)


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or "api" not in pyfuncitem.funcargs:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    api: Api = pyfuncitem.funcargs["api"]
    api.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
