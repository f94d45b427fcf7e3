"""The engine of a model in this process: llama.cpp's server core, through the package `xllamacpp`.

One `LocalEngine` per account, started on first use and shared by the blocking and the async transport. A request is a
`Job`: a thread that sits in the engine's C++ code, and a small buffer between it and whoever reads the answer.

What the engine is like decides the shape of this file:

* Loading holds the interpreter's lock, so that every thread of the process stands still meanwhile (0.4 s for SmolLM2,
  longer for large files). Nothing in Python can put a time limit on it; reading the file into the system's cache first
  at least keeps the disk out of it.
* It can be told to stop only from its callback, which is called once per token and, with `return_progress`, once per
  batch of the prompt. So requests always stream inside, plain answers are put together here, and batches are small.
* A request that waits for a free slot inside the engine cannot be taken back. So they wait here.
* A thread that is inside the engine when the interpreter ends takes the process down with SIGABRT. So `atexit` ends
  all jobs first.
* It always opens a port on the loopback address; a random key closes that to others on the machine.
"""

from __future__ import annotations

import atexit
import ctypes
import http.client
import os
import secrets
import threading
import weakref
from collections import deque
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import ConfigError, ConnectionError
from ..local_models import DEFAULT_MODEL, KNOWN, find
from .local_job import Job

if TYPE_CHECKING:
    from ..providers.local import LocalSettings

__all__ = ["LocalEngine"]

CLOSE_PATIENCE = 10.0
"""Seconds that `close` waits for running answers to end; they do at their next token or prompt batch."""
LLAMA_4_TEMPERATURE = 0.6
"""From the generation_config.json that Meta publishes with Llama 4."""
BATCH = 128
"""Prompt tokens between two chances to cancel. On a CPU, larger batches are not faster."""


