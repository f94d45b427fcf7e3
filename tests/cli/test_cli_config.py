"""`llamaroute config`: check, schema, init."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from pathlib import Path

import pytest

# -- check ------------------------------------------------------------------------------------------------------------


def test_check_says_where_each_name_leads(cli, config):
    result = cli("config", "check")
    assert (result.code, result.err) == (0, "")
    first, *rest = result.out.splitlines()
    assert first == f"config: {config.absolute()}"
    assert rest == [
        "provider box: ok, llama-4-scout",
        "provider cloudflare: ok, llama-4-scout as @cf/meta/llama-4-scout-17b-16e-instruct",
        "route chat: ok, box:llama-4-scout, cloudflare:llama-4-scout",
        "route alone: ok, box:llama-4-scout",
        "default chat: ok, box:llama-4-scout, cloudflare:llama-4-scout",
    ]


def test_check_sends_nothing(cli, config, emu):
    cli("config", "check")
    assert not emu.requests


def test_check_of_a_named_file_and_profile(cli, config):
    config.rename("other.toml")
    result = cli("config", "check", "other.toml", "--profile", "prod")
    assert result.code == 0
    assert "other.toml (profile prod)" in result.out
    assert result.out.splitlines()[-1] == "default cloudflare:llama-4-scout: ok, cloudflare:llama-4-scout"


def test_check_lists_every_problem(cli, config):
    config.write_text('defualt = "x"\n[providers.cloudflare]\napi_key = "secret-1"\n[routes.r]\ntargets = []\n')
    result = cli("config", "check")
    assert result.code == 2
    for line in (
        "3 problems",
        "defualt: unknown key; did you mean 'default'?",
        "providers.cloudflare.account_id: is missing",
        "routes.r.targets: ",
    ):
        assert line in result.err
    assert "secret-1" not in result.err


def test_check_goes_on_after_a_problem(cli, config):
    text = config.read_text()
    config.write_text(text + '[providers.hub]\nkind = "huggingface"\n[routes.old]\ntargets = ["llama-4-behemoth"]\n')
    result = cli("config", "check")
    assert result.code == 2
    hub, old = result.err.splitlines()
    assert hub.startswith("error: provider hub: providers.hub: no api_key")
    assert hub.endswith("run 'hf auth login'")
    assert old == "error: route old: llama-4-behemoth was announced and never released: no provider has it"
    assert "provider box: ok" in result.out


def test_a_server_without_a_model_of_its_own_is_no_problem(cli):
    Path("llamaroute.toml").write_text(
        '[providers.box]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:9/v1"\n'
    )
    result = cli("config", "check")
    assert (result.code, result.err) == (0, "")
    assert "provider box: ok, no model of its own; calls name box:<model>" in result.out


def test_local_model_that_is_not_pulled_is_a_warning(cli):
    Path("llamaroute.toml").write_text('[providers.local]\nmodel = "smollm2"\n')
    result = cli("config", "check")
    assert result.code == 0
    assert "smollm2 is not here yet; `llamaroute local pull smollm2` gets it" in result.err


def test_local_model_file_that_is_missing_is_a_problem(cli):
    Path("llamaroute.toml").write_text('[providers.local]\nmodel = "missing.gguf"\n')
    result = cli("config", "check")
    assert result.code == 2
    assert "error: provider local: providers.local.model: cannot read the model file" in result.err
    assert "missing.gguf" in result.err


# -- schema -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--response",)])
def test_schema_is_a_json_schema(cli, arguments):
    jsonschema = importlib.import_module("jsonschema")
    schema = json.loads(cli("config", "schema", *arguments).out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_schemas_fit(cli, emu, config):
    jsonschema = importlib.import_module("jsonschema")
    response = json.loads(cli("chat", "Hi", "--json").out)
    jsonschema.validate(response, json.loads(cli("config", "schema", "--response").out))


# -- init -------------------------------------------------------------------------------------------------------------


def test_init_then_check(cli):
    assert cli("config", "init").code == 0
    result = cli("config", "check")
    assert result.code == 0
    assert "route chat: ok, local:smollm2" in result.out
    text = Path("llamaroute.toml").read_text()
    assert text.startswith("#:schema ")
    assert "# [providers.cloudflare]" in text
    assert '# base_url = "http://10.0.0.5:8000/v1"' in text


def test_init_takes_what_the_environment_has(cli, monkeypatch):
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", "0123456789abcdef0123456789abcdef")
    monkeypatch.setenv("CF_API_TOKEN", "cf-s3cret")
    monkeypatch.setenv("HF_TOKEN", "hf_s3cret")
    result = cli("config", "init", "my.toml")
    assert result.out == "my.toml: written, with cloudflare, huggingface, local\n"
    text = Path("my.toml").read_text()
    assert "s3cret" not in text
    assert "0123456789abcdef" not in text
    data = tomllib.loads(text)
    assert data["providers"]["cloudflare"] == {
        "account_id": "${CLOUDFLARE_ACCOUNT_ID}",
        "api_key": "${CF_API_TOKEN}",
    }
    assert data["providers"]["huggingface"] == {"api_key": "${HF_TOKEN}"}
    assert data["routes"]["chat"]["targets"][-1] == "local:smollm2"
    assert cli("config", "check", "my.toml").code == 0


def test_init_fits_the_schema(cli, monkeypatch):
    jsonschema = importlib.import_module("jsonschema")
    monkeypatch.setenv("HF_TOKEN", "hf_s3cret")
    cli("config", "init")
    data = tomllib.loads(Path("llamaroute.toml").read_text())
    jsonschema.validate(data, json.loads(cli("config", "schema").out))


def test_commented_providers_are_right_too(cli, monkeypatch):
    cli("config", "init")
    lines = Path("llamaroute.toml").read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("# [providers."))
    uncommented = [line.removeprefix("# ") for line in lines[start:] if "[" in line or " = " in line]
    Path("llamaroute.toml").write_text("\n".join([*lines[:start], *uncommented]))
    for name in re.findall(r"\$\{(\w+)\}", "\n".join(uncommented)):
        monkeypatch.setenv(name, "https://host.example" if name.endswith(("_ENDPOINT", "_HOST")) else "x")
    result = cli("config", "check")
    assert result.code == 0
    assert "provider gpu-box: ok" in result.out


def test_init_does_not_overwrite(cli):
    Path("llamaroute.toml").write_text("mine")
    result = cli("config", "init")
    assert (result.code, result.err) == (2, "error: llamaroute.toml is there already; --force overwrites it\n")
    assert Path("llamaroute.toml").read_text() == "mine"
    assert cli("config", "init", "--force").code == 0
    assert cli("config", "check").code == 0


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("conf.yaml", "a name that ends in .toml"),
        ("no/such/folder.toml", "cannot write no/such/folder.toml: No such file or directory"),
        ("folder.toml", "cannot write folder.toml: Is a directory"),
    ],
)
def test_init_where_it_cannot_write(cli, file, said):
    Path("folder.toml").mkdir()
    result = cli("config", "init", file, "--force")
    assert result.code == 2
    assert said in result.err


def test_init_makes_no_second_config_file(cli):
    Path("llamaroute.yaml").write_text("version: 1")
    result = cli("config", "init")
    assert result.code == 2
    assert "llamaroute.yaml is there already" in result.err
