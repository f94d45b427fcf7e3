"""Keys and tokens in headers: what each factory signs with, and what it says when there is nothing to sign with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from llamaroute.auth import base
from llamaroute.errors import ConfigError
from llamaroute.registry import builtin_specs, make_auth, provider_spec
from llamaroute.spi import AuthSettings, WireRequest, WireResponse

WIRE = WireRequest("POST", "https://host/v1", {"content-type": "application/json"}, b"{}")
TOKEN = "hf_0123456789abcdef"


NEEDED: dict[str, dict[str, Any]] = {
    "azure": {"endpoint": "https://acme.services.ai.azure.com"},
    "bedrock": {"region": "us-east-1"},
    "cloudflare": {"account_id": "a"},
    "databricks": {"host": "https://adb-1.2.azuredatabricks.net"},
    "openai-compatible": {"base_url": "http://h/v1"},
    "vertex": {"project": "acme"},
}
"""Keys that a kind's table has to have."""


def settings(kind: str = "openai-compatible", env: dict[str, str] | None = None, **table: Any) -> AuthSettings:
    options = provider_spec(kind).settings.model_validate({"kind": kind, **NEEDED.get(kind, {}), **table})
    return AuthSettings("work", options, env or {})


def signed(kind: str, env: dict[str, str] | None = None, **table: Any) -> dict[str, str]:
    """The headers that signing adds."""
    auth = make_auth(provider_spec(kind), settings(kind, env, **table))
    assert auth.stale(0) is False
    assert auth.reject(WIRE, WireResponse(401, {}), 0) is False  # a key that was refused stays refused
    auth.refresh()
    request = auth.sign(WIRE, 0)
    assert (request.method, request.url, request.body) == (WIRE.method, WIRE.url, WIRE.body)
    assert WIRE.headers.items() <= request.headers.items()
    assert dict(WIRE.headers) == {"content-type": "application/json"}  # the unsigned one can be signed again
    return {name: value for name, value in request.headers.items() if name not in WIRE.headers}


def nowhere(tmp_path: Path) -> dict[str, str]:
    """An environment whose token file is not there."""
    return {"HF_HOME": str(tmp_path / "none")}


@pytest.mark.parametrize(
    ("kind", "table", "headers"),
    [
        ("openai-compatible", {}, {}),
        ("openai-compatible", {"api_key": ""}, {}),
        ("openai-compatible", {"api_key": "k"}, {"authorization": "Bearer k"}),
        ("openai-compatible", {"api_key": " k\n"}, {"authorization": "Bearer k"}),  # from a file with a line end
        ("cloudflare", {"api_key": "t"}, {"authorization": "Bearer t"}),
        (
            "cloudflare",
            {"api_key": "g", "email": "a@example.com"},
            {"x-auth-email": "a@example.com", "x-auth-key": "g"},
        ),
        (
            "cloudflare",
            {"api_key": "t", "gateway": {"id": "gw", "token": "gt"}},
            {"authorization": "Bearer t", "cf-aig-authorization": "Bearer gt"},
        ),
        ("cloudflare", {"api_key": "t", "gateway": {"id": "gw"}}, {"authorization": "Bearer t"}),
        ("huggingface", {"api_key": TOKEN}, {"authorization": f"Bearer {TOKEN}"}),
        ("local", {"api_key": "unused"}, {}),
    ],
    ids=str,
)
def test_signing(kind: str, table: dict[str, Any], headers: dict[str, str]) -> None:
    assert signed(kind, **table) == headers


