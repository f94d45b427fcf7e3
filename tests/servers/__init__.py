"""Real servers for end-to-end tests, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LlamaCpp", "start_llamacpp"]


@dataclass(frozen=True)
class LlamaCpp:
    """A running llama.cpp server. `url` has no path; OpenAI clients want `url + "/v1"`."""

    url: str
    key: str | None

    def wait_ready(self, seconds: float = 120.0) -> None:
        """Until the model is loaded."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except urllib.error.HTTPError as error:
                error.close()
            except OSError:
                pass
            time.sleep(0.02)
        raise TimeoutError(f"{self.url} was not ready after {seconds} s")


@contextmanager
def start_llamacpp(
    model: str | os.PathLike[str],
    mmproj: str | os.PathLike[str] | None = None,
    key: str | None = None,
    ctx: int = 4096,
    delay_load: float = 0.0,
    *,
    alias: str | None = None,
    parallel: int = 2,
    template: str | os.PathLike[str] | None = None,
    wait: bool = True,
) -> Iterator[LlamaCpp]:
    """Start the server and, unless `wait` is False, wait until the model is loaded; ends it on the way out.

    With `wait=False` it answers 503 "Loading model" first: for `delay_load` seconds, and for as long as loading takes.
    """
    command = [sys.executable, str(Path(__file__).with_name("llamacpp_server.py")), os.fspath(model)]
    for name, value in (
        ("--mmproj", mmproj),
        ("--key", key),
        ("--ctx", ctx),
        ("--parallel", parallel),
        ("--alias", alias),
        ("--template", template),
        ("--delay-load", delay_load or None),
    ):
        if value is not None:
            command += [name, os.fspath(value) if isinstance(value, os.PathLike) else str(value)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline().split()
        if len(line) != 2 or line[0] not in ("listening", "ready"):
            raise RuntimeError(f"the llama.cpp server did not start (exit code {process.wait(10)})")
        # Whatever else it prints must not fill the pipe.
        drain = threading.Thread(target=process.stdout.read, daemon=True)
        drain.start()
        server = LlamaCpp(line[1], key)
        if wait:
            server.wait_ready()
        yield server
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
