"""What a program costs before it has done anything: from its start to its first answer, and on the disk."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .catalogue import Client
from .processes import ROOT, environ

_PROGRAM = """
import sys
sys.modules.update(dict.fromkeys({hide!r}))
from benchmarks.speed.clients import {file} as client
from benchmarks.speed.answers import TEXT
if hasattr(client, "Sync") and not {asynchronous}:
    found = client.Sync({base!r}).call("hi")
else:
    import asyncio
    async def first():
        made = client.Async({base!r})
        found = await made.call("hi")
        await made.aclose()
        return found
    found = asyncio.run(first())
sys.exit(found != TEXT or {engine!r} not in (None, *sys.modules))
"""


def _process(client: Client, python: str, src: Path, server: str) -> dict[str, Any]:
    program = _PROGRAM.format(
        hide=client.hide,
        file=client.file,
        engine=client.engine,
        asynchronous=client.engine is not None,
        base=f"{server}/chunks=1",
    )
    began = time.perf_counter()
    with subprocess.Popen(
        [python, "-c", program], cwd=ROOT, env=environ(src), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        return {"error": said.decode()[-2000:] or "the first answer is wrong"}
    return {"cpu_ms": (used.ru_utime + used.ru_stime) * 1e3, "wall_ms": (time.perf_counter() - began) * 1e3}


@cache
def _warm(client: Client, python: str, src: Path, server: str) -> None:
    """Once before what is measured: bytecode is written, and files are in memory."""
    _process(client, python, src, server)


def start(client: Client, python: str, src: Path, server: str) -> dict[str, Any]:
    """CPU and wall-clock time of a process that imports a client, makes one and waits for one answer."""
    _warm(client, python, src, server)
    return _process(client, python, src, server)


def installed(client: Client, python: str, src: Path, server: str) -> dict[str, Any]:
    """Distributions of an environment, without pip and what it brings, and their megabytes without bytecode."""
    places = list(Path(python).parents[1].glob("lib/python*/site-packages"))
    if len(places) != 1 or not any(Path(python).parents[1].glob("made-from")):
        return {"error": "only in an environment of the client's own"}
    tools = ("pip", "setuptools", "pkg_resources")
    count = sum(not path.name.startswith(tools) for path in places[0].glob("*.dist-info"))
    size = _size(path for path in places[0].iterdir() if not path.name.startswith((*tools, "_distutils", "distutils-")))
    if client.file.startswith("llamaroute"):
        count, size = count + 1, size + _size([src / "llamaroute"])
    return {"mb": size / 1e6, "distributions": count}


def _size(paths: Any) -> int:
    files = (file for path in paths for file in ([path] if path.is_file() else path.rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file() and "__pycache__" not in file.parts)


FIGURES: Mapping[str, Callable[[Client, str, Path, str], dict[str, Any]]] = {"start": start, "installed": installed}
