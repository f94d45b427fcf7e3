"""Four processes share an account's limits; one is killed, and Redis with it, in the middle. What was sent is in the
emulator's own log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llamaroute.emulator import Emulator
from llamaroute.emulator.script import Fault

from ..servers.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
REQUESTS, BURST, CONCURRENCY = 1200, 120, 24
SECONDS = 14.0
ON_ITS_WAY = 0.25
"""Seconds by which one request may be longer on its way from Redis's word to the host than another."""


def start(config: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.state.worker", json.dumps(config), "12", str(SECONDS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_limits_hold_over_processes_a_kill_and_an_outage(server: RedisServer, plain_children: None):
    with Emulator() as emu:
        emu.fault(Fault(stall=0.3), times=100_000)  # answers take their time, so that calls overlap
        config = {
            "providers": {"acme": emu.providers("openai")["openai"] | {"model": "llama-4-scout", "retry": 1}},
            "limits": {"acme": {"requests_per_minute": REQUESTS, "concurrency": CONCURRENCY}},
            "state": {"url": server.url},
        }
        children = [start(config) for _ in range(4)]
        try:
            emu.wait_for(BURST, timeout=30)
            children[0].kill()
            time.sleep(2)
            server.stop()
            time.sleep(3)
            down = time.monotonic()
            server.start()
            said = []
            for child in children[1:]:
                out, err = child.communicate(timeout=60)
                assert child.returncode == 0, err
                assert err.count("does not answer") == 1, err
                assert err.count("answers again") == 1, err
                said.append(json.loads(out))
        finally:
            for child in children:
                child.kill()
                child.communicate()
        log = [(request.started, request.finished) for request in emu.requests if b"Warm-up" not in request.body]
    for counts in said:
        assert counts.keys() <= {"answers", "limits_not_shared"}, counts
        assert counts["limits_not_shared"] > 0

    starts = sorted(begin for begin, _ in log)
    rate = REQUESTS / 60
    most = max(j - i + 1 - rate * (starts[j] - starts[i]) for i in range(len(starts)) for j in range(i, len(starts)))
    under_way = [sum(b <= at < (e or at + 1) for b, e in log) for at in starts]
    calm = [n for at, n in zip(starts, under_way, strict=True) if at < down - 3.5]
    print(
        f"\n{len(starts)} requests; above the rate {most:.1f} at most (a burst is {BURST}); under way {max(under_way)}"
    )
    assert most <= BURST + rate * ON_ITS_WAY, "never more than one burst beyond the limit"
    # The emulator notes an end a moment after the client has seen it, and goes on.
    assert CONCURRENCY - 2 <= max(calm) <= CONCURRENCY + 2
    assert max(under_way) <= 2 * CONCURRENCY
    # The limits are used, too: 3 processes, an outage of 3 seconds in which a quarter of the limit is nobody's, and
    # eight seconds after it in which the fourth is still waited for.
    assert len(starts) >= 0.6 * rate * (starts[-1] - starts[0])
