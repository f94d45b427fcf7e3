"""What a client keeps of its accounts: secrets to itself, and totals per target."""

from __future__ import annotations

import functools

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator, Fault
from llamaroute.pipeline.ops import Head, Send

KEY = "sk-a-key-that-must-not-show"


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_that_a_host_echoes_does_not_show(stream: bool) -> None:
    with Emulator() as emulator:
        emulator.fault(Fault(status=401, body={"error": {"message": f"Incorrect API key: {KEY}.", "list": [KEY]}}))
        box = {"kind": "openai-compatible", "base_url": emulator.base_url("openai"), "api_key": KEY, "model": "m"}
        with lr.Client({"providers": {"box": box}}) as client:
            ask = client.stream("Hi").__enter__ if stream else functools.partial(client.chat, "Hi")
            with pytest.raises(lr.AuthenticationError) as caught:
                ask()
    error = caught.value
    assert "Incorrect API key: **********." in str(error)
    assert KEY not in f"{error!r} {error} {error.raw} {error.attempts}"


def test_a_key_echoed_in_the_middle_of_a_stream_does_not_show_either() -> None:
    class Echo:
        """Says one word, and then an error that quotes the key."""

        head = Head(200, {"content-type": "text/event-stream"})
        pieces = (
            b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n',
            b'data: {"error": {"message": "key %s was taken back"}}\n\n' % KEY.encode(),
        )

        def open(self, send: Send) -> Echo:
            self.left = iter(self.pieces)
            return self

        def read(self, until: float, phase: str) -> bytes:
            return next(self.left, b"")

        def close(self) -> None:
            pass

    box = {"kind": "openai-compatible", "base_url": "http://host/v1", "api_key": KEY, "model": "m"}
    with lr.Client({"providers": {"box": box}}, transport=Echo()) as client, client.stream("Hi") as stream:
        assert next(stream.text()) == "Hi"
        with pytest.raises(lr.StreamInterruptedError) as caught:
            list(stream)
    error = caught.value
    assert "was taken back" in str(error)
    assert error.partial is not None
    assert error.partial.text == "Hi"
    assert KEY not in f"{error} {error.raw} {error.__cause__} {error.attempts} {error.partial.attempts}"


def test_totals_count_an_attempt_where_it_was_made() -> None:
    with Emulator() as emulator:
        providers = emulator.providers("cloudflare", "huggingface")
        routes = {"both": {"targets": ["cloudflare:llama-4-scout", "huggingface:llama-4-scout"], "retry": 1}}
        emulator.fault(Fault(status=500), host="cloudflare")
        with lr.Client({"providers": providers, "routes": routes}) as client:
            client.chat("Hi", model="both")
            used = client.usage()
    assert (used.calls, used.attempts, used.failed) == (1, 2, 0)
    assert {name: (totals.calls, totals.attempts) for name, totals in used.by_target.items()} == {
        "cloudflare:llama-4-scout": (0, 1),
        "huggingface:llama-4-scout": (1, 1),
    }
