"""Hosts that list with a plain GET, and what a listing says when it fails."""

from __future__ import annotations

import asyncio
import importlib
import socket
import sys

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator

from .conftest import one

SCOUT = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
CF_SCOUT = "@cf/meta/llama-4-scout-17b-16e-instruct"


# -- cloudflare -------------------------------------------------------------------------------------------------------


def test_cloudflare_lists_llama_4_alone(emu: Emulator, discover) -> None:
    result = discover(emu.providers("cloudflare"))
    assert result.answered
    assert result.problems == ()
    assert [(f.id, f.model, f.what, f.callable) for f in result.found] == [(CF_SCOUT, "llama-4-scout", "model", True)]
    assert emu.requests[0].path.endswith("/ai/models/search")


def test_cloudflare_agrees_with_its_sdk(emu: Emulator, discover) -> None:
    cloudflare = importlib.import_module("cloudflare")
    table = emu.providers("cloudflare")["cloudflare"]
    with cloudflare.Cloudflare(api_token=table["api_key"], base_url=table["base_url"], max_retries=0) as sdk:
        listed = [model["name"] for model in sdk.ai.models.list(account_id=table["account_id"])]
    assert [found.id for found in discover({"cloudflare": table}).found] == [
        name for name in listed if "llama-4" in name
    ]


def test_cloudflare_reads_all_pages(discover) -> None:
    names = [f"@cf/somebody/model-{number}" for number in range(230)]
    with Emulator(models={"cloudflare": [*names, CF_SCOUT]}) as emu:
        assert [found.id for found in discover(emu.providers("cloudflare")).found] == [CF_SCOUT]
        assert [request.query["page"] for request in emu.requests] == ["1", "2", "3"] * 2


def test_a_model_that_the_table_names_is_kept_and_one_that_is_not_there_is_said(emu: Emulator, discover) -> None:
    tables = emu.providers("cloudflare")
    tables["cloudflare"]["models"] = {"mine": "@cf/meta/llama-3.1-8b-instruct", "gone": "@cf/meta/gone"}
    result = discover(tables)
    assert [(found.id, found.model) for found in result.found] == [
        (CF_SCOUT, "llama-4-scout"),
        ("@cf/meta/llama-3.1-8b-instruct", "mine"),
    ]
    assert one(result).code == "not-found"
    assert "providers.cloudflare.models: '@cf/meta/gone'" in one(result).message


def test_cloudflare_wrong_token(emu: Emulator, discover) -> None:
    tables = emu.providers("cloudflare")
    tables["cloudflare"]["api_key"] = "wrong-token-of-somebody"
    result = discover(tables)
    assert not result.answered
    assert result.found == ()
    assert one(result).code == "credentials"
    assert "providers.cloudflare" in one(result).remedy
    assert "wrong-token" not in str(result)


def test_cloudflare_missing_permission(emu: Emulator, discover) -> None:
    emu.fault(status=403, code=10000, message="Authentication error", times=2, path="models/search")
    result = discover(emu.providers("cloudflare"))
    assert one(result).code == "permission"
    assert "Workers AI > Read" in one(result).remedy
    assert "403" in str(one(result))


def test_cloudflare_error_with_status_200(emu: Emulator, discover) -> None:
    body = {"success": False, "errors": [{"code": 7003, "message": "no such account"}], "result": None}
    emu.fault(body=body, times=2, path="models/search")
    result = discover(emu.providers("cloudflare"))
    assert one(result).code == "not-found"
    assert "no such account" in one(result).message
    assert not result.answered


# -- hugging face -----------------------------------------------------------------------------------------------------


def test_huggingface_lists_each_inference_provider(emu: Emulator, discover) -> None:
    result = discover(emu.providers("huggingface"))
    assert result.problems == ()
    scouts = {found.id: found for found in result.found if found.model == "llama-4-scout"}
    assert set(scouts) == {f"{SCOUT}:{name}" for name in ("together", "nscale", "groq", "novita")}
    assert scouts[f"{SCOUT}:nscale"].status == "live"
    assert scouts[f"{SCOUT}:nscale"].callable is True
    assert "131072 tokens" in scouts[f"{SCOUT}:nscale"].note
    assert {found.model for found in result.found} == {"llama-4-scout", "llama-4-maverick"}


