"""Hosts that quote the key they refuse."""

from __future__ import annotations

import functools

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator, Fault

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
