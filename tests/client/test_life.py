"""One client over time: many threads and tasks, event loops, forks, signals, a configuration that changes."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import llamaroute as lr
from llamaroute import client as client_module
from llamaroute.emulator import Emulator

from .api import ASYNC, Api, box
from .raw import PATIENCE, STREAM_HEAD, Raw, Story, answer, body_of, chunk, delta, stream_of, then_silence

pytestmark = pytest.mark.usefixtures("plain_children")


def echo(connection: Any) -> None:
    """Answers what was said, so that a mix-up of answers would be seen."""
    while (request := connection.read_request()) is not None:
        connection.send(answer(body_of(request.json["messages"][0]["content"])))


# -- many at once -----------------------------------------------------------------------------------------------------


def test_one_client_for_16_threads():
    with Raw(echo) as server, lr.Client(box(server.url), env={}) as client:
        start = threading.Barrier(16)

        def work(number: int) -> list[str]:
            start.wait(PATIENCE)
            return [client.chat(f"{number}-{turn}").text for turn in range(8)]

        with ThreadPoolExecutor(16) as pool:
            texts = list(pool.map(work, range(16)))
        assert texts == [[f"{number}-{turn}" for turn in range(8)] for number in range(16)]
        assert server.accepted <= 16, "a connection for each call under way, no more"
        assert client.usage().calls == 128


@pytest.mark.parametrize("api", ASYNC, indirect=True)
async def test_one_client_for_64_tasks(api: Api):
    import anyio

    texts: dict[int, list[str]] = {}
    with Raw(echo) as server:
        async with api.client(box(server.url)) as client:

            async def work(number: int) -> None:
                texts[number] = [(await client.chat(f"{number}-{turn}")).text for turn in range(4)]

            async with anyio.create_task_group() as group:
                for number in range(64):
                    group.start_soon(work, number)
            assert client.usage().calls == 256
        assert server.accepted <= 64
    assert texts == {number: [f"{number}-{turn}" for turn in range(4)] for number in range(64)}


@pytest.mark.parametrize("api", ASYNC, indirect=True)
async def test_streams_side_by_side(api: Api):
    import anyio

    texts: list[str] = []
    with Raw(Story([stream_of(*"abcdefgh")], pause=0.002)) as server:
        async with api.client(box(server.url)) as client:

            async def work() -> None:
                async with client.stream("Hi") as stream:
                    texts.append("".join([text async for text in stream.text()]))

            async with anyio.create_task_group() as group:
                for _ in range(16):
                    group.start_soon(work)
    assert texts == ["abcdefgh"] * 16


# -- nothing left behind ----------------------------------------------------------------------------------------------


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
async def test_no_descriptors_threads_or_tasks_are_left(api: Api, emu: Emulator):
    config = box(emu.base_url("openai"), api_key=emu.key("openai"))

    async def everything() -> None:
        emu.clear()
        async with api.client(config) as client:
            await client.chat("Hi")
            async with client.stream("Hi") as stream:
                async for _ in stream:
                    pass
            async with client.stream("Hi") as stream:
                await anext(stream)
            for fault in ({"status": 500}, {"reset": True}, {"cut": 30}, {"stall": 5.0}):
                emu.fault(**fault)
                with pytest.raises(lr.ProviderError):
                    await client.chat("Hi", retry=1, timeout=0.1)

    def gone() -> bool:
        return emu.connections_open == 0

    await everything()  # what is made once per process
    wait_until(gone)
    gc.collect()
    files, threads = open_files(), threading.active_count()
    for _ in range(3):
        await everything()
    gc.collect()
    wait_until(gone)
    if api.flavour == "asyncio":
        assert asyncio.all_tasks() == {asyncio.current_task()}
    wait_until(lambda: open_files() <= files)
    assert threading.active_count() <= threads


def wait_until(condition: Any) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it never became so"
        time.sleep(0.005)


# -- event loops ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["httpx", "aiohttp"])
def test_one_async_client_in_two_event_loops(engine: Any):
    """Connections of a loop that has ended are dropped and not used again.

    Their sockets belong to that loop, which closed without them: asyncio says so when they are collected, and only
    closing the client inside the loop keeps it from that.
    """
    with Raw(Story()) as server:
        client = lr.AsyncClient(box(server.url), env={}, transport=engine)

        async def main() -> str:
            return (await client.chat("Hi")).text

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ResourceWarning)
            assert asyncio.run(main()) == "Hello"
            assert asyncio.run(main()) == "Hello"
            gc.collect()
            asyncio.run(client.aclose())
            gc.collect()
        assert server.accepted == 2


def test_one_async_client_on_asyncio_and_on_trio():
    import trio

    with Raw(Story()) as server:
        client = lr.AsyncClient(box(server.url), env={})

        async def main() -> str:
            try:
                return (await client.chat("Hi")).text
            finally:
                for _, transport in client._transports:
                    await transport.aclose()

        assert [asyncio.run(main()), trio.run(main), asyncio.run(main())] == ["Hello"] * 3
        assert server.accepted == 3
        asyncio.run(client.aclose())


@pytest.mark.parametrize("engine", ["httpx", "aiohttp"])
def test_two_event_loops_at_once(engine: Any):
    """Each has connections of its own, whichever used the client last."""
    with Raw(echo) as server:
        client = lr.AsyncClient(box(server.url), env={}, transport=engine)

        async def main(name: str) -> list[str]:
            return [(await client.chat(f"{name}-{turn}")).text for turn in range(10)]

        with warnings.catch_warnings(), ThreadPoolExecutor(2) as pool:
            warnings.simplefilter("ignore", ResourceWarning)
            texts = list(pool.map(lambda name: asyncio.run(main(name)), "ab"))
            asyncio.run(client.aclose())
            gc.collect()
    assert texts == [[f"{name}-{turn}" for turn in range(10)] for name in "ab"]


def test_an_async_client_is_made_outside_of_any_loop():
    client = lr.AsyncClient(box("http://127.0.0.1:9/v1"), env={})
    asyncio.run(client.aclose())


# -- signals and forks ------------------------------------------------------------------------------------------------


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("how", ["chat", "stream"])
def test_ctrl_c_ends_a_blocking_read_and_closes_the_connection(how: str):
    script = """
        import os, signal, sys, threading, time
        import llamaroute as lr

        table = {"kind": "openai-compatible", "base_url": sys.argv[1], "model": "m"}
        client = lr.Client({"providers": {"box": table}}, env={})
        seen = []

        def press():
            sys.stdin.readline()  # the server has the request
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=press, daemon=True).start()
        began = time.monotonic()
        try:
            if sys.argv[2] == "chat":
                client.chat("Hi")
            else:
                with client.stream("Hi") as stream:
                    for event in stream:
                        seen.append(event)
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - began < 20, flush=True)
        if sys.argv[2] == "stream":
            print(stream.response.text, stream.response.finish_reason, flush=True)
        sys.stdin.readline()  # the server has seen the end
        print("same client:", client.chat("Hi").text)
        client.close()
    """
    pieces = (STREAM_HEAD, chunk(delta("Hel"))) if how == "stream" else ()
    with Raw(then_silence(*pieces), Story()) as server:
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), server.url, how]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdin is not None
                wait_until(lambda: server.requests)
                process.stdin.write("go\n")
                process.stdin.flush()
                assert server.connections[0].gone.wait(PATIENCE), "the socket was closed while the process lives on"
                out, err = process.communicate("go\n", timeout=PATIENCE)
            finally:
                process.kill()
    assert err == ""
    expected = ["interrupted True", "same client: Hello"]
    if how == "stream":
        expected.insert(1, "Hel interrupted")
    assert out.splitlines() == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_uses_connections_of_its_own():
    script = """
        import gc, os, sys
        import llamaroute as lr

        table = {"kind": "openai-compatible", "base_url": sys.argv[1], "model": "m"}
        client = lr.Client({"providers": {"box": table}}, env={})
        assert client.chat("parent 1").text == "parent 1"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                gc.collect()
                code = 0 if client.chat("child").text == "child" else 2
                client.close()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, status
        assert client.chat("parent 2").text == "parent 2"
        client.close()
        print("fine")
    """
    with Raw(echo) as server:
        done = run_script(script, server.url)
        assert done.stdout == "fine\n", done.stderr
        assert server.accepted == 2, "the parent's own is still in use after the child has ended"
        said = [request.json["messages"][0]["content"] for request in server.requests]
        assert said == ["parent 1", "child", "parent 2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("engine", ["httpx", "aiohttp"])
def test_a_child_process_of_an_event_loop_uses_connections_of_its_own(engine: str):
    script = """
        import asyncio, gc, os, sys
        import llamaroute as lr

        table = {"kind": "openai-compatible", "base_url": sys.argv[1], "model": "m"}
        client = lr.AsyncClient({"providers": {"box": table}}, env={}, transport=sys.argv[2])

        async def say(text):
            assert (await client.chat(text)).text == text

        async def child():
            await say("child")
            await client.aclose()

        with asyncio.Runner() as runner:
            runner.run(say("parent 1"))
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    gc.collect()
                    asyncio.run(child())
                    code = 0
                finally:
                    os._exit(code)
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0, status
            runner.run(say("parent 2"))
            runner.run(client.aclose())
        print("fine")
    """
    with Raw(echo) as server:
        done = run_script(script, server.url, engine)
        assert done.stdout == "fine\n", done.stderr
        assert server.accepted == 2, "the parent's own is still in use after the child has ended"


@pytest.mark.parametrize("engine", ["httpx", "aiohttp"])
def test_an_event_loop_may_end_without_closing_anything(engine: str):
    script = """
        import asyncio, sys, warnings
        import llamaroute as lr

        warnings.simplefilter("ignore", ResourceWarning)  # Python's, of sockets whose event loop has ended
        table = {"kind": "openai-compatible", "base_url": sys.argv[1], "model": "m"}
        client = lr.AsyncClient({"providers": {"box": table}}, env={}, transport=sys.argv[2])

        async def main():
            await client.chat("Hi")
            stream = await client.stream("Hi").__aenter__()
            await anext(stream)

        asyncio.run(main())
        print("end")
    """
    with Raw(Story([answer(body_of()), stream_of("a", "b")])) as server:
        done = run_script(script, server.url, engine)
    assert done.stdout == "end\n"
    assert "Traceback" not in done.stderr
    assert "Unclosed" not in done.stderr


def test_a_process_may_end_without_closing_anything():
    script = """
        import sys
        import llamaroute as lr

        table = {"kind": "openai-compatible", "base_url": sys.argv[1], "model": "m"}
        client = lr.Client({"providers": {"box": table}}, env={})
        client.chat("Hi")
        stream = client.stream("Hi").__enter__()
        next(stream)
        print("end")
    """
    with Raw(Story([answer(body_of()), stream_of("a", "b")])) as server:
        done = run_script(script, server.url)
    assert done.stdout == "end\n"
    assert "Traceback" not in done.stderr


# -- reload -----------------------------------------------------------------------------------------------------------


def write(file: Path, config: dict[str, Any]) -> None:
    """Replace the file; its time is never the same as before."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_text(json.dumps(config))
    os.utime(file, ns=(before + 10**9, before + 10**9))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "llamaroute.json"


