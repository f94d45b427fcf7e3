"""What is loaded when: nothing before it is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

NEVER_EARLY = [
    "httpx", "httpcore", "aiohttp", "h11", "ssl", "anyio", "trio", "asyncio", "tenacity", "yaml", "PIL", "xllamacpp",
    "typer", "rich", "idna", "certifi", "urllib.request", "http.client", "concurrent.futures"
]  # fmt: skip


def loaded(script: str) -> set[str]:
    """Modules that a fresh process has loaded by `script` (without those of the interpreter's own start)."""
    program = (
        f"import sys, json\nbefore = set(sys.modules)\n{script}\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def starting_with(modules: set[str], *names: str) -> set[str]:
    return {module for module in modules if any(module == name or module.startswith(f"{name}.") for name in names)}


def test_import_llamaroute_loads_nearly_nothing():
    modules = loaded("import llamaroute")
    assert (
        starting_with(modules, *NEVER_EARLY, "pydantic", "pydantic_core", "socket", "logging", "json", "tomllib")
        == set()
    )
    assert starting_with(modules, "llamaroute") == {"llamaroute"}
    foreign = {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names)
    assert foreign == {"llamaroute"}


@pytest.mark.parametrize("name", ["TimeoutError", "LlamarouteError"])
def test_errors_alone_load_only_errors(name: str):
    modules = loaded(f"import llamaroute; llamaroute.{name}")
    assert starting_with(modules, "llamaroute") == {"llamaroute", "llamaroute.errors"}
    assert "pydantic" not in modules


def test_messages_and_parts_load_no_pydantic():
    modules = loaded("import llamaroute; llamaroute.user('Hi', llamaroute.Image('a.png'))")
    assert starting_with(modules, *NEVER_EARLY, "pydantic") == set()


MAKE = """
import llamaroute
client = llamaroute.{kind}({{"providers": {{"box": {{"kind": "openai-compatible", "base_url": "http://127.0.0.1:9/v1",
                                                    "model": "m"}}}}}}, env={{}})
"""


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_making_a_client_loads_no_http_and_no_tls(kind: str):
    modules = loaded(MAKE.format(kind=kind))
    assert starting_with(modules, *NEVER_EARLY) == set()
    used = {"llamaroute.providers", "llamaroute.providers.openai_compatible", "llamaroute.providers.urls"}
    assert starting_with(modules, "llamaroute.providers") <= used
    rarely = ("llamaroute.emulator", "llamaroute.testing", "llamaroute.cli", "llamaroute.transport.httpx",
              "llamaroute.transport.aiohttp", "llamaroute.transport.local", "llamaroute.layers.media",
              "llamaroute.local_models")  # fmt: skip
    assert starting_with(modules, *rarely) == set()
    foreign = {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"_sysconfigdata", "llamaroute"}
    foreign = {name for name in foreign if not name.startswith("_sysconfigdata_")}
    assert foreign == {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
    assert starting_with(modules, "tomllib", "sqlite3", "xml", "unittest", "multiprocessing", "ctypes", "pdb") == set()


def test_making_a_client_builds_the_schema_of_what_it_is_given_alone():
    """pydantic builds a schema when a model is first used, or is given a parameter: the response's takes 14 ms."""
    loaded(
        MAKE.format(kind="Client")
        + "from llamaroute.config import models\n"
        + "tables = (models.PolicySettings, models.ImageSettings, models.StateSettings)\n"
        + "built = [model.__name__ for model in (llamaroute.ChatResponse, *tables) if model.__pydantic_complete__]\n"
        + "assert models.Config.__pydantic_complete__\n"
        + "assert built == [], built"
    )


def test_no_pattern_is_compiled_for_texts_that_nobody_counts():
    loaded(
        "import re\ncompiled, compile = [], re.compile\n"
        "def noted(pattern, flags=0):\n    compiled.append(str(pattern))\n    return compile(pattern, flags)\n"
        "re.compile = noted\nimport llamaroute.tokens\n"
        "assert not [text for text in compiled if not text.isascii()], compiled"
    )


def test_a_first_call_over_plain_http_loads_what_it_needs():
    script = MAKE.format(kind="Client") + (
        "try:\n    client.chat('Hi', retry=1)\n    raise SystemExit('nobody listens there')\n"
        "except llamaroute.ConnectionError:\n    pass"
    )
    modules = loaded(script)
    assert "httpcore" in modules, "the engine was used (which itself imports trio and anyio where they are installed)"
    assert starting_with(modules, "httpx", "tenacity", "yaml", "PIL", "xllamacpp", "urllib.request") == set()
    assert starting_with(modules, "llamaroute.layers.media", "llamaroute.emulator", "llamaroute.cli") == set()