def test_the_tables_key_wins_over_the_environment(tmp_path: Path) -> None:
    env = {**nowhere(tmp_path), "HF_TOKEN": "hf_other", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    assert signed("huggingface", env, api_key=TOKEN) == {"authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("env", "token"),
    [
        ({"HF_TOKEN": "hf_a", "HUGGING_FACE_HUB_TOKEN": "hf_b"}, "hf_a"),
        ({"HUGGING_FACE_HUB_TOKEN": "hf_b"}, "hf_b"),
        ({"HF_TOKEN": " hf_a\n"}, "hf_a"),
        ({"HF_TOKEN": "  ", "HUGGING_FACE_HUB_TOKEN": "hf_b"}, "hf_b"),
        ({"HF_TOKEN": "hf_a", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0"}, "hf_a"),
    ],
    ids=str,
)
def test_hugging_faces_variables(env: dict[str, str], token: str, tmp_path: Path) -> None:
    assert signed("huggingface", {**nowhere(tmp_path), **env}) == {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("variable", ["HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME"])
def test_hugging_faces_token_file(variable: str, tmp_path: Path) -> None:
    """Where `hf auth login` writes it: HF_TOKEN_PATH, else $HF_HOME/token, else the user's cache folder."""
    file = {
        "HF_TOKEN_PATH": tmp_path / "my-token",
        "HF_HOME": tmp_path / "token",
        "XDG_CACHE_HOME": tmp_path / "huggingface" / "token",
    }[variable]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{TOKEN}\n", "utf-8")
    env = {variable: str(file if variable == "HF_TOKEN_PATH" else tmp_path)}
    assert signed("huggingface", env) == {"authorization": f"Bearer {TOKEN}"}
    assert signed("huggingface", {**env, "HF_TOKEN": "hf_env"}) == {"authorization": "Bearer hf_env"}


def test_hugging_faces_token_file_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: tmp_path))
    file = tmp_path / ".cache" / "huggingface" / "token"
    file.parent.mkdir(parents=True)
    file.write_text(TOKEN, "utf-8")
    assert signed("huggingface", {}) == {"authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"], ids=["empty", "blank", "not text"])
def test_a_token_file_without_a_token_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ConfigError, match="api_key"):
        signed("huggingface", {"HF_HOME": str(tmp_path)})


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_implicit_tokens_can_be_switched_off(value: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN, "utf-8")
    env = {"HF_HOME": str(tmp_path), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_IMPLICIT_TOKEN": value}
    with pytest.raises(ConfigError) as caught:
        signed("huggingface", env)
    assert caught.value.key == "providers.work.api_key"
    assert signed("huggingface", env, url="https://abc.endpoints.huggingface.cloud") == {}  # a public endpoint


def test_a_public_endpoint_needs_no_token(tmp_path: Path) -> None:
    assert signed("huggingface", nowhere(tmp_path), url="https://abc.endpoints.huggingface.cloud") == {}


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        ("cloudflare", {}),
        ("cloudflare", {"api_key": ""}),
        ("cloudflare", {"api_key": " \n"}),
        ("huggingface", {}),
        ("huggingface", {"api_key": ""}),
    ],
    ids=str,
)
def test_a_missing_key_is_named(kind: str, table: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        signed(kind, nowhere(tmp_path), **table)
    assert caught.value.key == "providers.work.api_key"
    assert "providers.work" in str(caught.value)


BAD = ["two\nlines-secret", "carriage\rreturn-secret", "nul\0secret", "gr\u00fcn-secret", "\u200bsecret", "tab\tsecret"]


@pytest.mark.parametrize("bad", BAD, ids=ascii)
@pytest.mark.parametrize(
    ("kind", "table", "key"),
    [
        ("openai-compatible", {"api_key": "{}"}, "providers.work.api_key"),
        ("cloudflare", {"api_key": "{}"}, "providers.work.api_key"),
        ("cloudflare", {"api_key": "{}", "email": "a@example.com"}, "providers.work.api_key"),
        ("cloudflare", {"api_key": "k", "email": "{}"}, "providers.work.email"),
        ("cloudflare", {"api_key": "k", "gateway": {"id": "g", "token": "{}"}}, "providers.work.gateway.token"),
        ("huggingface", {"api_key": "{}"}, "providers.work.api_key"),
    ],
)
def test_what_no_header_can_hold_is_refused_and_not_shown(kind: str, table: dict[str, Any], key: str, bad: str) -> None:
    def filled(value: Any) -> Any:
        return {k: filled(v) for k, v in value.items()} if isinstance(value, dict) else value.replace("{}", bad)

    with pytest.raises(ConfigError) as caught:
        signed(kind, **filled(table))
    assert caught.value.key == key
    assert "secret" not in str(caught.value)


def test_bad_characters_in_a_variable_are_refused_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        signed("huggingface", {**nowhere(tmp_path), "HF_TOKEN": "hf_two\nlines-secret"})
    assert "secret" not in str(caught.value)


def test_nothing_shows_a_secret() -> None:
    table = {"api_key": "key-secret", "gateway": {"id": "gw", "token": "gateway-secret"}, "email": "a@example.com"}
    given = settings("cloudflare", {"HF_TOKEN": "env-secret"}, **table)
    auth = base.cloudflare(given)
    for text in (repr(auth), str(auth), repr(given.options), str(given.options), repr(given)):
        assert "secret" not in text
    assert "x-auth-key" in repr(auth)  # names are no secrets


def test_bearer_and_optional_bearer() -> None:
    assert base.bearer(settings(api_key="k")).sign(WIRE, 0).headers["authorization"] == "Bearer k"
    with pytest.raises(ConfigError):
        base.bearer(settings())
    assert base.optional_bearer(settings()).sign(WIRE, 0) is WIRE


def test_every_builtin_kind_names_an_auth_that_exists() -> None:
    for spec in builtin_specs():
        key = "access_token" if spec.name == "vertex" else "api_key"
        auth = make_auth(spec, settings(spec.name, **{key: SecretStr("k-0123456789")}))
        signed = auth.sign(WireRequest("POST", "https://host/v1", {}), 0).headers
        assert spec.name == "local" or "k-0123456789" in str(dict(signed))