class LocalEngine:
    """Starts the engine once, and lets as many requests in as it has slots. Safe to share between threads.

    Args:
        options: the account's settings.
        account: the account's name, for messages.
    """

    def __init__(self, options: LocalSettings, *, account: str) -> None:
        self.options = options
        self.account = account
        self.temperature = _temperature(options)
        self._key = secrets.token_urlsafe(32)
        self._server: Any = None
        self._starting = threading.Lock()
        self._slots = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._jobs: set[Job] = set()
        self._busy = 0
        self._closed = False
        self._forked = False

    def submit(self, path: str, body: bytes, wait: float) -> Job:
        """Begin a request: `/v1/chat/completions`, or `/count`. `wait` is how long a count may take, in seconds.

        Raises:
            ConnectionError: the engine was closed, or this process was forked off the one that started it.
        """
        if self._forked:
            raise ConnectionError(
                f"{self.account}: the engine was started before this process was forked and does not live in it; "
                "make the client in the child, or use multiprocessing's 'spawn'",
                retryable=False,
            )
        if self._closed:
            raise ConnectionError(f"{self.account}: the engine is closed", retryable=False)
        job = Job(self, path, body, wait)
        self._jobs.add(job)
        job.thread.start()
        return job

    def server(self) -> Any:
        """The engine itself, started if need be. Whoever comes meanwhile waits for the same start.

        Raises:
            ConfigError: xllamacpp or a file is missing, or the engine cannot load the model.
        """
        with self._starting:
            if self._server is None and not self._closed:
                self._server = self._start()
                _alive.add(self)
            return self._server

    def close(self) -> None:
        """End running answers and unload the model. Idempotent."""
        self._closed = True
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        end = monotonic() + CLOSE_PATIENCE
        for job in jobs:
            if job.thread is not threading.current_thread():
                job.thread.join(max(0.0, end - monotonic()))
        with self._starting:
            self._server = None  # its threads end with it

    # -- for jobs -----------------------------------------------------------------------------------------------------

    def enter(self, job: Job) -> bool:
        """Wait for a free slot, first come first served; False when the job was cancelled meanwhile."""
        with self._slots:
            self._waiting.append(job)
            self._slots.wait_for(
                lambda: job.cancelled or (self._busy < self.options.parallel and self._waiting[0] is job)
            )
            self._waiting.remove(job)
            if not job.cancelled:
                self._busy += 1
            self._slots.notify_all()
            return not job.cancelled

    def leave(self) -> None:
        """Give the slot back."""
        with self._slots:
            self._busy -= 1
            self._slots.notify_all()

    def cancelled(self) -> None:
        """A job was cancelled, perhaps one that waits for a slot."""
        with self._slots:
            self._slots.notify_all()

    def done(self, job: Job) -> None:
        """The job's thread is about to end."""
        self._jobs.discard(job)

    def count(self, server: Any, body: bytes, wait: float) -> tuple[int, bytes]:
        """Ask the engine for the exact number of prompt tokens, images included: status and body."""
        address = urlsplit(server.listening_address)
        connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=wait)
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._key}", "connection": "close"}
        try:
            connection.request("POST", "/v1/chat/completions/input_tokens", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    # -- starting -----------------------------------------------------------------------------------------------------

    def _start(self) -> Any:
        options, key = self.options, f"providers.{self.account}"
        model = find(options.model or DEFAULT_MODEL, key=f"{key}.model")
        mmproj = find(options.mmproj, key=f"{key}.mmproj") if options.mmproj else None
        template = _read(options.chat_template, f"{key}.chat_template") if options.chat_template else None
        engine = _xllamacpp(self.account)
        for file in (model, mmproj):
            if file is not None:
                _read_ahead(file)
        params = engine.CommonParams()
        params.model.path = str(model)
        params.model_alias = {options.model if options.model in KNOWN else model.stem}  # no paths in answers
        if mmproj is not None:
            params.mmproj.path = str(mmproj)
        else:
            params.n_batch = BATCH  # with images it must hold a whole one, so the engine's own default stays
        if template is not None:
            params.chat_template = template
        params.use_jinja = True
        params.n_parallel = options.parallel
        params.n_ctx = options.context * options.parallel  # the engine divides it among its slots
        threads = options.threads or max(1, _usable_cores() - 1)
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.n_threads_http = 2  # they only count tokens; the default is one per core
        params.fit_params = False  # doubles the time to load, for what concerns graphics cards only
        params.cache_ram_mib = 0  # else prompts of former requests fill up to 8 GiB
        params.warmup = False
        params.verbosity = -1  # only what the engine cannot do without; errors come as exceptions and answers
        params.ui = params.endpoint_slots = False
        params.hostnames, params.api_keys = ["127.0.0.1"], [self._key]
        try:
            return engine.Server(params)
        except RuntimeError as error:
            files = f"{model}" if mmproj is None else f"{model} with {mmproj}"
            raise ConfigError(
                f"{key}.model: the engine cannot load {files}: damaged, of a kind that this version of xllamacpp does "
                "not know, or larger than the memory that is free",
                key=f"{key}.model",
            ) from error

    def forget(self) -> None:
        """In a forked child: the engine's threads are not there, and destroying it would wait for them for ever."""
        if self._server is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._server))  # never destroyed
            self._server, self._forked = None, True


def _xllamacpp(account: str) -> Any:
    # Idle OpenMP threads spin by default, which on a busy machine makes two threads slower than one. Read once, when
    # the library is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import xllamacpp
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"providers.{account}: a model in this process needs the package xllamacpp: "
            "pip install 'llamaroute[local]'",
            key=f"providers.{account}.kind",
        ) from error
    except ImportError as error:
        missing = "libgomp.so.1" in str(error)
        remedy = "the system library libgomp.so.1 is missing: apt-get install libgomp1" if missing else str(error)
        raise ConfigError(
            f"providers.{account}: xllamacpp cannot be loaded: {remedy}", key=f"providers.{account}.kind"
        ) from error
    return xllamacpp


def _read(path: str, key: str) -> str:
    try:
        return Path(path).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: cannot read the chat template {path}: {error}", key=key) from error


def _read_ahead(path: Path) -> None:
    """Read the file into the system's cache, in a thread that others can run beside."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    if path.stat().st_size > memory // 2:  # it would only push itself out again
        return
    block = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(block):
            pass


def _temperature(options: LocalSettings) -> float:
    """What is sent when a call gives none."""
    if options.temperature is not None:
        return options.temperature
    known = KNOWN.get(options.model or DEFAULT_MODEL)
    return known.temperature if known is not None else LLAMA_4_TEMPERATURE


def _usable_cores() -> int:
    """Cores that this process may use: its affinity, and a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return cores


_alive: weakref.WeakSet[LocalEngine] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for engine in list(_alive):
        engine.close()


def _after_fork() -> None:
    for engine in list(_alive):
        engine.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
