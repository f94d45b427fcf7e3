"""Every program in examples/, run as a person would: in a process of its own, with the config file it finds."""

from __future__ import annotations

import importlib.util
import json
import os
import re
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
    assert notices == []
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