async def test_reload_takes_the_new_file(api: Api, file: Path):
    with Raw(Story([answer(body_of("old"))])) as old, Raw(Story([answer(body_of("new"))])) as new:
        write(file, box(old.url))
        async with api.client(file) as client:
            assert (await client.chat("Hi")).text == "old"
            write(file, box(new.url))
            assert (await client.chat("Hi")).text == "old", "not before it is told"
            client.reload()
            assert (await client.chat("Hi")).text == "new"
            assert client.usage().calls == 3, "totals go on"
            assert client.config.providers["box"].base_url == new.url


async def test_a_wrong_file_keeps_the_last_good_one(api: Api, file: Path):
    with Raw(Story()) as server:
        write(file, box(server.url))
        async with api.client(file) as client:
            for wrong in ({"providers": {"box": {"kind": "nonsense"}}}, {"provider": {}}):
                write(file, wrong)
                with pytest.raises(lr.ConfigError):
                    client.reload()
                assert (await client.chat("Hi")).text == "Hello"
            file.unlink()
            with pytest.raises(lr.ConfigError):
                client.reload()
            assert (await client.chat("Hi")).text == "Hello"


async def test_a_call_under_way_ends_with_the_old_configuration(api: Api, file: Path):
    """Its account may be gone by the time it sends."""
    client: Any = None
    with Raw(Story()) as server:
        write(file, box(server.url))
        renamed = box(server.url)
        renamed["providers"]["other"] = renamed["providers"].pop("box")

        def layer(call: Any, inner: Any) -> Any:
            write(file, renamed)
            client.reload()
            return (yield from inner(call))

        client = api.client(file, layers=[layer])
        async with client:
            assert (await client.chat("Hi", model="box")).provider == "box"
            assert (await client.chat("Hi", model="other")).provider == "other"


