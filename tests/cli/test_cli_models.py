"""`llamaroute models`: the catalogue, and what the configured accounts can call."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from llamaroute import catalog
from llamaroute.emulator import Emulator
from llamaroute.types.capability import FEATURES

# -- the catalogue ----------------------------------------------------------------------------------------------------


def test_the_catalogue_as_a_table(cli, emu):
    result = cli("models")
    assert result.code == 0
    heads, *lines = result.out.splitlines()
    assert heads.split() == [
        "MODEL",
        "PROVIDER",
        "ID",
        "CONTEXT",
        "OUTPUT",
        "IN",
        "OUT",
        "ENDS",
        "FEATURES",
        "EVIDENCE",
    ]
    line = next(line for line in lines if " cloudflare " in line).split()
    facts = catalog.facts("cloudflare", "llama-4-scout")
    row = catalog.rows("cloudflare")[0]
    letters = "".join({"native": "N", "emulate": "E", "refuse": "R"}[row.features[name]] for name in FEATURES)
    assert line[:9] == ["llama-4-scout", "cloudflare", row.model_id, "131000", "-", "0.27", "0.85", "-", letters]
    count = [sum(fact.evidence == word for fact in facts.values()) for word in ("recorded", "documented", "inferred")]
    assert line[9:] == [str(count[0]), "/", str(count[1]), "/", str(count[2])]
    assert "openai-compatible" in result.err
    assert "features: stream, tools, " in result.err
    assert not emu.requests


def test_the_table_shows_ends_and_how_sure_they_are(cli):
    """Who claims a date is not the host: it has a question mark."""
    result = cli("models", "--provider", "azure")
    shown = {line.split()[0]: line.split()[7] for line in result.out.splitlines()[1:]}
    for row in catalog.rows("azure"):
        assert row.end_of_life is not None
        assert shown[row.model] == f"{row.end_of_life.day}{'' if row.end_of_life.sure else '?'}"
    assert "somebody claims so" in result.err
    entries = {entry["model"]: entry for entry in json.loads(cli("models", "--provider", "azure", "--json").out)}
    end = entries["llama-4-scout"]["end_of_life"]
    fact = catalog.facts("azure", "llama-4-scout")["end_of_life"]
    assert end == {"day": fact.value.isoformat(), "sure": fact.evidence != "inferred", "source": fact.source}


def test_one_kind(cli):
    result = cli("models", "--provider", "huggingface")
    assert {line.split()[1] for line in result.out.splitlines()[1:]} == {"huggingface"}


def test_a_kind_without_rows(cli):
    result = cli("models", "--provider", "openai-compatible")
    assert (result.code, result.out) == (0, "")
    assert "serve what you give them: openai-compatible" in result.err


def test_json_has_every_source(cli):
    rows = json.loads(cli("models", "--provider", "cloudflare", "--json").out)
    (row,) = rows
    assert row["id"] == "@cf/meta/llama-4-scout-17b-16e-instruct"
    assert row["input_price"] == "0.27"
    assert row["features"]["tools"] == "native"
    fact = row["facts"]["context_window"]
    assert (fact["value"], fact["evidence"], fact["checked"]) == (131000, "documented", "2026-11-23")
    assert fact["source"].startswith("https://")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--provider", "cloudfare"), "no kind of provider is called 'cloudfare'"),
        (("--config", "x.toml"), "--live"),
        (("--timeout", "5"), "--live"),
        (("--live", "--config", "missing.toml"), "missing.toml"),
        (("--live", "--provider", "boxx"), "did you mean 'box'"),
    ],
)
def test_wrong_usage(cli, config, arguments, said):
    result = cli("models", *arguments)
    assert result.code == 2
    assert said in result.err


# -- live -------------------------------------------------------------------------------------------------------------


def test_live(cli, config, emu):
    result = cli("models", "--live")
    assert (result.code, result.err) == (0, "")
    heads, *lines = result.out.splitlines()
    assert heads.split() == ["PROVIDER", "MODEL", "ID", "WHAT", "REGION", "CALLABLE", "STATUS", "NOTE"]
    cells = [line.split()[:6] for line in lines]
    assert ["box", "llama-4-scout", "llama-4-scout", "model", "-", "yes"] in cells
    scout = "@cf/meta/llama-4-scout-17b-16e-instruct"
    assert ["cloudflare", "llama-4-scout", scout, "model", "-", "yes"] in cells
    assert {request.path.rpartition("/")[2] for request in emu.requests} == {"models", "search"}


def test_live_json_of_one_account(cli, config):
    result = cli("models", "--live", "--provider", "cloudflare", "--json")
    (said,) = json.loads(result.out)
    assert said["provider"] == "cloudflare"
    assert said["answered"] is True
    assert said["found"][0]["model"] == "llama-4-scout"


def test_one_account_that_fails_is_an_error_line_among_answers(cli, config):
    key = Emulator().key("openai")
    config.write_text(config.read_text().replace(key, "wrong-secret-key"))
    result = cli("models", "--live")
    assert result.code == 0
    assert "cloudflare" in result.out
    assert result.err.startswith("error: box: the models: ")
    assert "check the credentials of providers.box" in result.err
    assert "wrong-secret-key" not in result.err


def test_no_account_answers(cli):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    Path("llamaroute.toml").write_text(f'[providers.box]\nkind = "openai-compatible"\nbase_url = "{url}"\n')
    result = cli("models", "--live", "--timeout", "20")
    assert (result.code, result.out) == (1, "")
    assert "error: box: the models: cannot connect" in result.err