def test_what_huggingface_lists_can_be_called(emu: Emulator, discover) -> None:
    tables = emu.providers("huggingface")
    emu.reply("From nscale.")
    with lr.Client({"providers": tables}) as client:
        ids = [found.id for found in client.discover("huggingface").found]
        assert client.chat("Hi", model=f"huggingface:{next(i for i in ids if 'nscale' in i)}").text == "From nscale."


def test_huggingface_wrong_token(emu: Emulator, discover) -> None:
    """The router's list is public: without asking the Hub, a wrong token would look right."""
    tables = emu.providers("huggingface")
    tables["huggingface"]["api_key"] = "hf_wrong_token"
    result = discover(tables)
    assert one(result).code == "credentials"
    assert {found.callable for found in result.found} == {False}
    with pytest.raises(importlib.import_module("huggingface_hub.errors").HfHubHTTPError):
        hub(emu, "hf_wrong_token").whoami()


def test_huggingface_token_without_the_permission(discover) -> None:
    with Emulator(quirks=["token-without-inference"]) as emu:
        result = discover(emu.providers("huggingface"))
        assert hub(emu).whoami()["auth"]["accessToken"]["role"] == "fineGrained"
    assert one(result).code == "permission"
    assert "Make calls to Inference Providers" in one(result).remedy
    assert {found.callable for found in result.found} == {False}


def hub(emu: Emulator, token: str | None = None):
    api = importlib.import_module("huggingface_hub").HfApi
    return api(endpoint=emu.base_url("huggingface").removesuffix("/v1"), token=token or emu.key("huggingface"))


def test_a_gateway_before_the_router_need_not_know_tokens(emu: Emulator, discover) -> None:
    emu.fault(status=404, times=2, path="whoami")
    result = discover(emu.providers("huggingface"))
    assert result.problems == ()
    assert {found.callable for found in result.found} == {True}


@pytest.mark.parametrize("engine", ["tgi", "vllm"])
def test_huggingface_endpoint(engine: str, discover) -> None:
    with Emulator(engine=engine) as emu:
        result = discover(emu.providers("hf-endpoint"))
    assert result.problems == ()
    assert {found.what for found in result.found} == {"endpoint"}
    assert "llama-4-scout" in {found.model for found in result.found}


# -- servers of one's own ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openai", "vllm", "llamacpp", "ollama"])
def test_openai_compatible(name: str, emu: Emulator, discover) -> None:
    openai = importlib.import_module("openai")
    table = emu.providers(name)[name]
    with openai.OpenAI(base_url=table["base_url"], api_key=table.get("api_key") or "none", max_retries=0) as sdk:
        listed = {model.id for model in sdk.models.list()}
    result = discover({"box": table})
    assert result.problems == ()
    assert {found.id for found in result.found} == listed
    assert all(found.callable and found.kind == "openai-compatible" for found in result.found)


def test_an_address_that_names_the_whole_route(emu: Emulator, discover) -> None:
    table = emu.providers("vllm")["vllm"]
    table["base_url"] += "/chat/completions?tenant=a"
    assert discover({"box": table}).found
    assert emu.requests[0].path == "/v1/models"
    assert emu.requests[0].query == {"tenant": "a"}


def test_a_server_without_llama_4(discover) -> None:
    with Emulator(models={"openai": ["some-model", "other-model"]}) as emu:
        table = emu.providers("openai")["openai"]
        table.pop("model")
        result = discover({"box": table})
        assert result.answered
        assert one(result).code == "nothing-found"
        assert "providers.box.models" in one(result).remedy
        assert [found.id for found in discover({"box": {**table, "model": "other-model"}}).found] == ["other-model"]


def test_a_dead_server(discover) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    result = discover({"box": {"kind": "openai-compatible", "base_url": f"http://127.0.0.1:{port}/v1"}})
    assert not result.answered
    assert one(result).code == "unreachable"
    assert "providers.box" in one(result).remedy


def test_a_server_that_does_not_answer_in_time(emu: Emulator, discover) -> None:
    emu.fault(stall=5.0, times=2, path="models")
    result = discover({"box": emu.providers("openai")["openai"]}, timeout=0.3)
    assert one(result).code == "unreachable"


@pytest.mark.parametrize("body", ["<html>hello</html>", [1, 2], {"data": "none"}])
def test_what_is_no_list(emu: Emulator, discover, body) -> None:
    emu.fault(body=body, times=2, path="models")
    result = discover({"box": emu.providers("openai")["openai"]})
    assert result.found == ()
    assert one(result).code in ("failed", "not-found")


