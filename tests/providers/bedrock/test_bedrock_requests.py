"""Bedrock: URLs, headers, settings, regions, guardrails and environment variables."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from llamaroute.errors import CapabilityError
from llamaroute.providers.bedrock import SPEC
from llamaroute.spi import Target
from llamaroute.types.parts import Image
from llamaroute.types.request import ChatRequest
from tests.providers.wires import WEATHER, ask, json_of, support, target_of

SCOUT = "us.meta.llama4-scout-17b-instruct-v1%3A0"
US_EAST = "https://bedrock-runtime.us-east-1.amazonaws.com"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123def456"
ESCAPED = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc123def456"


def target(model: str = "llama-4-scout", **settings: Any) -> Target:
    return target_of(SPEC, {"api_key": "k", "region": "us-east-1", **settings}, model)


def build(request: ChatRequest, *, stream: bool = False, model: str = "llama-4-scout", **settings: Any) -> Any:
    return SPEC.adapter.build_request(request, target(model, **settings), stream=stream)


@pytest.mark.parametrize(
    ("settings", "model", "url"),
    [
        ({}, "llama-4-scout", f"{US_EAST}/model/{SCOUT}"),
        ({}, "llama-4-maverick", f"{US_EAST}/model/us.meta.llama4-maverick-17b-instruct-v1%3A0"),
        ({"region": "us-west-2"}, "llama-4-scout", f"https://bedrock-runtime.us-west-2.amazonaws.com/model/{SCOUT}"),
        ({}, "meta.llama4-scout-17b-instruct-v1:0", f"{US_EAST}/model/meta.llama4-scout-17b-instruct-v1%3A0"),
        ({"models": {"llama-4-scout": PROFILE}}, "llama-4-scout", f"{US_EAST}/model/{ESCAPED}"),
        ({"base_url": "http://127.0.0.1:9/bedrock/"}, "llama-4-scout", f"http://127.0.0.1:9/bedrock/model/{SCOUT}"),
        # The credentials know the region, and put it in when they sign.
        ({"region": None}, "llama-4-scout", f"https://bedrock-runtime.{{region}}.amazonaws.com/model/{SCOUT}"),
    ],
    ids=str,
)
def test_url(settings: dict[str, Any], model: str, url: str) -> None:
    assert build(ask(), model=model, **settings).url == f"{url}/converse"
    assert build(ask(), model=model, stream=True, **settings).url == f"{url}/converse-stream"


def test_headers() -> None:
    assert dict(build(ask()).headers) == {"content-type": "application/json", "accept": "application/json"}
    assert build(ask(), stream=True).headers["accept"] == "application/vnd.amazon.eventstream"


def test_a_guardrail_and_a_service_tier() -> None:
    body = json_of(build(ask(), guardrail={"id": "abc123", "version": "2", "trace": "enabled"}, service_tier="flex"))
    assert body["guardrailConfig"] == {"guardrailIdentifier": "abc123", "guardrailVersion": "2", "trace": "enabled"}
    assert body["serviceTier"] == {"type": "flex"}
    body = json_of(build(ask(), guardrail={"id": "abc123"}))
    assert body["guardrailConfig"] == {"guardrailIdentifier": "abc123", "guardrailVersion": "DRAFT"}
    assert "serviceTier" not in body


@pytest.mark.parametrize(
    ("tier", "prices"),
    [
        (None, ("0.17", "0.66")),
        ("default", ("0.17", "0.66")),
        ("flex", ("0.085", "0.33")),
        ("priority", ("0.2975", "1.155")),
    ],
)
def test_a_service_tier_has_its_own_prices(tier: str | None, prices: tuple[str, str]) -> None:
    row = target(service_tier=tier).row  # which is refined twice on its way
    assert (row.input_price, row.output_price) == tuple(map(Decimal, prices))


def test_prices_of_ones_own_stay() -> None:
    row = target(service_tier="flex").row.evolve(input_price=Decimal("0.1"), output_price=Decimal("0.2"))
    assert SPEC.refine is not None
    refined = SPEC.refine(row, target(service_tier="flex").options)
    assert (refined.input_price, refined.output_price) == (Decimal("0.1"), Decimal("0.2"))
    assert target("us.acme.other-v1:0", service_tier="flex").row.input_price is None


@pytest.mark.parametrize("region", ["eu-west-1", "eu-central-1", "ap-northeast-1", "ca-central-1"])
def test_regions_without_llama_4(region: str) -> None:
    with pytest.raises(CapabilityError, match="us-east-1, us-east-2 or us-west-2"):
        support(ask(), target(region=region), stream=False)
    # An own profile is the account's own affair.
    support(ask(), target(region=region, models={"llama-4-scout": PROFILE}), stream=False)


@pytest.mark.parametrize(
    ("model", "settings", "regions"),
    [
        ("llama-4-scout", {"region": "us-east-1"}, ("us-east-1", "us-east-2", "us-west-1", "us-west-2")),
        ("us.acme.other-v1:0", {}, ("us-*",)),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.acme.other-v1:0", {}, ("us-*",)),
        ("llama-4-scout", {"models": {"llama-4-scout": f"arn:aws:bedrock:us-east-1:1:application-{PROFILE}"}},
         ("cross-region",)),
        ("llama-4-scout", {"models": {"llama-4-scout": "arn:aws:bedrock:us-east-1:1:imported-model/a"}}, ()),
    ],
    ids=["catalogue", "profile", "profile-arn", "application-profile", "own-model"],
)  # fmt: skip
def test_where_a_model_may_run(model: str, settings: dict[str, Any], regions: tuple[str, ...]) -> None:
    """Of a profile that is every region it leads to, whichever it is called from."""
    assert target(model, **settings).row.regions == regions


@pytest.mark.parametrize("region", ["us-east-1", "us-east-2", "us-west-1", "us-west-2", None])
def test_regions_with_llama_4(region: str | None) -> None:
    assert target(region=region).row.unavailable == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"top_k": 5},
        {"seed": 1},
        {"frequency_penalty": 0.1},
        {"presence_penalty": 0.1},
        {"repetition_penalty": 1.1},
        {"logprobs": 0},
        {"temperature": 1.1},
    ],
    ids=str,
)
def test_what_the_row_refuses(fields: dict[str, Any]) -> None:
    with pytest.raises(CapabilityError):
        support(ask(**fields), target(), stream=False)


def test_tools_do_not_stream() -> None:
    how = support(ask(tools=(WEATHER,)), target(), stream=True)
    assert (how["stream"], how["tools"], how["stream_tools"]) == ("native", "native", "emulate")


def test_at_most_eight_images() -> None:
    rule = target().row.image
    assert (rule.max_count, rule.max_bytes) == (8, 3_932_160)
    pictures = [Image(b"\x89PNG\r\n\x1a\n") for _ in range(9)]
    assert support(ask(*pictures[:8]), target(), stream=False)["images"] == "native"
    assert support(ask(*pictures), target(), stream=False)["images"] == "emulate"


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"access_key_id": "AKIDEXAMPLE"}, "set both or none"),
        ({"secret_access_key": "sekret-sekret"}, "set both or none"),
        ({"session_token": "sekret-sekret"}, "goes with access_key_id"),
        ({"access_key_id": "A", "secret_access_key": "sekret-sekret", "profile": "p"}, "set one of them"),
        ({"role_arn": "my-role"}, "arn:aws:iam"),
        ({"region": "us-east-1/../x"}, "region"),
        ({"service_tier": "fast"}, "service_tier"),
        ({"guardrail": {}}, "guardrail.id"),
        ({"guardrail": {"id": "a", "trace": "yes"}}, "guardrail.trace"),
    ],
    ids=str,
)
def test_settings_that_are_refused(settings: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SPEC.settings.model_validate({"kind": "bedrock", **settings})
    assert where in str(caught.value)
    assert "sekret" not in str(caught.value)


REGION = {"AWS_REGION": "us-east-1"}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s"}


@pytest.mark.parametrize(
    ("env", "table"),
    [
        ({}, None),
        (REGION, None),
        (KEYS, None),
        ({"AWS_BEARER_TOKEN_BEDROCK": "t"}, None),
        ({**REGION, "AWS_BEARER_TOKEN_BEDROCK": "t"}, {"region": "us-east-1", "api_key": "t"}),
        ({**REGION, **KEYS}, {"region": "us-east-1"}),
        ({**REGION, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE"}, None),
        ({"AWS_DEFAULT_REGION": "us-west-2", "AWS_PROFILE": "work"}, {"region": "us-west-2"}),
        ({**REGION, **KEYS, "AWS_ENDPOINT_URL": "http://a"}, {"region": "us-east-1", "base_url": "http://a"}),
        (
            {**REGION, **KEYS, "AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "http://b"},
            {"region": "us-east-1", "base_url": "http://b"},
        ),
        (
            {**REGION, **KEYS, "AWS_ENDPOINT_URL": "http://a", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            {"region": "us-east-1"},
        ),
    ],
    ids=str,
)
def test_from_env(env: dict[str, str], table: dict[str, Any] | None) -> None:
    assert SPEC.from_env is not None
    assert SPEC.from_env(env) == table
