"""Every program in examples/, run as a person would: in a process of its own, with the config file it finds."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator, Reply
from llamaroute.local_models import cached
from llamaroute.registry import ENTRY_POINT_GROUP, builtin_specs
from llamaroute.testing import Sample, check_adapter

EXAMPLES = Path(__file__).parents[1] / "examples"
SOURCES = Path(lr.__file__).parents[1]
CONFIG = EXAMPLES / "llamaroute.toml"
LOCAL, CLOUD = 'default = "local:smollm2"', 'default = "cloudflare:llama-4-scout"'

OWN = (
    "ARM_", "AWS_", "AZURE_", "CF_", "CLOUDFLARE_", "CLOUDSDK_", "DATABRICKS_", "GCLOUD_", "GOOGLE_", "HF_",
    "HUGGING_FACE_", "LLAMAROUTE_", "OPENAI_", "PYTHON", "XDG_",
)  # fmt: skip
"""Variables of whoever runs the tests: the programs must not see them."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run an example; keyword arguments are environment variables. Warnings are errors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN) or name == "LLAMAROUTE_CACHE"}

    def start(
        name: str,
        *arguments: str,
        cwd: Path = tmp_path,
        python_path: tuple[Path, ...] = (),
        typed: str = "",
        **variables: Any,
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            **kept,
            "HOME": str(tmp_path / "home"),
            "PYTHONPATH": os.pathsep.join(map(str, (SOURCES, *python_path))),
            "PYTHONUTF8": "1",
            **{key: str(value) for key, value in variables.items()},
        }
        command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
        return subprocess.run(
            command, cwd=cwd, env=environment, input=typed, capture_output=True, text=True, timeout=120
        )

    return start


@pytest.fixture
def cloud(emu: Emulator) -> dict[str, str]:
    """The variables that point the examples' own config file at the emulator, as its comments say."""
    table = emu.providers("cloudflare")["cloudflare"]
    return {
        "CLOUDFLARE_BASE_URL": table["base_url"],
        "CLOUDFLARE_ACCOUNT_ID": table["account_id"],
        "CLOUDFLARE_API_TOKEN": table["api_key"],
    }


@pytest.fixture
def switched(tmp_path: Path, cloud: dict[str, str]) -> dict[str, str]:
    """The same for programs that shall ask Cloudflare: the file with its one line changed, and the variables."""
    text = CONFIG.read_text("utf-8")
    assert text.count(f"{LOCAL}\n") == 1
    (tmp_path / "switched.toml").write_text(text.replace(f"{LOCAL}\n", f"{CLOUD}\n"), "utf-8")
    return {"LLAMAROUTE_CONFIG": str(tmp_path / "switched.toml"), **cloud}


