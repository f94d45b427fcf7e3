"""What keeps a target from being asked, rule by rule, and the days around a model's end. No clock."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from llamaroute.errors import PolicyError
from llamaroute.routing.policy import Allowed, Rules, attribution, check, ending, regions_of, retired
from llamaroute.spi import ProviderSettings, Target
from llamaroute.types.capability import EndOfLife, ModelRow
from llamaroute.types.messages import messages_from
from llamaroute.types.parts import Document, Image, Text, Video
from llamaroute.types.request import ChatRequest

PNG = b"\x89PNG\r\n\x1a\n"
REGIONS = "policy.regions"


def target(model: str = "llama-4-scout", model_id: str = "", *, region: str | None = None, **more: Any) -> Target:
    row = ModelRow(model, model_id or model, **{k: more.pop(k) for k in ("regions", "end_of_life") if k in more})
    return Target("acme", "test", model, model_id or model, ProviderSettings(kind="test", region=region), row, **more)


def ask(*parts: Any) -> ChatRequest:
    return ChatRequest(messages_from(list(parts) or "Hi"))


def refusal(rules: Rules, where: Target, request: ChatRequest | None = None) -> PolicyError | None:
    caught: PolicyError | None = None
    try:
        check(request or ask(), where, rules)
    except PolicyError as error:
        caught = error
    if caught is not None:
        assert str(caught).endswith("nothing was sent")
        assert caught.target == where.name
    return caught


# -- accounts and regions ---------------------------------------------------------------------------------------------


def test_no_rule_forbids_nothing() -> None:
    assert refusal(Rules(), target(), ask("Look", Image(PNG))) is None


def test_accounts() -> None:
    rules = Rules(providers=Allowed(("other", "third"), "policy.providers"))
    error = refusal(rules, target())
    assert error is not None
    assert error.rule == "policy.providers"
    assert "acme is not among the accounts allowed: other, third" in str(error)
    assert refusal(Rules(providers=Allowed(("other", "acme"), "policy.providers")), target()) is None


@pytest.mark.parametrize(
    ("patterns", "region", "fine"),
    [
        (("us-*",), "us-east-1", True),
        (("us-*",), "US-EAST-1", True),
        (("us-*", "eu-west-1"), "eu-west-1", True),
        (("us-*",), "eu-west-1", False),
        (("us-east-?",), "us-east-1", True),
        (("us-east-1",), "us-east-10", False),
        (("east",), "us-east-1", False),
        (("*",), "anywhere", True),
    ],
)
def test_regions(patterns: tuple[str, ...], region: str, fine: bool) -> None:
    error = refusal(Rules(regions=Allowed(patterns, REGIONS)), target(region=region))
    assert (error is None) is fine
    if error is not None:
        assert (error.rule, region in str(error)) == (REGIONS, True)


def test_a_region_that_is_not_known_is_not_allowed() -> None:
    error = refusal(Rules(regions=Allowed(("*",), REGIONS)), target())
    assert error is not None
    assert "set providers.acme.region" in str(error)


def test_where_a_model_may_run_counts_and_not_where_it_is_called_from() -> None:
    """A request to a cross-region profile may be served in any of its regions."""
    profile = target(region="us-east-1", regions=("us-east-1", "us-west-2"))
    assert regions_of(profile) == ("us-east-1", "us-west-2")
    error = refusal(Rules(regions=Allowed(("us-east-1",), REGIONS)), profile)
    assert error is not None
    assert "may run in us-west-2," in str(error)
    assert refusal(Rules(regions=Allowed(("us-*",), REGIONS)), profile) is None


def test_what_runs_in_this_process_leaves_no_region() -> None:
    assert refusal(Rules(regions=Allowed(("us-*",), REGIONS)), target("smollm2", transport="local")) is None


# -- licence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("picture", [Image(PNG), Document(b"%PDF-"), Video(b"x")], ids=["image", "document", "video"])
@pytest.mark.parametrize("domicile", ["DE", "EU", "AX"])
def test_images_from_operators_in_the_union(domicile: str, picture: Any) -> None:
    error = refusal(Rules(domicile=domicile), target(), ask("Look", picture))
    assert error is not None
    assert error.rule == "policy.operator_domicile"
    assert f"domiciled in {domicile}" in str(error)
    assert "use-policy" in str(error), "where it can be read"
    assert "policy.end_user" in str(error), "the remedy"


@pytest.mark.parametrize(
    ("rules", "request_", "where"),
    [
        (Rules(domicile="DE"), ask("Hi"), target()),
        (Rules(domicile="US"), ask("Look", Image(PNG)), target()),
        (Rules(domicile="GB"), ask("Look", Image(PNG)), target()),
        (Rules(domicile="DE", end_user=True), ask("Look", Image(PNG)), target()),
        (Rules(domicile="DE", own_licence=True), ask("Look", Image(PNG)), target()),
        (Rules(domicile="DE"), ask("Look", Image(PNG)), target("smollm2")),
        (Rules(monthly_users=10**9), ask("Look", Image(PNG)), target("smollm2")),
    ],
    ids=["text", "us", "gb", "end-user", "own-licence", "another-model", "another-model-users"],
)
def test_what_the_licence_lets_through(rules: Rules, request_: ChatRequest, where: Target) -> None:
    assert refusal(rules, where, request_) is None


def test_images_of_earlier_turns_count() -> None:
    history = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]}]
    request = ChatRequest(messages_from([*history, "And?"]))
    assert any(not isinstance(part, Text) for message in request.messages for part in message.parts)
    assert refusal(Rules(domicile="FR"), target(), request) is not None


@pytest.mark.parametrize("model_id", ["meta/llama-4-maverick-17b-128e-instruct-maas", "prod-llama4"])
def test_the_licence_follows_the_hosts_id(model_id: str) -> None:
    assert refusal(Rules(domicile="FR"), target("mine", model_id), ask("Look", Image(PNG))) is not None


@pytest.mark.parametrize(("users", "fine"), [(700_000_000, True), (700_000_001, False)])
def test_monthly_users(users: int, fine: bool) -> None:
    error = refusal(Rules(monthly_users=users), target())
    assert (error is None) is fine
    if error is not None:
        assert error.rule == "policy.monthly_active_users"
        assert "700,000,000" in str(error)
    assert refusal(Rules(monthly_users=users, own_licence=True), target()) is None
    assert refusal(Rules(monthly_users=users, end_user=True), target()) is None


# -- lifecycle --------------------------------------------------------------------------------------------------------

END = datetime.date(2027, 1, 31)
SURE = target(end_of_life=EndOfLife(END, True, "the host's page"))
CLAIMED = target(end_of_life=EndOfLife(END, False, "somebody's table"))


def on(days: int) -> datetime.date:
    """So many days before the end."""
    return END - datetime.timedelta(days=days)


@pytest.mark.parametrize("where", [SURE, CLAIMED], ids=["sure", "claimed"])
@pytest.mark.parametrize(("days", "told"), [(91, False), (90, True), (1, True)])
def test_the_end_is_told_from_90_days_before(where: Target, days: int, told: bool) -> None:
    notice = ending(where, on(days))
    assert (notice is not None) is told
    assert retired(where, on(days)) is None
    if notice is not None:
        assert (notice.code, notice.feature) == ("model_ending", "lifecycle")
        assert "2027-01-31" in notice.message


def test_on_the_day_it_has_ended() -> None:
    error = retired(SURE, END)
    assert error is not None
    assert (error.target, error.failover, error.retryable) == ("acme:llama-4-scout", True, False)
    assert "since 2027-01-31 (the host's page)" in str(error)
    assert '[models."llama-4-scout"] end_of_life' in str(error)
    assert retired(SURE, on(-400)) is not None


@pytest.mark.parametrize("days", [0, -1, -400])
def test_a_claimed_day_is_only_told(days: int) -> None:
    assert retired(CLAIMED, on(days)) is None
    notice = ending(CLAIMED, on(days))
    assert notice is not None
    assert "is said to have ended on 2027-01-31 (somebody's table)" in notice.message


def test_what_is_told_counts_the_days() -> None:
    assert "in 1 day (" in str(ending(SURE, on(1)))
    assert "in 30 days (" in str(ending(SURE, on(30)))
    assert "is said to end on" in str(ending(CLAIMED, on(30)))


def test_a_model_without_an_end() -> None:
    assert retired(target(), END) is None
    assert ending(target(), END) is None


# -- attribution ------------------------------------------------------------------------------------------------------


def test_attribution() -> None:
    assert attribution([target(), target("llama-4-maverick"), target("smollm2")]) == "Built with Llama"
    assert attribution([target("smollm2")]) == ""
    assert attribution([]) == ""