async def test_a_call_under_way_does_not_bring_its_old_settings_back(api: Api, file: Path):
    """An account of the same name with another proxy: the new calls go through the new one."""
    client: Any = None
    reloaded: list[bool] = []
    with Raw(Story([answer(body_of("direct"))])) as server, Raw(Story([answer(body_of("by proxy"))])) as proxy:
        write(file, box(server.url))

        def layer(call: Any, inner: Any) -> Any:
            if not reloaded:
                reloaded.append(True)
                write(file, box(server.url, proxy=f"http://127.0.0.1:{proxy.port}"))
                client.reload()
            return (yield from inner(call))

        client = api.client(file, layers=[layer])
        async with client:
            assert (await client.chat("Hi")).text == "direct"
            assert (await client.chat("Hi")).text == "by proxy"


async def test_a_stream_that_is_open_survives_a_reload(api: Api, file: Path):
    with Raw(Story([stream_of("a", "b")])) as server:
        write(file, box(server.url))
        async with api.client(file) as client:
            async with client.stream("Hi") as stream:
                await anext(stream)
                write(file, {"providers": {"other": {"kind": "openai-compatible", "base_url": server.url}}})
                client.reload()
                async for _ in stream:
                    pass
            assert stream.response.text == "ab"
            assert stream.response.provider == "box"
            assert client.usage().calls == 1