def test_a_server_that_breaks(emu: Emulator, discover) -> None:
    emu.fault(status=500, message="boom", times=2, path="models")
    result = discover({"box": emu.providers("openai")["openai"]})
    assert one(result).code == "failed"
    assert "boom" in one(result).message
    assert "status 500" in one(result).message


@pytest.mark.parametrize("name", ["cloudflare", "huggingface", "openai", "databricks", "azure", "azure-serverless"])
@pytest.mark.parametrize(
    "body",
    [
        {"result": ["name"], "data": ["name"], "endpoints": ["name"], "value": ["name"]},
        {"result": [{}], "data": [{}], "endpoints": [{}], "model_name": ["x"]},
        {"result": 1, "data": 1, "endpoints": 1, "model_name": 1},
        {"data": [{"id": "llama-4-scout", "providers": [1]}], "endpoints": [{"name": "llama-4-scout", "config": 1}]},
        ["llama-4-scout"],
        "llama-4-scout",
        None,
    ],
)
def test_odd_listings_are_no_exceptions(emu: Emulator, discover, name: str, body) -> None:
    for path in ("models", "endpoints", "whoami", "info"):
        emu.fault(body=body if body is not None else "null", status=200, times=4, path=path)
    result = discover(emu.providers(name))
    assert all(problem.code in ("failed", "nothing-found", "not-found", "settings") for problem in result.problems)
    assert not any(found.callable and found.kind != "openai-compatible" for found in result.found)


def test_on_trio(emu: Emulator) -> None:
    trio = importlib.import_module("trio")
    tables = emu.providers("cloudflare", "bedrock")

    async def ask() -> list[lr.Discovery]:
        async with lr.AsyncClient({"providers": tables}) as client:
            return [await client.discover(name) for name in tables]

    assert all(result.answered and result.found for result in trio.run(ask))


# -- local ------------------------------------------------------------------------------------------------------------


def test_local_model_that_is_not_here(discover) -> None:
    result = discover({"local": {"model": "smollm2"}})
    assert [(found.id, found.callable) for found in result.found] == [("smollm2", False)]
    assert "llamaroute local pull smollm2" in one(result).message


def test_local_file(discover, tmp_path) -> None:
    path = tmp_path / "Llama-4-Scout.gguf"
    path.write_bytes(b"GGUF")
    result = discover({"local": {"model": str(path)}})
    assert [(found.model, found.callable, found.note) for found in result.found] == [("llama-4-scout", True, str(path))]
    assert result.problems == ()


def test_local_without_its_engine(discover, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "Llama-4-Scout.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    result = discover({"local": {"model": str(path)}})
    assert one(result).code == "not-installed"
    assert "pip install 'llamaroute[local]'" in one(result).message
    assert result.found[0].callable is False


# -- accounts ---------------------------------------------------------------------------------------------------------


def test_no_such_account(emu: Emulator) -> None:
    tables = emu.providers("cloudflare")
    with lr.Client({"providers": tables}) as client, pytest.raises(lr.InputError, match="did you mean 'cloudflare'"):
        client.discover("cloudfare")

    async def ask() -> None:
        async with lr.AsyncClient({"providers": tables}) as client:
            await client.discover("nobody")

    with pytest.raises(lr.InputError, match="providers: cloudflare"):
        asyncio.run(ask())


def test_an_account_without_a_key(discover) -> None:
    result = discover({"cloudflare": {"account_id": "0" * 32}})
    assert not result.answered
    assert one(result).code == "settings"
    assert "providers.cloudflare: no api_key" in one(result).message


def test_names_that_people_and_hosts_give() -> None:
    known = {
        "us.meta.llama4-scout-17b-instruct-v1:0": "llama-4-scout",
        "meta-llama-4-maverick-040225": "llama-4-maverick",
        "Llama-4-Maverick-17B-128E-Instruct-FP8": "llama-4-maverick",
        "publishers/meta/models/llama-4-scout-17b-16e-instruct-maas": "llama-4-scout",
        "llama4:scout": "llama-4-scout",
        "databricks-meta-llama-3-3-70b-instruct": None,
        "meta-llama/Llama-Guard-4-12B": None,
    }
    assert {name: lr.catalog.identify(name) for name in known} == known
    assert lr.catalog.is_llama_4("llama4:latest")
    assert not any(
        map(lr.catalog.is_llama_4, ("meta-llama/Llama-Guard-4-12B", "llama-405b", "tinyllama-4b", "llama3.4"))
    )