def png(folder: Path, colour: bytes) -> Path:
    """A plain picture of 64 x 64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\x00" + colour * 64) * 64)
    path = folder / "plain.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def load(name: str) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_run_here() -> None:
    here = Path(__file__).read_text("utf-8")
    for path in EXAMPLES.glob("*.py"):
        runs = (f'run("{path.name}"', f'load("{path.stem}")', f'EXAMPLES / "{path.name}"')
        assert any(text in here for text in runs), f"no test runs {path.name}"


# -- switch_provider.py -----------------------------------------------------------------------------------------------

NETWORKED = ("azure", "bedrock", "cloudflare", "databricks", "huggingface", "openai-compatible", "vertex")
EVERY = EXAMPLES / "every_provider.toml"


def accounts(emu: Emulator) -> dict[str, str]:
    """The variables of every_provider.toml, so that each account is one at the emulator."""
    hosts = emu.providers("azure", "bedrock", "cloudflare", "databricks", "huggingface", "openai", "vertex")
    azure, bedrock, databricks, vertex = (hosts[name] for name in ("azure", "bedrock", "databricks", "vertex"))
    return {
        "AZURE_OPENAI_ENDPOINT": azure.get("base_url") or azure["endpoint"],
        "AZURE_OPENAI_API_KEY": azure["api_key"],
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": bedrock["base_url"],
        "AWS_ACCESS_KEY_ID": bedrock["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": bedrock["secret_access_key"],
        "CLOUDFLARE_BASE_URL": hosts["cloudflare"]["base_url"],
        "CLOUDFLARE_ACCOUNT_ID": hosts["cloudflare"]["account_id"],
        "CLOUDFLARE_API_TOKEN": hosts["cloudflare"]["api_key"],
        "DATABRICKS_HOST": emu.url,  # a workspace has no path, and so stands at the emulator's root
        "DATABRICKS_TOKEN": databricks.get("token") or databricks["api_key"],
        "GOOGLE_CLOUD_PROJECT": vertex["project"],
        "GOOGLE_ACCESS_TOKEN": vertex["access_token"],
        "VERTEX_BASE_URL": vertex["base_url"],
        "HF_TOKEN": hosts["huggingface"]["api_key"],
        "HF_BASE_URL": hosts["huggingface"]["base_url"],
        "OPENAI_BASE_URL": hosts["openai"]["base_url"],
        "OPENAI_API_KEY": hosts["openai"]["api_key"],
    }


def switched_to(kind: str, folder: Path) -> str:
    """A copy of the program and its file, with the one line changed; the program's path."""
    program = (EXAMPLES / "switch_provider.py").read_text("utf-8")
    lines = EVERY.read_text("utf-8").splitlines(keepends=True)
    chosen = [index for index, line in enumerate(lines) if line.startswith("default = ")]
    assert len(chosen) == 1
    assert f'# default = "{kind}"\n' in lines or kind == "local"
    lines[chosen[0]] = f'default = "{kind}"\n'
    (folder / "every_provider.toml").write_text("".join(lines), "utf-8")
    (folder / "switch_provider.py").write_text(program, "utf-8")
    (folder / "tiny_llama_4").symlink_to(EXAMPLES / "tiny_llama_4")
    return str(folder / "switch_provider.py")


@pytest.mark.parametrize("kind", NETWORKED)
def test_switch_provider_is_the_same_program_everywhere(run: Run, emu: Emulator, tmp_path: Path, kind: str) -> None:
    emu.reply("I answer.")
    image = png(tmp_path, b"\xe0\x1e\x1e")
    done = run(switched_to(kind, tmp_path), str(image), **accounts(emu))
    assert done.returncode == 0, done.stderr
    text, seen, story, about, *notices = done.stdout.splitlines()
    assert text == "text:   I answer."
    assert seen == "image:  I see 1 image (image/png, 64x64)."
    assert story == "stream: You said: Tell me a very short story."
    assert about.startswith(f"[{kind}, {kind}:llama-4-")
    # What is said of a model's end depends on the day.
    assert [line for line in notices if not line.startswith("[model_ending: ")] == []
    assert len(emu.requests) == 3


def test_switch_provider_with_a_model_in_its_own_process(run: Run, tmp_path: Path) -> None:
    done = run(switched_to("local", tmp_path), str(png(tmp_path, b"\xe0\x1e\x1e")))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("image: ") and "red" in line.lower() for line in lines), done.stdout
    assert any(line.startswith("[local, local:") for line in lines), done.stdout


def test_the_file_has_an_account_of_every_kind() -> None:
    import tomllib

    tables = tomllib.loads(EVERY.read_text("utf-8"))["providers"]
    assert {table.get("kind", name) for name, table in tables.items()} == {spec.name for spec in builtin_specs()}


# -- ask.py and the config file ---------------------------------------------------------------------------------------


def test_ask_prints_the_answer_of_the_configured_provider(run: Run, emu: Emulator, switched: Mapping[str, str]) -> None:
    emu.reply(Reply("Because of the air.", usage=(9, 5)))
    done = run("ask.py", "Why is the sky blue?", **switched)
    assert (done.returncode, done.stdout) == (0, "Because of the air."), done.stderr
    assert done.stderr.startswith("\n[cloudflare:llama-4-scout = @cf/meta/llama-4-scout-17b-16e-instruct: 5 tokens in ")
    assert emu.requests[0].json["messages"] == [{"role": "user", "content": "Why is the sky blue?"}]
    assert emu.requests[0].json["stream"] is True


def test_ask_prints_each_piece_as_it_comes(run: Run, emu: Emulator, switched: Mapping[str, str]) -> None:
    emu.reply(Reply(chunks=["one ", "two ", "three"], chunk_delay=0.5))
    program = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "ask.py"), "Count"],
        env={**os.environ, "PYTHONPATH": str(SOURCES), **switched},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with program:
        assert program.stdout is not None
        assert os.read(program.stdout.fileno(), 100) == b"one "
        assert program.poll() is None  # a second of the answer is still to come
        assert program.stdout.read() == b"two three"
    assert program.returncode == 0