async def test_watch_takes_a_changed_file_by_itself(api: Api, file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client_module, "_WATCH", -1.0)
    with Raw(Story([answer(body_of("old"))])) as old, Raw(Story([answer(body_of("new"))])) as new:
        write(file, box(old.url))
        async with api.client(file, watch=True) as client:
            assert (await client.chat("Hi")).text == "old"
            write(file, box(new.url))
            assert (await client.chat("Hi")).text == "new"


async def test_watch_keeps_the_last_good_file_and_says_so(
    api: Api, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(client_module, "_WATCH", -1.0)
    with Raw(Story()) as server:
        write(file, box(server.url))
        async with api.client(file, watch=True) as client:
            write(file, {"providers": {"box": {"kind": "nonsense"}}})
            with caplog.at_level(logging.WARNING, logger="llamaroute"):
                assert (await client.chat("Hi")).text == "Hello"
                assert (await client.chat("Hi")).text == "Hello"
            assert len(caplog.records) == 1, "once for each change"
            assert "nonsense" in caplog.text
            write(file, box(server.url, model="other"))
            assert (await client.chat("Hi")).model == "other"


async def test_watch_looks_at_files_of_secrets_too(
    api: Api, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client_module, "_WATCH", -1.0)
    secret = tmp_path / "key"
    secret.write_text("first-key")
    with Raw(Story()) as server:
        write(file, box(server.url, api_key={"file": str(secret)}))
        async with api.client(file, watch=True) as client:
            await client.chat("Hi")
            secret.write_text("second")
            await client.chat("Hi")
    assert [request.all("authorization") for request in server.requests] == [["Bearer first-key"], ["Bearer second"]]


async def test_without_watch_nothing_is_looked_at(api: Api, file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client_module, "_WATCH", -1.0)
    with Raw(Story()) as server:
        write(file, box(server.url))
        async with api.client(file) as client:
            file.unlink()
            assert (await client.chat("Hi")).text == "Hello"
