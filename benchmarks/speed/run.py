"""Lets the clients take turns: each round runs every client once, in an order that moves on from round to round.

    python -m benchmarks.speed.run               all of it; in the environments that scripts/bench makes
    python -m benchmarks.speed.run --python PYTHON --clients floor,httpx,llamaroute --scenarios call_sync,burst_async
    python -m benchmarks.speed.run --python PYTHON --clients floor,llamaroute,llamaroute@../other/src

Prints a table for each scenario when it is done: medians, and the median of the ratios to the floor and to httpx alone
(or to the first client named) within a round. With `--out`, results are put into that file, scenario by scenario, and
what it held of others stays.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import cold, figures
from .catalogue import CLIENTS, FIGURES, SCENARIOS, Client, Scenario
from .processes import ROOT, environ

RESULTS = Path(__file__).with_name("results.json")
PATIENCE = 900.0
"""Seconds one client may take for one round."""


class Server:
    """The server of canned answers, in a process of its own; with `tls`, also behind a certificate of its own."""

    def __init__(self, python: str, *, tls: bool = False) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="bench-")
        command = [python, "-m", "benchmarks.speed.server"]
        self.authority: Path | None = None
        if tls:
            from . import certificate

            made = certificate.make(Path(self.folder.name))
            self.authority = made.certificate
            command += ["--certificate", str(made.certificate), "--key", str(made.key)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ()
        )
        assert self.process.stdout is not None
        self.ports: dict[str, int | None] = json.loads(self.process.stdout.readline())

    def url(self, *, tls: bool = False) -> str:
        scheme = "https" if tls else "http"
        return f"{scheme}://127.0.0.1:{self.ports[scheme]}"

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()
        self.folder.cleanup()


class Pythons:
    """Where the interpreter of a client is: in its own environment, or one for all.

    Args:
        one: an interpreter whose environment has everything.
        folder: holds an environment for each file in requirements/.
        src: this project's sources, for `llamaroute`.
    """

    def __init__(self, one: str | None, folder: Path, src: Path) -> None:
        self.one, self.folder, self.src = one, folder, src

    def of(self, name: str) -> tuple[Client, str, Path]:
        """The client, its interpreter and the sources of llamaroute it uses, of `llamaroute` or `llamaroute@SRC`."""
        plain, _, src = name.partition("@")
        client = CLIENTS[plain]
        python = self.one or str(self.folder / client.environment / "bin" / "python")
        return client, python, Path(src).resolve() if src else self.src


class Worker:
    """A client in its process."""

    def __init__(self, client: Client, python: str, src: Path, server: Server, *, tls: bool) -> None:
        command = [python, "-m", "benchmarks.speed.worker", client.file, server.url(tls=tls)]
        for package in client.hide:
            command += ["--hide", package]
        if client.engine:
            command += ["--engine", client.engine]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ(src, server.authority if tls else None),
        )
        self.greeting = self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def ask(self, task: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"error": "the process ended"}
        # A call that never ends ends with its process.
        patience = threading.Timer(PATIENCE, self.process.kill)
        patience.start()
        try:
            return self._read()
        finally:
            patience.cancel()

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Bench:
    """Runs scenarios; keeps processes that may be kept. Use in a `with` block."""

    def __init__(self, pythons: Pythons, server: Server) -> None:
        self.pythons, self.server = pythons, server
        self.kept: dict[tuple[str, bool], Worker] = {}
        self.made = 0

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.kept.values():
            worker.close()
        self.kept.clear()

    @contextlib.contextmanager
    def worker(self, name: str, scenario: Scenario) -> Iterator[Worker]:
        key = name, scenario.tls
        worker = self.kept.pop(key, None) if not scenario.fresh else None
        if worker is None or worker.process.poll() is not None:
            client, python, src = self.pythons.of(name)
            worker = Worker(client, python, src, self.server, tls=scenario.tls)
        try:
            yield worker
        except BaseException:
            worker.close()
            raise
        if scenario.fresh:
            worker.close()
        else:
            self.kept[key] = worker

    @staticmethod
    def _able(name: str, needs: str, able: Sequence[str]) -> bool:
        return needs in able and (needs.startswith("async") or CLIENTS[name.partition("@")[0]].engine is None)

    def round(self, scenario: Scenario, clients: Sequence[str], scale: float = 1.0) -> dict[str, dict[str, Any]]:
        """One round; by client its figures, nothing for one that cannot take part."""
        task = dict(scenario.task)
        for key in scenario.scaled:
            task[key] = max(2, round(task[key] * scale))
        start = self.made % len(clients)
        self.made += 1
        found: dict[str, dict[str, Any]] = {}
        for name in (*clients[start:], *clients[:start]):
            if not scenario.needs:
                found[name] = cold.FIGURES[task["task"]](*self.pythons.of(name), self.server.url())
                continue
            with self.worker(name, scenario) as worker:
                if "error" in worker.greeting:
                    found[name] = worker.greeting
                elif self._able(name, scenario.needs, worker.greeting["able"]):
                    found[name] = worker.ask(task)
        return found


def gathered(rounds: Sequence[dict[str, dict[str, Any]]], clients: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Rounds by client; clients that took no part are left out."""
    return {name: [found.get(name, {}) for found in rounds] for name in clients if any(name in f for f in rounds)}