def test_ask_sends_a_picture(run: Run, emu: Emulator, switched: Mapping[str, str], tmp_path: Path) -> None:
    done = run("ask.py", "What is it?", "--image", str(png(tmp_path, b"\xff\0\0")), **switched)
    assert done.stdout == "I see 1 image (image/png, 64x64).", done.stderr


def test_the_route_of_the_config_file_fails_over_to_the_next_target(
    run: Run, emu: Emulator, cloud: Mapping[str, str], tmp_path: Path
) -> None:
    emu.fault(status=401, times=9, host="cloudflare")
    second = emu.providers("openai")["openai"]
    text = CONFIG.read_text("utf-8").replace('"local:smollm2"]', '"second:llama-4-scout"]')
    text += f'\n[providers.second]\nkind = "openai-compatible"\nbase_url = "{second["base_url"]}"\n'
    text += f'api_key = "{second["api_key"]}"\n'
    (tmp_path / "both.toml").write_text(text, "utf-8")
    emu.reply("From the second.")
    done = run("ask.py", "Hi", "--model", "safe", LLAMAROUTE_CONFIG=tmp_path / "both.toml", **cloud)
    assert done.stdout == "From the second.", done.stderr
    assert "[second:llama-4-scout" in done.stderr


@pytest.mark.parametrize(
    ("colour", "name"), [(b"\xe0\x1e\x1e", "red"), (b"\x1e\xa0\x32", "green"), (b"\x1e\x3c\xd7", "blue")]
)
def test_the_tiny_llama_4_names_a_colour(run: Run, tmp_path: Path, colour: bytes, name: str) -> None:
    picture = png(tmp_path, colour)
    done = run("ask.py", "What colour is this image?", "--image", str(picture), "--model", "tiny", cwd=EXAMPLES)
    assert done.returncode == 0, done.stderr
    assert name in done.stdout.lower()
    assert not {"red", "green", "blue"} - {name} & set(re.findall("[a-z]+", done.stdout.lower()))


@pytest.mark.smollm2
def test_ask_with_the_config_file_as_it_is(run: Run) -> None:
    if cached("smollm2") is None:
        pytest.skip("SmolLM2 is not in the cache: llamaroute local pull smollm2")
    done = run("ask.py", "What is the capital of France?", cwd=EXAMPLES)
    assert len(done.stdout) > 10, done.stderr  # what it says is drawn anew each time
    assert "[local:smollm2 = smollm2: " in done.stderr


# -- the others -------------------------------------------------------------------------------------------------------


def test_async_many_asks_side_by_side_but_not_all_at_once(run: Run, emu: Emulator, switched: Mapping[str, str]) -> None:
    emu.replies(*(Reply("An answer.", usage=(10, 3), delay=0.4) for _ in range(5)))
    done = run("async_many.py", **switched)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("    ")] == ["    An answer."] * 5
    assert lines[0] == "What is a llama?"
    assert lines[-1] == "5 answers, 50 + 15 tokens"
    spans = [(request.started, request.finished or float("inf")) for request in emu.wait_for(5, finished=True)]
    most = max(sum(began <= start < end for began, end in spans) for start, _ in spans)
    assert 2 <= most <= 3


def test_structured_prints_an_object(run: Run, emu: Emulator, switched: Mapping[str, str]) -> None:
    emu.reply('{"name": "llama", "legs": 4, "food": "plants"}')
    done = run("structured.py", **switched)
    assert done.stdout.startswith("llama: 4 legs, eats plants (asked for by way of: "), done.stderr


def test_structured_says_what_did_not_fit(run: Run, emu: Emulator, switched: Mapping[str, str]) -> None:
    emu.replies(*['{"name": "llama", "legs": "many", "food": "plants"}'] * 2)
    done = run("structured.py", **switched)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("no valid answer: ")
    assert "Traceback" not in done.stderr
    assert len(emu.requests) == 2  # asked again, once


