"""Cancelling, deadlines, threads, event loops, and the end of the process."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from local_helpers import answer, ask, chat, events, send, soon

from llamaroute.errors import ConnectionError, TimeoutError
from llamaroute.pipeline.ops import Signal
from llamaroute.transport.local import AsyncLocalResponse, AsyncLocalTransport, LocalResponse, LocalTransport

pytestmark = pytest.mark.usefixtures("plain_children")

LONG = chat("Tell a very long story.", max_tokens=3500, ignore_eos=True)


def engine_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "llamaroute-local"]


def read_late(response: LocalResponse) -> None:
    """Read faster than the model writes."""
    while response.read(time.monotonic() - 1, "idle"):
        pass


async def read_late_async(response: AsyncLocalResponse) -> None:
    while await response.read(time.monotonic() - 1, "idle"):
        pass


def no_thread_left(seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while engine_threads() and time.monotonic() < end:
        time.sleep(0.005)
    return not engine_threads()


@pytest.fixture(scope="module")
def whole(transport: LocalTransport) -> float:
    """Seconds that the long answer takes when nobody stops it."""
    started = time.monotonic()
    assert answer(transport, LONG)["usage"]["completion_tokens"] == 3500
    return time.monotonic() - started


@pytest.mark.parametrize("stream", [True, False])
def test_closing_ends_generation(transport: LocalTransport, whole: float, stream: bool) -> None:
    response = transport.open(send({**LONG, "stream": stream}))
    response.read(soon(), "idle")
    response.close()
    started = time.monotonic()
    assert answer(transport, chat(max_tokens=2))["usage"]["completion_tokens"] == 2
    # There is one slot: had generation gone on, this answer would have had to wait for its end.
    assert time.monotonic() - started < whole / 3
    assert no_thread_left()
    response.close()


def test_dropping_a_response_ends_generation(transport: LocalTransport) -> None:
    response = transport.open(send({**LONG, "stream": True}))
    del response
    assert no_thread_left()


def test_cancelling_while_the_prompt_is_read(settings: Any) -> None:
    transport = LocalTransport(settings(vision=False, context=8192), account="local")
    try:
        ask(transport, chat(max_tokens=1))
        started = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            transport.open(send(chat("word " * 3900), answer=0.1))
        assert caught.value.phase == "first_token"
        assert no_thread_left(3)
        assert time.monotonic() - started < 3
    finally:
        transport.close()


def test_a_leg_that_is_left_ends(transport: LocalTransport) -> None:
    """Another thread has the answer of another target: this one stops at the next token, also before its headers."""
    stop = Signal()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    started = time.monotonic()
    with contextlib.suppress(ConnectionError):  # it has its headers already, or is told
        transport.open(replace(send({**LONG, "stream": False}), stop=stop)).close()
    timer.join()
    assert no_thread_left()
    with pytest.raises(ConnectionError, match="given up"):  # set before it began
        transport.open(replace(send(LONG), stop=stop))
    assert no_thread_left()
    assert time.monotonic() - started < 10


def test_deadlines_say_their_phase(transport: LocalTransport) -> None:
    with pytest.raises(TimeoutError) as caught:
        transport.open(send(LONG, total=0.0))
    assert caught.value.phase == "total"
    assert not caught.value.retryable
    response = transport.open(send({**LONG, "stream": True}))
    response.read(soon(), "idle")
    with pytest.raises(TimeoutError) as caught:
        read_late(response)
    assert caught.value.phase == "idle"
    assert no_thread_left()


def test_waiting_for_a_slot_can_be_given_up(transport: LocalTransport) -> None:
    first = transport.open(send({**LONG, "stream": True}))
    with pytest.raises(TimeoutError):
        transport.open(send(chat(), answer=0.05))
    assert len(engine_threads()) <= 2
    first.close()
    assert no_thread_left()
    assert ask(transport, chat())[0] == 200


def test_slow_reader_holds_the_engine(transport: LocalTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    from llamaroute.transport import local_job

    monkeypatch.setattr(local_job, "MAX_BUFFER", 2000)
    response = transport.open(send({**chat("Hi", max_tokens=200, ignore_eos=True), "stream": True}))
    time.sleep(0.3)
    body, largest = b"", 0
    while data := response.read(soon(), "idle"):
        largest = max(largest, len(data))
        body += data
    response.close()
    assert largest < 4000
    assert events(body)[-2]["usage"]["completion_tokens"] == 200


def test_four_threads_share_an_engine(settings: Any) -> None:
    transport = LocalTransport(settings(parallel=2), account="local")
    try:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda i: ask(transport, chat(f"Say {i}")), range(12)))
        assert {status for status, _ in answers} == {200}
        assert no_thread_left()
    finally:
        transport.close()


def test_engine_starts_once(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = LocalTransport(settings(), account="local")
    starts: list[int] = []
    start = transport.engine._start
    monkeypatch.setattr(transport.engine, "_start", lambda: (starts.append(1), start())[1])
    try:
        with ThreadPoolExecutor(4) as pool:
            assert {status for status, _ in pool.map(lambda _: ask(transport, chat()), range(4))} == {200}
        assert len(starts) == 1
    finally:
        transport.close()


def test_time_runs_out_while_the_engine_starts(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = LocalTransport(settings(), account="local")
    starts, start, go_on = [], transport.engine._start, threading.Event()
    monkeypatch.setattr(transport.engine, "_start", lambda: (starts.append(1), go_on.wait(10), start())[-1])
    try:
        with pytest.raises(TimeoutError) as caught:
            transport.open(send(chat(), total=0.1))
        assert caught.value.phase == "total"
        go_on.set()
        assert ask(transport, chat())[0] == 200
        assert len(starts) == 1
    finally:
        transport.close()


def test_close_ends_what_runs(settings: Any) -> None:
    transport = LocalTransport(settings(), account="local")
    response = transport.open(send({**LONG, "stream": True}))
    assert response.head.connect > 0
    started = time.monotonic()
    transport.close()
    transport.close()
    assert time.monotonic() - started < 3
    assert not engine_threads()
    with pytest.raises(ConnectionError, match="closed"):
        transport.open(send(chat()))
    response.close()


def test_the_engines_own_port_is_closed_to_others(transport: LocalTransport) -> None:
    ask(transport, chat())
    address = urlsplit(transport.engine.server().listening_address)
    assert address.hostname == "127.0.0.1"
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=5)
    connection.request("POST", "/v1/chat/completions", json.dumps(chat()), {"content-type": "application/json"})
    assert connection.getresponse().status == 401
    connection.close()


# -- event loops ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["asyncio", "trio"])
def loop(request: pytest.FixtureRequest) -> str:
    return request.param


async def collect(transport: AsyncLocalTransport, body: Any) -> tuple[int, bytes]:
    response = await transport.open(send(body))
    try:
        data = b""
        while piece := await response.read(soon(), "idle"):
            data += piece
        return response.head.status, data
    finally:
        await response.aclose()


def test_async_answers_leave_the_loop_free(loop: str, settings: Any) -> None:
    async def main() -> None:
        transport = AsyncLocalTransport(settings(parallel=2), account="local")
        await collect(transport, chat())  # loading holds the interpreter's lock
        ticks, over = 0, anyio.Event()

        async def tick() -> None:
            nonlocal ticks
            while not over.is_set():
                await anyio.sleep(0.001)
                ticks += 1

        results: list[tuple[int, bytes]] = []

        async def one(stream: bool) -> None:
            results.append(await collect(transport, {**chat(max_tokens=300, ignore_eos=True), "stream": stream}))

        async with anyio.create_task_group() as outer:
            outer.start_soon(tick)
            async with anyio.create_task_group() as group:
                for stream in (True, False, True, False):
                    group.start_soon(one, stream)
            over.set()
        assert [status for status, _ in results] == [200] * 4
        assert ticks > 50, "other tasks went on all the while"
        await transport.aclose()

    anyio.run(main, backend=loop)
    assert no_thread_left()


def test_async_cancellation_ends_generation(loop: str, settings: Any, whole: float) -> None:
    async def main() -> float:
        transport = AsyncLocalTransport(settings(), account="local")
        await collect(transport, chat())
        with anyio.move_on_after(0.1) as scope:
            await collect(transport, LONG)
        assert scope.cancelled_caught
        with anyio.move_on_after(0.1) as scope:
            await collect(transport, {**LONG, "stream": True})
        assert scope.cancelled_caught
        started = time.monotonic()
        assert (await collect(transport, chat(max_tokens=1)))[0] == 200
        took = time.monotonic() - started
        await transport.aclose()
        return took

    assert anyio.run(main, backend=loop) < whole / 3
    assert no_thread_left()


def test_async_deadlines_and_errors(loop: str, settings: Any) -> None:
    async def main() -> None:
        transport = AsyncLocalTransport(settings(), account="local")
        assert (await collect(transport, chat("word " * 9000)))[0] == 400
        with pytest.raises(TimeoutError) as caught:
            await transport.open(send(chat("a b " * 1500), answer=0.0))
        assert caught.value.phase == "first_token"
        response = await transport.open(send({**LONG, "stream": True}))
        with pytest.raises(TimeoutError) as caught:
            await read_late_async(response)
        assert caught.value.phase == "idle"
        await response.aclose()
        await transport.aclose()

    anyio.run(main, backend=loop)
    assert no_thread_left()


def test_a_loop_that_ends_leaves_nothing(loop: str, settings: Any) -> None:
    transport = AsyncLocalTransport(settings(), account="local")

    async def main() -> None:
        await transport.open(send({**LONG, "stream": True}))  # dropped without being closed

    anyio.run(main, backend=loop)
    assert no_thread_left()
    anyio.run(transport.aclose, backend=loop)


# -- processes --------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys, time
sys.path[:0] = {paths!r}
from local_helpers import chat, send, soon
from llamaroute.providers.local import LocalSettings
from llamaroute.transport.local import LocalTransport
options = LocalSettings.model_validate_json({options!r})
transport = LocalTransport(options, account="local")
response = transport.open(send({{**chat(max_tokens=3900, ignore_eos=True), "stream": True}}))
print("begun", flush=True)
{rest}
"""


def program(settings: Any, rest: str) -> list[str]:
    paths = [os.path.dirname(__file__), *sys.path]
    return [sys.executable, "-c", PROGRAM.format(paths=paths, options=settings().model_dump_json(), rest=rest)]


def test_the_process_may_end_in_the_middle_of_an_answer(settings: Any) -> None:
    ended = subprocess.run(program(settings, ""), capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "begun\n", "")


def test_interrupt_reaches_the_program(settings: Any) -> None:
    rest = (
        "try:\n    while response.read(soon(), 'idle'): time.sleep(0.01)\n"
        "except KeyboardInterrupt:\n    response.close(); print('stopped')"
    )
    process = subprocess.Popen(program(settings, rest), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "stopped\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_told(settings: Any) -> None:
    rest = """
import os
response.close()
from llamaroute.errors import ConnectionError
child = os.fork()
if child == 0:
    try: transport.open(send(chat()))
    except ConnectionError as error: print("child:", "forked" in str(error), flush=True)
    os._exit(0)  # as multiprocessing does; the engine has a thread that a normal exit would wait for
print(os.waitpid(child, 0)[1])
"""
    ended = subprocess.run(program(settings, rest), capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "begun\nchild: True\n0\n")
