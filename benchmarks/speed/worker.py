"""One client in one process: `python -m benchmarks.speed.worker CLIENT SERVER [--hide PACKAGE]... [--engine PACKAGE]`

Reads one JSON object a line, {"task": NAME, ...}, and answers each with one line: the figures, or {"error": TEXT}. The
first line tells what the client can do. What a library prints goes to standard error.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import sys
import traceback
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("client")
    parser.add_argument("server")
    parser.add_argument("--hide", action="append", default=[])
    parser.add_argument("--engine")
    options = parser.parse_args()
    for package in options.hide:
        sys.modules[package] = None  # type: ignore[assignment] # for imports, it is not installed
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    from .tasks import Bench

    def answer(found: dict[str, Any]) -> None:
        replies.write(json.dumps(found) + "\n")

    try:
        module = importlib.import_module(f"{__package__}.clients.{options.client}")
        bench = Bench(module, options.server)
    except Exception:
        answer({"error": traceback.format_exc()[-2000:]})
        return
    faces = {name.lower(): getattr(module, name) for name in ("Sync", "Async") if hasattr(module, name)}
    able = [
        f"{mode} {name}" for mode, face in faces.items() for name in ("call", "stream", "tools") if hasattr(face, name)
    ]
    answer({"able": able})
    for line in sys.stdin:
        task = json.loads(line)
        try:
            found = getattr(bench, task.pop("task"))(**task)
            if options.engine and options.engine not in sys.modules:
                found = {"error": f"{options.engine} was not used"}
            answer(found)
        except Exception:
            answer({"error": traceback.format_exc()[-2000:]})


if __name__ == "__main__":
    main()