def test_errors_says_what_to_do(run: Run, emu: Emulator, switched: Mapping[str, str]) -> None:
    done = run("errors.py", cwd=EXAMPLES, **switched)
    assert done.returncode == 0, done.stderr
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert "did you mean 'llama-4-scout'?" in said["no such model"]
    assert "no-such-file.png" in said["no such image"]
    assert said["out of time"].startswith("out of time in the phase ")
    assert "did you mean 'model'?" in said["config file"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 401}, "openai does not accept the credentials"),
        ({"status": 429, "retry_after": 7}, "openai is busy, try again in 7.0 seconds"),
        ({"status": 503}, "openai is busy, try again in some seconds"),
        ({"status": 418}, "openai:llama-4-scout failed (InvalidRequestError, status 418, request "),
        ({"stall": 5}, "out of time in the phase 'first_token' after 1 attempt(s)"),
    ],
    ids=str,
)
def test_errors_tells_errors_apart(emu: Emulator, fault: dict[str, Any], said: str) -> None:
    ask = load("errors").ask
    emu.fault(**fault)
    with lr.Client({"providers": emu.providers("openai"), "default": "openai:llama-4-scout"}, env={}) as client:
        answer = ask(client, "Hi", retry=1, timeout=lr.Timeout(first_token=0.5))
    assert answer.startswith(said)


def test_errors_lists_every_target_of_a_route(emu: Emulator) -> None:
    ask = load("errors").ask
    emu.fault(status=500, times=9)
    config = {
        "providers": emu.providers("openai", "huggingface"),
        "routes": {"both": {"targets": ["openai:llama-4-scout", "huggingface:llama-4-scout"]}},
    }
    with lr.Client(config, env={}) as client:
        answer = ask(client, "Hi", model="both", retry=1)
    assert answer == "openai:llama-4-scout: ServerError; huggingface:llama-4-scout: ServerError"


# -- tools.py ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "done"), [("y\n", '{"ordered":"alpaca scarf","count":2}'), ("n\n", "does not want")])
def test_tools_calls_what_is_approved(
    run: Run, emu: Emulator, switched: Mapping[str, str], typed: str, done: str
) -> None:
    emu.reply(Reply(tool_calls=[("stock", {"item": "alpaca scarf"})]))
    emu.reply(Reply(tool_calls=[("order", {"item": "alpaca scarf", "count": "2"})]))
    emu.reply("That is settled.")
    program = run("tools.py", typed=typed, **switched)
    assert program.returncode == 0, program.stderr
    assert "[stock {'item': 'alpaca scarf'} -> 12]" in program.stdout
    assert "Order {'item': 'alpaca scarf', 'count': 2}? [y/n]" in program.stdout
    assert done in program.stdout
    assert "That is settled.\n[3 turns, " in program.stdout
    assert program.stdout.rstrip().endswith("ended with stop]")
    assert done in json.dumps(emu.requests[-1].json["messages"]).replace("\\", "")


def test_tools_tells_the_model_what_went_wrong(run: Run, emu: Emulator, switched: Mapping[str, str]) -> None:
    emu.reply(Reply(tool_calls=[("order", {"item": "felt hat"})]))
    emu.reply("There are none.")
    program = run("tools.py", "Order a hat.", typed="y\n", **switched)
    assert "Error: LookupError: only 0 in stock" in program.stdout, program.stderr
    assert "There are none." in program.stdout


# -- third_party_provider.py ------------------------------------------------------------------------------------------


class Andes(BaseHTTPRequestHandler):
    """The made-up host: OpenAI's shapes, with a URL, a header and fields of its own."""

    seen: list[tuple[str, str | None, dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).seen.append((self.path, self.headers["x-andes-key"], body))
        if self.headers["x-andes-key"] != "andes-key":
            self.answer(403, b'{"error": {"message": "nothing left", "code": "budget_spent"}}', "application/json")
            return
        chunk = '{"id": "a1", "choices": [{"index": 0, "delta": {"content": "Hello from the Andes"}}]}'
        last = '{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'
        self.answer(200, f"data: {chunk}\n\ndata: {last}\n\ndata: [DONE]\n\n".encode(), "text/event-stream")

    def answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def andes() -> Iterator[tuple[str, list[tuple[str, str | None, dict[str, Any]]]]]:
    """The host's URL, and what it was sent."""
    Andes.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Andes) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", Andes.seen
        server.shutdown()
        thread.join()


