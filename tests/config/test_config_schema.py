"""The published JSON Schemas say what the loader takes."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from llamaroute.config.schema import config_schema, main, render, response_schema
from llamaroute.types.response import ChatResponse, Notice, Usage

DOCS = Path(__file__).parents[2] / "docs"

# The contract's example with the kinds of conftest.py, without what this version does not know.
EXAMPLE = """
version = 1
default = "chat"
[providers.cloud]
account_id = "${CLOUD_ACCOUNT:-a}"
api_key    = "${CLOUD_KEY:-k}"
api        = "openai"
[providers.gpu-box]
kind     = "box"
base_url = "http://10.0.0.5:8000/v1"
models   = { "llama-4-maverick" = "prod-maverick" }
headers  = { "X-Key" = { command = ["echo", "x"] } }
verify   = "${VERIFY:-true}"
timeout  = "${TIMEOUT:-30}"
[providers.cloud.features]
tools = "emulate"
[providers.hub]
[routes.chat]
strategy = "failover"
targets  = ["cloud:llama-4-scout", "gpu-box:llama-4-scout", { target = "hub:smollm2", weight = 1 }]
timeout  = { connect = 5, first_token = 20, idle = 20, total = 120 }
retry    = { attempts = 3, base = 0.5, max = 20 }
[routes.story]
targets  = ["gpu-box:llama-4-maverick"]
retry    = 2
on_break = "continue"
[limits.cloud]
requests_per_minute = 300
tokens_per_minute   = 400_000
concurrency         = 32
[state]
url = "redis://localhost:6379/0"
[images]
max_bytes = 20_000_000
timeout   = 10
redirects = 3
allow_private = false
allow_files   = true
[models."my-model"]
ids = { cloud = "@org/my-model", "gpu-box" = "my-model" }
context_window = 131_072
features = { tools = "emulate" }
input_price = 0.1
end_of_life = { cloud = "2027-01-31" }
[policy]
operator_domicile = "US"
monthly_active_users = 1_000
regions = ["us-*"]
providers = ["cloud", "gpu-box", "hub"]
budget = { usd_per_day = 50, usd_per_call = 0.25, unpriced = "allow" }
[routes.story.policy]
regions = ["us-east-1"]
providers = ["gpu-box"]
budget = { usd_per_day = "${BUDGET:-5}" }
[profiles.prod]
default = "story"
providers.cloud.api = "native"
"""


@pytest.fixture
def schema(specs):
    schema = config_schema(["hub", "cloud", "box"], specs)
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


def problems(schema, data) -> list[str]:
    return [error.json_path for error in jsonschema.Draft202012Validator(schema).iter_errors(data)]


def test_the_example_fits_schema_and_loader(schema, load, tmp_path) -> None:
    assert problems(schema, tomllib.loads(EXAMPLE)) == []
    (tmp_path / "llamaroute.toml").write_text(EXAMPLE)
    assert load(profile="prod").config.providers["cloud"].api == "native"
    assert load().config.providers["gpu-box"].headers == {"X-Key": "x"}


BASE = {"providers": {"cloud": {"account_id": "a"}}}


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"version": 2}, "$.version"),
        ({"provider": {}}, "$"),
        ({"limits": {"cloud": {"concurrency": 0}}}, "$.limits.cloud.concurrency"),
        ({"state": {"url": "redis://localhost", "urls": []}}, "$.state"),
        ({"providers": {"cloud": {"account_id": "a", "acount": 1}}}, "$.providers.cloud"),
        ({"providers": {"cloud": {}}}, "$.providers.cloud"),
        ({"providers": {"x": {"account_id": "a"}}}, "$.providers.x"),
        ({"providers": {"x": {"kind": "nothing"}}}, "$.providers.x"),
        ({"providers": {"a:b": {"kind": "hub"}}}, "$.providers"),
        ({"providers": {"hub": {"timeout": 0}}}, "$.providers.hub"),
        ({"providers": {"hub": {"api_key": {"fil": "x"}}}}, "$.providers.hub"),
        ({"routes": {"r": {}}}, "$.routes.r"),
        ({"routes": {"r": {"targets": []}}}, "$.routes.r.targets"),
        ({"routes": {"r": {"targets": ["a"], "hedge": {"after": "p100"}}}}, "$.routes.r.hedge.after"),
        ({"routes": {"r": {"targets": ["a"], "hedge": {"max_extra": 1.5}}}}, "$.routes.r.hedge.max_extra"),
        ({"routes": {"r": {"targets": ["a"], "hedge": {"before": 1}}}}, "$.routes.r.hedge"),
        ({"routes": {"r": {"targets": ["a"], "strategy": "cheepest"}}}, "$.routes.r.strategy"),
        ({"images": {"redirects": -1}}, "$.images.redirects"),
        ({"policy": {"region": ["us-*"]}}, "$.policy"),
        ({"policy": {"operator_domicile": "Germany"}}, "$.policy.operator_domicile"),
        ({"policy": {"budget": {"unpriced": "maybe"}}}, "$.policy.budget.unpriced"),
        ({"routes": {"r": {"targets": ["a"], "policy": {"end_user": True}}}}, "$.routes.r.policy"),
        ({"profiles": {"p": {"profiles": {}}}}, "$.profiles.p"),
    ],
)
def test_what_the_loader_refuses_the_schema_refuses(schema, fails, data, path) -> None:
    assert problems(schema, {**BASE, **data}) == [path]
    fails({**BASE, **data}, **({"profile": "p"} if "profiles" in data else {}))


@pytest.mark.parametrize(
    "data",
    [
        {"providers": {"cloud": {"kind": "hub"}}},
        {"providers": {"x": {"kind": "cloud", "account_id": {"file": "f"}, "port": "${PORT}"}}},
        {"providers": {"hub": {"retry": 3, "timeout": {"idle": "${I}"}, "verify": {"file": "ca"}}}},
        {"providers": {"cloud": {"account_id": "a", "gateway": {"id": "g", "token": {"file": "t"}}}}},
        {"$schema": "config.schema.json", "images": {"allow_private": "${P:-false}"}},
    ],
)
def test_what_the_schema_takes(schema, data) -> None:
    assert problems(schema, data) == []


def test_every_key_is_described(schema) -> None:
    for name, table in {"": schema, **schema["$defs"]}.items():
        if name in ("Gateway", "provider.cloud", "provider.box"):  # the tests' own
            continue
        for option in table.get("anyOf", [table]):
            for key, value in option.get("properties", {}).items():
                assert value.get("description"), f"{name}.{key}"


def test_tables_of_one_name_but_different_keys(specs) -> None:
    from dataclasses import replace

    from pydantic import BaseModel

    from llamaroute.spi import ProviderSettings

    class Gateway(BaseModel):
        other: int

    class Far(ProviderSettings):
        gateway: Gateway

    far = replace(specs("hub"), name="far", settings=Far)
    schema = config_schema(["cloud", "far"], lambda kind: far if kind == "far" else specs(kind))
    assert {"Gateway", "far.Gateway"} <= schema["$defs"].keys()
    assert problems(schema, {"providers": {"far": {"gateway": {"other": 1}}}}) == []


def test_response_schema() -> None:
    schema = response_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    reply = ChatResponse(text="hi", usage=Usage(1, 2, 3), warnings=(Notice("a", "b"),), raw={"x": [1]})
    assert problems(schema, json.loads(reply.model_dump_json())) == []
    assert problems(schema, {**json.loads(reply.model_dump_json()), "finish_reason": "tired"}) == ["$.finish_reason"]


def test_published_schemas_are_up_to_date(tmp_path) -> None:
    assert main([str(tmp_path)]) == 0
    for name in ("config.schema.json", "response.schema.json"):
        published = (DOCS / name).read_text(encoding="utf-8")
        assert published == (tmp_path / name).read_text(encoding="utf-8"), (
            "run: python -m llamaroute.config.schema docs"
        )


def test_the_documentation_names_every_key() -> None:
    text = (DOCS / "config.md").read_text(encoding="utf-8")
    for definition in json.loads((DOCS / "config.schema.json").read_text(encoding="utf-8"))["$defs"].values():
        for option in definition.get("anyOf", [definition]):
            for key in option.get("properties", {}):
                assert f"`{key}`" in text, key


def test_deterministic(specs) -> None:
    assert render(config_schema(["hub", "box"], specs)) == render(config_schema(["box", "hub"], specs))
    assert main([]) == 2
