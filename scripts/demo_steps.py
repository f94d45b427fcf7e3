"""What scripts/demo shows once everything is installed. Every step is checked; the exit code says whether all were."""

from __future__ import annotations

import difflib
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import tomllib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
QUESTION = "What is the capital of France, and what is it known for?"
COLOURS = {"red": (225, 30, 30), "green": (30, 170, 50), "blue": (35, 60, 215)}
LOCAL, CLOUD = 'default = "local:smollm2"', 'default = "cloudflare:llama-4-scout"'


def main(folder: Path) -> int:
    """Run all steps, with what the example programs need in `folder`, and return the exit code."""
    began = time.monotonic() - float(os.environ.get("DEMO_BEGAN", "0"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("ask.py", "llamaroute.toml"):
        shutil.copy(EXAMPLES / name, folder)
    (folder / "tiny_llama_4").symlink_to(EXAMPLES / "tiny_llama_4")
    # Nothing of the user's own accounts: this is about the emulator.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDFLARE_")}

    step("3. a text answer from the model in this process, as it comes")
    say("   SmolLM2 stands in for Llama 4: the way through the library is the true one, the words are a small model's.")
    text, _ = ask(folder, environment, QUESTION)
    check(bool(text.strip()), "an answer came", "the answer is empty")

    step("4. answers about images, from a tiny Llama 4")
    say("   A model of 3 MB, trained by a script of this project to name plain colours: architecture, vision tower and")
    say("   engine are the true ones; it knows nothing else.")
    for name, colour in COLOURS.items():
        (folder / f"{name}.png").write_bytes(plain_png(colour))
        text, _ = ask(folder, environment, "What colour is this image?", "--image", f"{name}.png", "--model", "tiny")
        others = [other for other in COLOURS if other != name and other in text.lower()]
        check(name in text.lower() and not others, f"it is {name}", f"the {name} image was not called {name}")

    step("5. the same program, another provider: one line of the config file")
    say("   An emulator speaks Cloudflare's wire format on this machine, and SmolLM2 answers behind it. Address, key")
    say("   check, request and stream are as Cloudflare documents them; speed, quality and bill are not.")
    with emulated_cloudflare(folder, environment) as variables:
        config = folder / "llamaroute.toml"
        before = config.read_text()
        config.write_text(before.replace(f"{LOCAL}\n", f"{CLOUD}\n", 1))
        changed = list(difflib.unified_diff(before.splitlines(), config.read_text().splitlines(), n=0, lineterm=""))
        say(*(f"   {line}" for line in changed[3:]))
        check(len(changed) == 5, "one line changed", "more or less than one line changed")
        text, about = ask(folder, {**environment, **variables}, QUESTION)
        check(bool(text.strip()), "an answer came", "the answer is empty")
        check("cloudflare:llama-4-scout" in about, "over Cloudflare's wire", "another provider answered")

    seconds = time.monotonic() - began
    if FAILED:
        say("", f"== failed: {'; '.join(FAILED)} ({seconds:.0f} s in all)")
        return 1
    say("", f"== all is well ({seconds:.0f} s in all)")
    say(f"   Files to play with: {os.path.relpath(folder)}; how to go on: README.md")
    return 0


FAILED: list[str] = []


def say(*lines: str) -> None:
    """Print at once, so that the order with what programs print stays."""
    for line in lines:
        print(line, flush=True)


def step(title: str) -> None:
    """Begin a step."""
    say("", f"== {title}")


def check(passed: bool, good: str, bad: str) -> None:
    """Say how it went, and remember what failed."""
    say(f"   {'ok: ' + good if passed else 'FAILED: ' + bad}")
    if not passed:
        FAILED.append(bad)


def ask(folder: Path, environment: dict[str, str], *arguments: str) -> tuple[str, str]:
    """Run examples/ask.py as a person would, show what it prints as it comes, and return that and its last line."""
    shown = " ".join(f'"{argument}"' if " " in argument else argument for argument in arguments)
    say(f"   $ python ask.py {shown}")
    began = time.monotonic()
    text = ""
    with subprocess.Popen(
        [sys.executable, "ask.py", *arguments], cwd=folder, env=environment, text=True, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        assert program.stderr is not None
        print("   > ", end="", flush=True)
        while piece := program.stdout.read(1):
            text += piece
            print(piece.replace("\n", "\n   > "), end="", flush=True)
        about = program.stderr.read().strip()
    say("", f"   {about}", f"   {time.monotonic() - began:.1f} s with the start of the program")
    if program.returncode != 0:
        FAILED.append(f"ask.py ended with {program.returncode}")
    return text, about


@contextmanager
def emulated_cloudflare(folder: Path, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """`llamaroute emulate` with SmolLM2 in a process of its own; the variables that point the config file at it."""
    say("   $ llamaroute emulate --model smollm2")
    printed, messages = folder / "emulator.toml", folder / "emulator.log"
    with printed.open("w") as out, messages.open("w") as log:
        command = [sys.executable, "-m", "llamaroute", "emulate", "--model", "smollm2"]
        emulator = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=log)
    try:
        end = time.monotonic() + 60
        while "[providers.cloudflare]" not in printed.read_text() or "Ctrl-C" not in messages.read_text():
            if emulator.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the emulator did not start: {messages.read_text().strip()}")
            time.sleep(0.05)
        table = tomllib.loads(printed.read_text())["providers"]["cloudflare"]
        say(f"   it listens at {table['base_url']}")
        yield {
            "CLOUDFLARE_BASE_URL": table["base_url"],
            "CLOUDFLARE_ACCOUNT_ID": table["account_id"],
            "CLOUDFLARE_API_TOKEN": table["api_key"],
        }
    finally:
        if emulator.poll() is None:
            emulator.send_signal(signal.SIGINT)
        try:
            emulator.wait(15)
        except subprocess.TimeoutExpired:
            emulator.kill()
            emulator.wait()
    clean = emulator.returncode in (0, 130) and "Traceback" not in messages.read_text()
    check(clean, "the emulator ended", f"the emulator ended with {emulator.returncode}")


def plain_png(colour: tuple[int, int, int], size: int = 64) -> bytes:
    """A PNG of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\x00" + bytes(colour) * size) * size
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


if __name__ == "__main__":
    # Also where a shell started it in the background, which lets it and its children ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(main(Path(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit(130)
