"""The real file system and name service."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llamaroute.media_io import FileAndNet

SETTINGS: Any = SimpleNamespace(max_bytes=10, timeout=1.0, redirects=0, allow_private=False, allow_files=True)


@pytest.fixture
def io() -> FileAndNet:
    return FileAndNet(SETTINGS)


def test_files(io: FileAndNet, tmp_path: Path) -> None:
    path = tmp_path / "a b.gif"
    path.write_bytes(b"0123456789")
    assert io.images is SETTINGS
    assert io.read_file(path, 100) == b"0123456789"
    assert io.read_file(str(path), 10) == b"0123456789"
    assert io.read_file(path, 4) == b"01234"  # one more than the limit, to see that there is more
    path.write_bytes(b"")
    assert io.read_file(path, 10) == b""
    path.write_bytes(bytes(3 << 20))
    assert len(io.read_file(path, 4 << 20)) == 3 << 20
    assert len(io.read_file(path, 2 << 20)) == (2 << 20) + 1


def test_links_are_followed(io: FileAndNet, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").symlink_to("a")
    assert io.read_file(tmp_path / "b", 10) == b"x"


def test_no_file(io: FileAndNet, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        io.read_file(tmp_path / "none", 10)
    with pytest.raises(IsADirectoryError):
        io.read_file(tmp_path, 10)
    with pytest.raises(ValueError, match="null"):
        io.read_file("a\0b", 10)


def test_no_permission(io: FileAndNet, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(PermissionError):
        io.read_file(path, 10)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system here")
def test_pipes_and_devices_neither_hang_nor_are_read(io: FileAndNet, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "socket", Path("/dev/zero"), Path("/dev/null")):
            with pytest.raises(OSError, match="not a regular file"):
                io.read_file(path, 10)


def test_resolve(io: FileAndNet) -> None:
    assert io.resolve("127.0.0.1", 80) == ["127.0.0.1"]
    assert set(io.resolve("localhost", 80)) <= {"127.0.0.1", "::1"}
    with pytest.raises((OSError, UnicodeError)):
        io.resolve("a" * 70 + ".invalid", 80)


def test_one_at_a_time(io: FileAndNet) -> None:
    inside = 0
    most = 0

    def work() -> int:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.01)
        inside -= 1
        return most

    other = FileAndNet(SETTINGS)  # of another client
    threads = [threading.Thread(target=each.alone, args=(work,)) for each in (io, other, io, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert io.alone(work) == 1


def test_the_next_one_comes_after_an_error(io: FileAndNet) -> None:
    with pytest.raises(ZeroDivisionError):
        io.alone(lambda: 1 // 0)
    assert io.alone(lambda: 5) == 5
