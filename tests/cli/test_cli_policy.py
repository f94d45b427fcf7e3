"""What policy forbids, on the command line: exit code 3, the rule on stderr, and not a byte sent."""

from __future__ import annotations

from pathlib import Path

import pytest


def with_policy(config: Path, table: str) -> None:
    config.write_text(config.read_text() + table)


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ('[policy]\nregions = ["us-*"]\n', "policy.regions"),
        ("[policy]\nmonthly_active_users = 800_000_000\n", "policy.monthly_active_users"),
        ('[policy]\nbudget = { usd_per_day = 0 }\n[models."llama-4-scout"]\ninput_price = 1\noutput_price = 1\n',
         "policy.budget.usd_per_day"),
    ],
    ids=["regions", "users", "budget"],
)  # fmt: skip
def test_a_forbidden_call(cli, emu, config, table, rule, stream):
    with_policy(config, table)
    result = cli("chat", "Hi", stream)
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("error: ")
    assert rule in result.err
    assert "Traceback" not in result.err
    assert emu.requests == []


def test_images_of_an_operator_in_the_union(cli, emu, config, png):
    with_policy(config, '[policy]\noperator_domicile = "FR"\n')
    result = cli("chat", "What is this?", "--image", str(png))
    assert result.code == 3
    assert "policy.operator_domicile" in result.err
    assert emu.requests == []
    assert cli("chat", "Hi").code == 0


def test_explain_says_why(cli, emu, config):
    with_policy(config, '[policy]\nproviders = ["cloudflare"]\n')
    result = cli("explain")
    assert result.code == 0
    assert "passed over: box:llama-4-scout is forbidden by policy.providers" in result.out
    assert emu.requests == []


def test_an_ended_model_is_the_providers_failure(cli, emu, config):
    with_policy(config, '[models."llama-4-scout"]\nend_of_life = 2025-06-01\n')
    result = cli("chat", "Hi")
    assert result.code == 1
    assert "is not served there since 2025-06-01" in result.err
    assert emu.requests == []
