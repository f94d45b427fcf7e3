"""`llamaroute.testing` as other projects meet it: cheap to load, and a fixture that runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import llamaroute
from llamaroute import testing

ROOT = Path(__file__).parents[2]


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    source = str(Path(llamaroute.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": source, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in [name for name in env if name.startswith(("COV_", "PYTEST_XDIST"))]:
        del env[name]
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60
    )


def test_exports() -> None:
    assert testing.__all__ == ["Sample", "check_adapter", "emulator", "record", "replay"]
    assert set(testing.__all__) <= set(dir(testing))
    for name in testing.__all__:
        assert getattr(testing, name).__name__ == name
    assert not hasattr(testing, "no_such_name")


def test_the_plugin_is_registered_and_loads_nothing(tmp_path: Path) -> None:
    """It is loaded by every pytest run of an environment that has llamaroute in it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    name = project["entry-points"]["pytest11"]["llamaroute"]
    code = f"import sys, pytest; before = set(sys.modules); import {name}; print(*set(sys.modules) - before)"
    done = run("-c", code, folder=tmp_path)
    loaded = {module for module in done.stdout.split() if not module.startswith("__")}
    assert name in loaded, done.stderr
    assert {module for module in loaded if module.startswith("llamaroute")} == {
        "llamaroute",
        "llamaroute.testing",
        "llamaroute.testing.pytest_plugin",
    }
    assert not loaded & {"httpx", "pydantic", "ssl", "http.server", "tenacity"}


def test_the_fixture_is_a_running_emulator(tmp_path: Path) -> None:
    (tmp_path / "test_app.py").write_text(
        "import llamaroute as lr\n"
        "from llamaroute.emulator import Emulator\n\n\n"
        "def test_it(llamaroute_emulator):\n"
        "    assert isinstance(llamaroute_emulator, Emulator)\n"
        "    assert llamaroute_emulator.url.startswith('http://127.0.0.1:')\n",
        "utf-8",
    )
    done = run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "llamaroute.testing.pytest_plugin", ".", folder=tmp_path
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