def _without_trace(found: dict[str, Any]) -> dict[str, Any]:
    """An error by its last line: the rest names places of this machine, and is not for the report."""
    return {"error": found["error"].strip().splitlines()[-1]} if "error" in found else found


def table(scenario: Scenario, rounds: figures.Rounds) -> str:
    """The scenario's figures, the best client first, as Markdown."""
    decisive, *others = scenario.shows
    # Some figures are below nothing, and the floor of a ratio is no floor.
    compared = decisive not in ("growth", "blocks_per_call", "mb")
    references = [name for name in ("floor", "httpx", "boto3") if name in rounds] if compared else []
    if compared and not references:
        references = list(rounds)[:1]
    heads = [FIGURES.get(decisive, decisive), "least", "most", *(f"/ {name}" for name in references)]
    heads += [FIGURES.get(figure, figure) for figure in others]
    lines = [f"| client | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]

    def rank(name: str) -> float:
        value = figures.median(rounds, name, decisive)
        return float("inf") if value is None else value if scenario.better == "low" else -value

    for name in sorted(rounds, key=rank):
        found = figures.values(rounds, name, decisive)
        if not found:
            lines.append(f"| {name} | {(figures.error(rounds, name) or 'nothing')[:90]} |" + " |" * (len(heads) - 1))
            continue
        cells = [figures.median(rounds, name, decisive), min(found), max(found)]
        cells += [figures.ratio(rounds, name, reference, decisive) for reference in references]
        cells += [figures.median(rounds, name, figure) for figure in others]
        lines.append(f"| {name} | {' | '.join(map(figures.number, cells))} |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the report says of the machine."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def versions(pythons: Pythons, clients: Sequence[str]) -> dict[str, str]:
    """Versions of the measured distributions, each from the environment of its client."""
    found = {}
    for name in clients:
        client, python, _ = pythons.of(name)
        if client.distribution:
            ask = f"import importlib.metadata as m; print(m.version({client.distribution!r}))"
            asked = subprocess.run([python, "-c", ask], capture_output=True, text=True, env=environ(), check=False)
            if asked.returncode == 0:
                found[client.distribution] = asked.stdout.strip()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="one interpreter for all clients, instead of an environment for each")
    parser.add_argument("--environments", type=Path, default=ROOT / ".cache" / "bench", help="folder of these")
    parser.add_argument("--src", type=Path, default=ROOT / "src", help="sources of llamaroute")
    parser.add_argument("--clients", help="default: all; NAME@SRC is a client with other sources of llamaroute")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, help="default: the scenario's")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the work of a round")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)

    pythons = Pythons(options.python, options.environments, options.src.resolve())
    wanted = options.clients.split(",") if options.clients else None
    names = options.scenarios.split(",")
    results = json.loads(options.out.read_text()) if options.out and options.out.exists() else {"scenarios": {}}
    results["machine"] = machine()
    results["versions"] = {**results.get("versions", {}), **versions(pythons, wanted or list(CLIENTS))}
    server = Server(pythons.of("floor")[1], tls=any(SCENARIOS[name].tls for name in names))
    with contextlib.closing(server), Bench(pythons, server) as bench:
        for name in names:
            scenario = SCENARIOS[name]
            clients = [client for client in wanted or scenario.clients if client.partition("@")[0] in scenario.clients]
            if not clients:
                continue
            begun = time.monotonic()
            made = [bench.round(scenario, clients, options.scale) for _ in range(options.rounds or scenario.rounds)]
            rounds = {client: [*map(_without_trace, found)] for client, found in gathered(made, clients).items()}
            results["scenarios"][name] = {"scale": options.scale, "load": os.getloadavg()[0], "rounds": rounds}
            print(f"\n## {scenario.title} ({name}, {len(made)} rounds)\n\n{table(scenario, rounds)}")
            print(f"\n{time.monotonic() - begun:.0f} s, load {os.getloadavg()[0]:.1f}", flush=True)
            if options.out:
                options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
