"""A program that asks as fast as its limits let it: `python -m tests.state.worker CONFIG-JSON THREADS SECONDS`.

Before that, it asks something without limits, so that the first request that counts is no longer on its way than the
others. Prints a line of JSON at the end: answers, errors by name, and how often it was told that limits are not shared.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter

import llamaroute as lr


def main(config: str, threads: int, seconds: float) -> None:
    said: Counter[str] = Counter()
    table = json.loads(config)
    with lr.Client({"providers": table["providers"]}, env={}) as warm:
        warm.chat("Warm-up", timeout=20)
    end = time.monotonic() + seconds
    with lr.Client(table, env={}) as client:

        def work() -> None:
            while time.monotonic() < end:
                try:
                    reply = client.chat("Hi", timeout=20)
                    said["answers"] += 1
                    said.update(notice.code for notice in reply.warnings if notice.code == "limits_not_shared")
                except lr.LlamarouteError as error:
                    said[type(error).__name__] += 1

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
