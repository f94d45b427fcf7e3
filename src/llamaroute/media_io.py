"""The file system and DNS, as `layers/media.py` needs them: the only I/O that images cause besides HTTP."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from .layers.media import ImageSettings

__all__ = ["FileAndNet"]

T = TypeVar("T")

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

_ALONE = threading.Lock()


class FileAndNet:
    """A `MediaIo` over the machine's own files and name service. Holds nothing open; any thread may use it."""

    __slots__ = ("images",)

    def __init__(self, images: ImageSettings) -> None:
        self.images = images

    def read_file(self, path: str | os.PathLike[str], limit: int) -> bytes:
        """A regular file's bytes, at most `limit` + 1 of them.

        Raises:
            OSError: no such file, no permission, or not a regular file: pipes and devices are neither opened (a pipe
                waits for its writer, a device may act on being opened) nor read.
        """
        _check_regular(os.stat(path), path)
        # Between the two checks it can become something else: not waiting in `open`, and looking again, covers that.
        descriptor = os.open(path, _FLAGS)
        try:
            _check_regular(os.fstat(descriptor), path)
            data = bytearray()
            while chunk := os.read(descriptor, min(limit + 1 - len(data), 1 << 20)):
                data += chunk
        finally:
            os.close(descriptor)
        return bytes(data)

    def resolve(self, host: str, port: int) -> list[str]:
        """The host's IP addresses, in the order in which the system would try them.

        Raises:
            OSError: there is no such host, or nobody to ask.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def alone(self, work: Callable[[], T]) -> T:
        """Call `work` while no other thread of the process is in such a call."""
        with _ALONE:
            return work()


def _check_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Is a pipe or a device, not a regular file", path)