@pytest.fixture
def installed(tmp_path: Path) -> tuple[Path, ...]:
    """What pip makes of a package with that file and that entry point: folders for PYTHONPATH."""
    document = load("third_party_provider").__doc__ or ""
    snippet = re.search(r'^    \[project\.entry-points\."(.+)"\]\n    (.+) = "(.+)"$', document, re.MULTILINE)
    assert snippet is not None, "the docstring shows no pyproject snippet"
    group, kind, where = snippet.groups()
    assert group == ENTRY_POINT_GROUP
    folder = tmp_path / "site" / "andes_llamaroute-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: andes-llamaroute\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[{group}]\n{kind} = {where}\n")
    return folder.parent, EXAMPLES


def test_a_third_party_kind_is_found_by_its_entry_point(
    run: Run, installed: tuple[Path, ...], andes: tuple[str, list[Any]], tmp_path: Path
) -> None:
    url, seen = andes
    config = tmp_path / "andes.toml"
    table = f'[providers.andes]\nproject = "cusco"\napi_key = "${{ANDES_KEY}}"\nbase_url = "{url}"\n'
    config.write_text(f'version = 1\ndefault = "andes"\n{table}')

    done = run("ask.py", "Hi", python_path=installed, LLAMAROUTE_CONFIG=config, ANDES_KEY="andes-key")
    assert (done.returncode, done.stdout) == (0, "Hello from the Andes"), done.stderr
    assert "[andes:llama-4-scout = andes/llama4-scout: " in done.stderr
    path, key, body = seen[0]
    assert (path, key) == ("/projects/cusco/chat", "andes-key")
    assert (body["model"], body["max_output_tokens"]) == ("andes/llama4-scout", 120)
    assert "max_tokens" not in body

    done = run("ask.py", "Hi", python_path=installed, LLAMAROUTE_CONFIG=config, ANDES_KEY="spent")
    assert "QuotaExhaustedError" in done.stderr


