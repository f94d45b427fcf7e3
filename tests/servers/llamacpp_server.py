"""llama.cpp's own OpenAI-compatible server, real and in a process of its own: `python llamacpp_server.py MODEL`.

Prints `listening URL` as soon as something answers there, and `ready URL` when the model is loaded. In between the
server answers 503, `{"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}`: a real case for
retries. How long that lasts is the model's size: a second for SmolLM2, less than a tenth for a tiny model.
`--delay-load` makes it longer: for so many seconds a stand-in gives that very answer on the port, then the server
takes over (with some hundredths of a second in between in which the port is closed). Needs the package `xllamacpp`.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

LOADING = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'


class Loading(BaseHTTPRequestHandler):
    """Says what llama.cpp says while it loads."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(503)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(LOADING)))
        self.end_headers()
        self.wfile.write(LOADING)

    def log_message(self, format: str, *args: object) -> None:
        pass


def stand_in(port: int, seconds: float) -> None:
    """Answer 503 for so long."""
    with HTTPServer(("127.0.0.1", port), Loading) as server:
        say("listening", port)
        threading.Thread(target=lambda: (time.sleep(seconds), server.shutdown()), daemon=True).start()
        server.serve_forever(poll_interval=0.01)


def announce(port: int) -> None:
    """Say so once the server's own port is open, which is before it has loaded the model."""
    # The load holds the interpreter's lock: a thread of this process would come too late.
    if os.fork() == 0:
        for _ in range(3000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    say("listening", port)
                    break
            time.sleep(0.005)
        os._exit(0)


def say(what: str, port: int) -> None:
    print(f"{what} http://127.0.0.1:{port}", flush=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--mmproj", help="GGUF file of the vision tower")
    parser.add_argument("--key", help="API key to ask for")
    parser.add_argument("--alias", help="the model's name in answers")
    parser.add_argument("--ctx", type=int, default=4096, help="tokens of one request")
    parser.add_argument("--parallel", type=int, default=2, help="requests at the same time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--template", help="file with a Jinja chat template")
    parser.add_argument("--delay-load", type=float, default=0.0, help="seconds of 503 before the model loads")
    options = parser.parse_args()
    if not Path(options.model).is_file():
        sys.exit(f"no such file: {options.model}")
    port = options.port or free_port()
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if options.delay_load:
        import xllamacpp  # now: the port shall be closed as shortly as possible

        stand_in(port, options.delay_load)
    else:
        announce(port)
        import xllamacpp
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.hostnames, params.port = ["127.0.0.1"], port
    params.n_ctx, params.n_parallel = options.ctx * options.parallel, options.parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.use_jinja, params.warmup, params.verbosity, params.cache_ram_mib = True, False, -1, 0
    if options.mmproj:
        params.mmproj.path = options.mmproj
    if options.key:
        params.api_keys = [options.key]
    if options.alias:
        params.model_alias = {options.alias}
    if options.template:
        params.chat_template = Path(options.template).read_text("utf-8")
    server = xllamacpp.Server(params)
    say("ready", port)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    del server


if __name__ == "__main__":
    main()
