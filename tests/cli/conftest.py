"""The command line, run in this process (`cli`) or in one of its own (`spawn`), against the emulator."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import llamaroute
from llamaroute.cli import main
from llamaroute.emulator import Emulator

SOURCES = str(Path(llamaroute.__file__).parents[1])

# SIGINT is set anew: a process that was started in the background inherits that it is ignored.
START = """\
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from llamaroute.cli import main
sys.exit(main())
"""


@dataclass
class Result:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder and home, and none of the variables that providers are made from."""
    for name in list(os.environ):
        if name.startswith(("LLAMAROUTE_", "CLOUDFLARE_", "CF_", "HF_", "HUGGING_FACE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LLAMAROUTE_CACHE", str(tmp_path / "cache"))
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command here; `stdin` is what is piped in."""

    def run(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        code = main(arguments)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Result(code, printed.out, printed.err)

    return run


@pytest.fixture
def spawn(plain_children: None) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a command in a process of its own."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        environment = {**os.environ, "PYTHONPATH": SOURCES, **(env or {})}
        process = subprocess.Popen([sys.executable, "-c", START, *arguments], env=environment, **options)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def config(emu: Emulator) -> Path:
    """A config file in the working folder, with an OpenAI-compatible server and Cloudflare behind one route."""
    servers = emu.providers("openai", "cloudflare")
    path = Path("llamaroute.toml")
    path.write_text(
        f"""
default = "chat"
[routes.chat]
targets = ["box:llama-4-scout", "cloudflare:llama-4-scout"]
retry = {{ attempts = 2, base = 0.0, max = 0.0 }}
[routes.alone]
targets = ["box:llama-4-scout"]
retry = {{ attempts = 2, base = 0.0, max = 0.0 }}
[providers.box]
kind = "openai-compatible"
base_url = "{servers["openai"]["base_url"]}"
api_key = "{servers["openai"]["api_key"]}"
model = "llama-4-scout"
retry = 1
[providers.cloudflare]
account_id = "{servers["cloudflare"]["account_id"]}"
base_url = "{servers["cloudflare"]["base_url"]}"
api_key = "{servers["cloudflare"]["api_key"]}"
[profiles.prod]
default = "cloudflare:llama-4-scout"
"""
    )
    return path


@pytest.fixture
def png() -> Path:
    """A grey picture of 64 x 48."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\x00" + b"\x80" * 64) * 48)
    header = struct.pack(">IIBBBBB", 64, 48, 8, 0, 0, 0, 0)
    path = Path("grey.png")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path
