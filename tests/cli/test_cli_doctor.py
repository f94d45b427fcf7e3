"""`llamaroute doctor`: one line a target, the remedy, and an exit code."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace
from pathlib import Path

from llamaroute.emulator import Emulator

KEY = Emulator().key("openai")


def lines(out: str) -> dict[str, str]:
    """Target -> its line, without the numbers of milliseconds."""
    shown = [line for line in out.splitlines() if line.startswith(("ok ", "failed "))]
    assert all(re.match(r"(ok|failed) +\S+(?: \S+)? +\S", line) for line in shown)
    return {line.split(maxsplit=2)[1]: re.sub(r"\d+ ms", "N ms", line) for line in shown}


def dead() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


def server(name: str, url: str, more: str = "") -> str:
    return f'[providers.{name}]\nkind = "openai-compatible"\nbase_url = "{url}"\n{more}\n'


def test_all_is_well(cli, config, emu):
    result = cli("doctor")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[0] == f"config: {config.absolute()}: ok"
    assert lines(result.out) == {
        "box:llama-4-scout": "ok      box:llama-4-scout         credentials N ms, answer N ms",
        "cloudflare:llama-4-scout": "ok      cloudflare:llama-4-scout  credentials N ms, answer N ms",
    }
    assert len(emu.requests) == 2
    assert all(request.method == "GET" for request in emu.requests)


def test_chat_asks_each_target_for_one_token(cli, config, emu):
    result = cli("doctor", "--chat")
    assert result.code == 0
    assert len(lines(result.out)) == 2
    assert [request.json["max_tokens"] for request in emu.requests] == [1, 1]


def test_wrong_key(cli, config, emu):
    config.write_text(config.read_text().replace(KEY, "wrong-secret-key"))
    for arguments in ((), ("--chat",)):
        result = cli("doctor", *arguments)
        assert result.code == 1
        said = lines(result.out)
        assert said["box:llama-4-scout"].startswith("failed  box:llama-4-scout         credentials N ms, no answer: ")
        assert "401" in said["box:llama-4-scout"]
        assert said["cloudflare:llama-4-scout"].startswith("ok ")
        assert "wrong-secret-key" not in result.out + result.err
    assert sum(request.path.endswith("/chat/completions") for request in emu.requests) == 2  # asked once, not retried


def test_dead_server(cli, config):
    config.write_text(config.read_text() + server("gone", dead(), 'model = "llama-4-scout"'))
    result = cli("doctor", "--timeout", "20")
    assert result.code == 1
    assert "cannot connect" in lines(result.out)["gone:llama-4-scout"]
    assert "check the network" in lines(result.out)["gone:llama-4-scout"]
    result = cli("doctor", "--chat", "--timeout", "20")
    assert result.code == 1
    assert "cannot connect" in lines(result.out)["gone:llama-4-scout"]


def test_a_missing_key_is_a_fault_of_the_configuration(cli, config):
    config.write_text(config.read_text() + '[providers.hub]\nkind = "huggingface"\n')
    result = cli("doctor")
    assert result.code == 2
    assert "providers.hub: no api_key" in lines(result.out)["hub"]
    assert "no credentials" in lines(result.out)["hub"]
    assert lines(result.out)["box:llama-4-scout"].startswith("ok ")


def test_a_missing_variable(cli, config):
    config.write_text(config.read_text().replace(f'"{KEY}"', '"${NOT_SET_ANYWHERE}"'))
    result = cli("doctor")
    assert (result.code, result.out) == (2, "")
    assert "NOT_SET_ANYWHERE" in result.err
    assert "providers.box.api_key" in result.err


def test_no_configuration(cli):
    result = cli("doctor")
    assert result.code == 2
    assert result.err.startswith("error: ")


def test_a_route_that_leads_nowhere(cli, config):
    config.write_text(config.read_text() + '[routes.old]\ntargets = ["llama-4-behemoth"]\n')
    result = cli("doctor")
    assert result.code == 2
    assert "failed  route old" in result.out
    assert "never released" in result.out


def test_an_account_without_a_model_is_examined_as_such(cli, emu):
    Path("llamaroute.toml").write_text(server("box", emu.base_url("openai"), f'api_key = "{KEY}"'))
    result = cli("doctor")
    assert result.code == 0
    assert lines(result.out)["box"] == "ok      box  credentials N ms, answer N ms"


def test_a_model_that_the_host_does_not_list(cli, emu):
    Path("llamaroute.toml").write_text(server("box", emu.base_url("openai"), f'api_key = "{KEY}"\nmodel = "mine"'))
    result = cli("doctor")
    assert result.code == 0  # servers exist that take any name
    assert "providers.box.model: 'mine' is not among what the server serves" in result.err
    assert cli("doctor", "--chat").code == 1


def test_what_the_host_lists_as_not_ready(cli, emu):
    table = emu.providers("huggingface")["huggingface"]
    Path("llamaroute.toml").write_text(
        f'[providers.huggingface]\nbase_url = "{table["base_url"]}"\napi_key = "hf_wrong_token"\n'
    )
    result = cli("doctor")
    assert result.code == 1
    assert "credentials" in result.out
    assert "hf_wrong_token" not in result.out + result.err


def test_a_missing_permission_to_list(cli):
    with Emulator(quirks=["bedrock-control-denied"]) as emu:
        Path("llamaroute.json").write_text(json.dumps({"providers": emu.providers("bedrock")}))
        result = cli("doctor")
        assert result.code == 1
        said = lines(result.out)["bedrock:llama-4-scout"]
        assert "allow bedrock:ListFoundationModels" in said
        assert "ask the model itself with --chat" in said
        assert cli("doctor", "--chat").code == 0


def test_a_kind_of_another_package(cli, emu, monkeypatch):
    from llamaroute import registry

    spec = replace(registry.provider_spec("openai-compatible"), name="of-a-package")
    monkeypatch.setattr(registry, "_entry_points", lambda: {"of-a-package": lambda: spec})
    table = {**emu.providers("openai")["openai"], "kind": "of-a-package"}
    Path("llamaroute.json").write_text(json.dumps({"providers": {"box": table}}))
    result = cli("doctor")
    assert result.code == 0
    assert lines(result.out)["box:llama-4-scout"].endswith("credentials N ms, not asked")
    assert "accounts of the kind 'of-a-package' cannot be asked what they have; ask the model itself" in result.err
    assert "answer" in cli("doctor", "--chat").out


def test_every_kind(cli, emu):
    names = ["cloudflare", "huggingface", "hf-endpoint", "openai", "azure", "azure-serverless", "databricks", "vertex"]
    tables = emu.providers(*names, "vertex-endpoint", "bedrock")
    Path("llamaroute.json").write_text(json.dumps({"providers": tables}))
    for arguments in ((), ("--chat",)):
        result = cli("doctor", *arguments)
        assert (result.code, result.err) == (0, "")
        assert {target.partition(":")[0] for target in lines(result.out)} == set(tables)
        assert all(line.startswith("ok ") for line in lines(result.out).values())


def test_json(cli, config):
    config.write_text(config.read_text() + server("gone", dead(), 'model = "llama-4-scout"'))
    result = cli("doctor", "--json")
    assert result.code == 1
    said = json.loads(result.out)
    assert said["config"] == str(config.absolute())
    targets = {target["target"]: target for target in said["targets"]}
    assert targets["box:llama-4-scout"]["ok"] is True
    assert targets["box:llama-4-scout"]["answer_ms"] >= 0
    assert targets["gone:llama-4-scout"]["ok"] is False
    assert targets["gone:llama-4-scout"]["answer_ms"] is None
    assert "cannot connect" in targets["gone:llama-4-scout"]["problems"][0]
    assert set(targets["box:llama-4-scout"]) == {"target", "ok", "credentials_ms", "answer_ms", "problems"}