def test_a_third_party_kind_that_is_not_installed_is_a_clear_error(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "andes.toml"
    config.write_text('version = 1\n[providers.andes]\nproject = "cusco"\n')
    done = run("ask.py", "Hi", LLAMAROUTE_CONFIG=config)
    assert "ConfigError" in done.stderr
    assert "no provider kind 'andes'" in done.stderr


def test_a_third_party_kind_keeps_the_contract() -> None:
    check_adapter(
        load("third_party_provider").SPEC,
        settings={"project": "cusco"},
        samples=[
            Sample(
                "text",
                body=b'{"id": "a1", "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}',
                source="made up in this test",
                evidence="inferred",
            ),
            Sample(
                "text-stream",
                body=b'data: {"id": "a1", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\n'
                b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n',
                stream=True,
                same_as="text",
                source="made up in this test",
                evidence="inferred",
            ),
            Sample(
                "budget-spent",
                body=b'{"error": {"message": "nothing left", "code": "budget_spent"}}',
                status=403,
                source="made up in this test",
                evidence="inferred",
            ),
        ],
    )


# -- long_document.py, code_base.py -----------------------------------------------------------------------------------


def prompts(emu: Emulator) -> list[str]:
    """What the user said in each request."""
    return [request.json["messages"][-1]["content"] for request in emu.requests]


def test_a_document_that_fits_is_asked_about_in_one_go(
    run: Run, emu: Emulator, switched: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "short.txt").write_text("The gardener did it.\n")
    emu.reply(Reply("The gardener.", usage=(40, 3)))
    done = run("long_document.py", "short.txt", "Who did it?", **switched)
    assert (done.returncode, done.stdout) == (0, "The gardener.\n"), done.stderr
    served, document, used = done.stderr.splitlines()
    assert served == (
        "cloudflare:llama-4-scout serves 131,000 tokens, question and answer together; "
        "llama-4-scout itself was published with 10,000,000"
    )
    assert document == "short.txt: 21 characters, 42 tokens as a prompt"
    assert used.startswith("[1 calls, 40 + 3 tokens")
    assert "The gardener did it." in prompts(emu)[0]


def test_a_document_that_does_not_fit_is_read_in_parts(
    run: Run, emu: Emulator, switched: Mapping[str, str], tmp_path: Path
) -> None:
    lines = [f"Line {number} of a long, long story about llamas.\n" for number in range(25_000)]
    (tmp_path / "long.txt").write_text("".join(lines))
    emu.replies("The gardener was there.", "nothing", "Nothing.", "A knife.", "The gardener, with a knife.")
    done = run("long_document.py", "long.txt", "Who did it?", **switched)
    assert (done.returncode, done.stdout) == (0, "The gardener, with a knife.\n"), done.stderr
    assert "too long for one go: read in 4 parts" in done.stderr
    assert "  part 1 of 4: The gardener was there." in done.stderr
    *parts, last = prompts(emu)
    pieces = [part.split("PART:\n")[1].split("\n\nWrite down")[0] for part in parts]
    assert "".join(pieces) == "".join(lines)  # nothing is left out, and nothing asked about twice
    assert all(piece.endswith("llamas.\n") for piece in pieces)
    assert "Notes on part 1:\nThe gardener was there.\n\nNotes on part 4:\nA knife." in last
    assert "othing" not in last.split("Answer this question")[0]


def test_a_document_with_a_model_in_this_process(run: Run, tmp_path: Path) -> None:
    document = tmp_path / "short.txt"
    document.write_text("Red, green and blue are colours.\n")
    done = run("long_document.py", str(document), "Which colours?", "--model", "tiny", cwd=EXAMPLES)
    assert done.returncode == 0, done.stderr
    served, counted, used = done.stderr.splitlines()
    assert served == "tiny:tiny-llama-4 serves 4,096 tokens, question and answer together"
    assert re.fullmatch(
        r"short.txt: 33 characters, \d+ tokens as a prompt", counted
    )  # counted by the engine: no "about"
    assert used.startswith("[1 calls, ")


def test_a_code_base(run: Run, emu: Emulator, switched: Mapping[str, str], tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / ".git").mkdir()
    (project / "README.md").write_text("A project.\n")
    (project / "src" / "main.py").write_text("def main():\n    return {'braces': '{question}'}\n")
    (project / "src" / "data.bin").write_bytes(b"\x00\x01")
    (project / ".git" / "config.toml").write_text("hidden = true\n")
    emu.reply("In src/main.py.")
    done = run("code_base.py", str(project), "Where is main?", **switched)
    assert (done.returncode, done.stdout) == (0, "In src/main.py.\n"), done.stderr
    assert f"{project}: 2 files, " in done.stderr
    (prompt,) = prompts(emu)
    code = "=== README.md ===\nA project.\n\n=== src/main.py ===\ndef main():\n    return {'braces': '{question}'}"
    assert prompt.startswith(code)


def test_a_code_base_in_parts(run: Run, emu: Emulator, switched: Mapping[str, str], tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for name in "abcd":
        (project / f"{name}.py").write_text(f"# file {name}\n" + "x = 1\n" * 300)
    emu.replies(*(f"Note {number}." for number in range(1, 5)), "Nowhere.")
    done = run("code_base.py", str(project), "Where?", "--window", "2600", **switched)
    assert (done.returncode, done.stdout) == (0, "Nowhere.\n"), done.stderr
    *parts, last = prompts(emu)
    assert [re.findall("=== (.*) ===", part) for part in parts] == [["a.py"], ["b.py"], ["c.py"], ["d.py"]]
    assert "Notes on part 4:\nNote 4." in last


def test_an_empty_folder_is_told(run: Run, switched: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    done = run("code_base.py", "nothing", "Where?", **switched)
    assert done.returncode == 1
    assert done.stderr == "nothing: no source files\n"


# -- dialogue.py ------------------------------------------------------------------------------------------------------


class Dialogue:
    """The program, with a person at it."""

    def __init__(self, folder: Path, variables: Mapping[str, str], *arguments: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
        environment = {**kept, "PYTHONPATH": str(SOURCES), "PYTHONUTF8": "1", "HOME": str(folder), **variables}
        command = [sys.executable, "-W", "error", str(EXAMPLES / "dialogue.py"), *arguments]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.seen = b""

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def hear(self, text: str) -> None:
        """Read on until `text` was said."""
        assert self.process.stdout is not None
        while text.encode() not in self.seen:
            piece = os.read(self.process.stdout.fileno(), 1000)
            assert piece, f"{self.seen!r} ended without {text!r}: {self.process.stderr.read()!r}"  # type: ignore[union-attr]
            self.seen += piece
        self.seen = self.seen.split(text.encode(), 1)[1]

    def end(self) -> str:
        out, err = self.process.communicate(timeout=30)
        assert (self.process.returncode, err) == (0, b"")
        return (self.seen + out).decode()


@pytest.fixture
def dialogue(tmp_path: Path, switched: Mapping[str, str]) -> Iterator[Callable[..., Dialogue]]:
    begun: list[Dialogue] = []

    def begin(*arguments: str, folder: Path = tmp_path, **variables: str) -> Dialogue:
        begun.append(Dialogue(folder, {**switched, **variables}, *arguments))
        return begun[-1]

    yield begin
    for each in begun:
        with each.process as process:  # closes the pipes
            process.kill()


def turns(emu: Emulator) -> list[tuple[str, str]]:
    """What the last request said."""
    return [(message["role"], message["content"]) for message in emu.requests[-1].json["messages"]]


SYSTEM = ("system", "Answer in a few sentences.")


def test_a_dialogue_remembers(emu: Emulator, dialogue: Callable[..., Dialogue]) -> None:
    emu.replies("A town in Peru.", Reply("At 3,399 m.", usage=(30, 6)))
    talk = dialogue()
    talk.hear("> ")
    talk.say("What is Cusco?")
    talk.hear("A town in Peru.\n> ")
    talk.say("")  # nothing said, nothing sent
    talk.say("How high?")
    talk.hear("At 3,399 m.\n> ")
    assert talk.end().startswith("\n[4 messages, ")
    assert turns(emu) == [SYSTEM, ("user", "What is Cusco?"), ("assistant", "A town in Peru."), ("user", "How high?")]
    assert len(emu.requests) == 2


@pytest.mark.parametrize("how", ["Enter", "words", "Ctrl-C"])
def test_a_dialogue_is_interrupted(emu: Emulator, dialogue: Callable[..., Dialogue], how: str) -> None:
    emu.replies(Reply(chunks=["Once ", "upon ", "a time"], chunk_delay=20), "In short: the end.")
    talk = dialogue()
    talk.say("Tell me a story")
    talk.hear("Once ")
    match how:
        case "Enter":
            talk.say("")
        case "words":
            talk.say("Shorter!")
        case "Ctrl-C":
            talk.process.send_signal(signal.SIGINT)
    talk.hear(" [interrupted]\n> ")
    if how != "words":
        talk.say("Shorter!")
    talk.hear("In short: the end.\n> ")
    talk.end()
    assert turns(emu) == [SYSTEM, ("user", "Tell me a story"), ("assistant", "Once "), ("user", "Shorter!")]


def test_a_dialogue_goes_on_after_an_error(emu: Emulator, dialogue: Callable[..., Dialogue]) -> None:
    emu.fault(status=400, message="no such thing")
    talk = dialogue()
    talk.say("Hi")
    talk.hear("> > ")
    talk.say("Again")
    talk.hear("You said: Again\n> ")
    assert talk.process.stdin is not None
    talk.process.stdin.close()
    talk.process.wait(timeout=30)
    assert talk.process.stderr is not None
    assert b"InvalidRequestError: cloudflare:llama-4-scout: " in talk.process.stderr.read()
    assert turns(emu) == [SYSTEM, ("user", "Again")]


def test_a_dialogue_is_kept(emu: Emulator, dialogue: Callable[..., Dialogue]) -> None:
    emu.replies("Hello.", "Yes.")
    first = dialogue("--keep", "talk.json")
    first.say("Hi")
    first.hear("Hello.\n> ")
    first.end()
    second = dialogue("--keep", "talk.json")
    second.hear("[2 messages so far]\n> ")
    second.say("Do you remember?")
    second.hear("Yes.\n> ")
    second.process.send_signal(signal.SIGINT)  # at the prompt: the end
    second.hear("[4 messages, ")
    second.end()
    assert turns(emu) == [SYSTEM, ("user", "Hi"), ("assistant", "Hello."), ("user", "Do you remember?")]


def test_a_dialogue_with_a_model_in_this_process(dialogue: Callable[..., Dialogue]) -> None:
    talk = dialogue("--model", "tiny", folder=EXAMPLES, LLAMAROUTE_CONFIG=str(CONFIG))
    talk.say("Hello")
    talk.hear("\n> ")
    talk.say("Hello again")
    talk.hear("\n> ")
    assert talk.end().startswith("\n[4 messages, ")
