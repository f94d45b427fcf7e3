"""What only shows in a process of its own: signals, pipes, missing packages, start-up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import llamaroute
from llamaroute import ChatResponse
from llamaroute.emulator import Reply

SOURCES = str(Path(llamaroute.__file__).parents[1])

posix = pytest.mark.skipif(os.name == "nt", reason="signals and pipes as POSIX has them")


def end(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Wait for the end: exit code, the rest of stdout, stderr."""
    out, err = process.communicate(timeout=20)
    assert b"Traceback" not in (err or b"")
    return process.returncode, (out or b"").decode(), (err or b"").decode()


@posix
@pytest.mark.usefixtures("config")
def test_ctrl_c_keeps_what_came(spawn, emu):
    emu.reply(Reply("one two three"))
    emu.fault(stall_after=3, stall=60)
    process = spawn("chat", "Hi")
    assert process.stdout.read(7) == b"one two"
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, "\n", "interrupted\n")
    assert emu.wait_for(1, finished=True)[0].disconnected


@posix
@pytest.mark.usefixtures("config")
def test_ctrl_c_in_json_lines_ends_with_the_partial_response(spawn, emu):
    emu.reply(Reply("one two three"))
    emu.fault(stall_after=3, stall=60)
    process = spawn("chat", "Hi", "--json", "--stream")
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    code, out, _ = end(process)
    last = ChatResponse.model_validate_json(out.splitlines()[-1])
    assert (code, last.text, last.finish_reason) == (130, "one two", "interrupted")


@posix
@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
@pytest.mark.usefixtures("config")
def test_ctrl_c_before_the_answer_begins(spawn, emu, stream):
    emu.reply(Reply("late", delay=60))
    process = spawn("chat", "Hi", stream)
    emu.wait_for(1, timeout=20)
    process.send_signal(signal.SIGINT)
    code, out, _ = end(process)
    assert (code, out) == (130, "")


@posix
@pytest.mark.usefixtures("config")
def test_a_reader_that_goes_is_no_failure(spawn, emu):
    emu.reply(Reply("word " * 400, chunk_delay=0.01))
    process = spawn("chat", "Hi")
    assert process.stdout.read(4) == b"word"
    process.stdout.close()
    assert process.wait(20) == 0
    assert process.stderr.read() == b""
    assert emu.wait_for(1, finished=True)[0].disconnected  # the answer was not read to its end for nobody


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
@pytest.mark.usefixtures("config")
@pytest.mark.parametrize("arguments", [("chat", "Hi"), ("chat", "Hi", "--json"), ("--version",), ("--help",)])
def test_a_full_disk_is_an_error(spawn, emu, arguments):
    with open("/dev/full", "wb") as full:
        process = spawn(*arguments, stdout=full)
    assert end(process) == (1, "", "error: cannot write to standard output: No space left on device\n")


@posix
@pytest.mark.usefixtures("config")
def test_closed_streams(spawn, emu):
    process = spawn("chat", "Hi", stdin=None, stdout=None, stderr=None, preexec_fn=lambda: os.closerange(0, 3))
    assert process.wait(20) == 0


@posix
@pytest.mark.usefixtures("config")
def test_utf8_into_pipes_whatever_the_locale(spawn, emu):
    emu.reply("Grüße 🦙")
    process = spawn("chat", "Hi", env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert end(process) == (0, "Grüße 🦙", "")


@posix
@pytest.mark.usefixtures("config")
def test_terminal_gets_a_last_line_break_and_a_summary(spawn, emu):
    import pty

    emu.reply("Hello")
    ours, theirs = pty.openpty()
    process = spawn("chat", "Hi", stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # Linux says EIO when the other end is closed
        pass
    os.close(ours)
    assert process.wait(20) == 0
    assert shown.startswith(b"Hello\r\n")
    assert b"box:llama-4-scout: " in shown


def test_emulate_prints_a_config_that_works(spawn, cli):
    process = spawn("emulate", "--reply", "Hello from afar")
    ready = process.stderr.readline().decode()
    assert ready.startswith("emulator at http://127.0.0.1:")
    lines = [process.stdout.readline().decode()]
    while "ollama/v1" not in lines[-1]:
        lines.append(process.stdout.readline().decode())
    Path("llamaroute.toml").write_text("".join(lines))
    assert cli("config", "check").code == 0
    assert cli("chat", "Hi").out == "Hello from afar"
    assert cli("chat", "Hi", "-m", "cloudflare").out == "You said: Hi"
    if os.name != "nt":
        process.send_signal(signal.SIGINT)
        assert end(process) == (130, "", "")


BLOCK = """\
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_extra_one_line_says_what_to_install(spawn, tmp_path, package):
    (tmp_path / "sitecustomize.py").write_text(BLOCK.format(package=package))
    process = spawn("chat", "Hi", env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{SOURCES}"})
    code, out, err = end(process)
    assert (code, out) == (2, "")
    assert err == "llamaroute: the command line needs typer and rich: pip install 'llamaroute[cli]'\n"


def test_start_imports_nothing_it_does_not_need():
    code = (
        "import sys; from llamaroute.cli import main; main(['--version']); "
        "print([m for m in ('httpx', 'rich.console', 'llamaroute.client', 'llamaroute.emulator', 'asyncio')"
        " if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": SOURCES}, capture_output=True)
    assert ran.stdout.decode().split("\n")[1] == "[]"


def test_python_m_llamaroute():
    command = [sys.executable, "-m", "llamaroute", "--version"]
    ran = subprocess.run(command, env={**os.environ, "PYTHONPATH": SOURCES}, capture_output=True, text=True)
    assert ran.returncode == 0
    assert ran.stdout.startswith("llamaroute 0.")
