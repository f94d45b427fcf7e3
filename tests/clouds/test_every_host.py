"""What the emulator says of itself is true: each host's table, as it is, makes a provider that answers."""

from __future__ import annotations

import pytest

import llamaroute as lr
from llamaroute.emulator import HOSTS, Emulator

CHATTING = [name for name, host in HOSTS.items() if host.kind]


@pytest.mark.parametrize("name", CHATTING)
def test_its_table_works(name: str) -> None:
    with Emulator() as emu, lr.Client({"providers": {"cloud": emu.providers(name)[name]}}, env={}) as client:
        assert client.chat("Hi", model="cloud").text == "You said: Hi"
        with client.stream("Hi", model="cloud") as stream:
            assert "".join(stream.text()) == "You said: Hi"
        assert stream.response.usage.output_tokens > 0


def test_all_seven_networked_kinds_are_there() -> None:
    kinds = {HOSTS[name].kind for name in CHATTING}
    assert kinds == {
        "azure", "bedrock", "cloudflare", "databricks", "huggingface", "openai-compatible", "vertex",
    }  # fmt: skip
