"""The catalogue: every fact has its source, and what it says of the hosts is what their documents say."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest

from llamaroute import catalog
from llamaroute.catalog.prices import cost_of
from llamaroute.types.capability import FEATURES, EndOfLife, ModelRow, ParameterRule, Support
from llamaroute.types.request import SAMPLING_FIELDS
from llamaroute.types.response import Usage

DATA = Path(catalog.__file__).parent / "data"
FILES = sorted(path.stem for path in DATA.glob("*.toml"))
KINDS = [name for name in FILES if name != "models"]
PLAIN = {
    "context_window": int,
    "max_output": int,
    "default_max_tokens": int,
    "requests_per_minute": int,
    "served": bool,
    "end_of_life": datetime.date,
    "regions": list,
    "image.max_count": int,
    "image.max_bytes": int,
    "image.max_pixels": int,
    "image.media_types": list,
    "image.storage": list,
    "price.input": (int, float),
    "price.output": (int, float),
}
"""Names of facts about a model at a host, beside `features.*` and `parameters.*`, and the types of their values."""
MODEL = {
    "title": str,
    "active_parameters": int,
    "total_parameters": int,
    "experts": int,
    "context_window": int,
    "input": list,
    "licence": str,
    "licence.attribution": str,
    "licence.no_images_from": list,
    "licence.most_users": int,
    "released": bool,
}


def read(name: str) -> dict[str, Any]:
    with (DATA / f"{name}.toml").open("rb") as file:
        return tomllib.load(file)


def tables(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each model's facts, as written."""
    data = read(name)
    for table in data.get("model", ()):
        yield table["model"], table["facts"]
    yield from data.get("models", {}).items()


def written() -> list[tuple[str, str, str, dict[str, Any]]]:
    return [
        (file, model, name, fact) for file in FILES for model, facts in tables(file) for name, fact in facts.items()
    ]


FACTS = written()
NEWEST = max(fact["checked"] for *_, fact in FACTS)


def test_the_files_are_there() -> None:
    assert {"cloudflare", "huggingface", "models"} <= set(FILES)
    assert len(FACTS) > 40


@pytest.mark.parametrize(("file", "model", "name", "fact"), FACTS, ids=lambda v: v if isinstance(v, str) else "")
def test_every_fact_says_where_it_is_from(file: str, model: str, name: str, fact: dict[str, Any]) -> None:
    assert set(fact) == {"value", "source", "checked", "evidence"}
    assert fact["evidence"] in ("recorded", "documented", "inferred")
    assert type(fact["checked"]) is datetime.date
    assert datetime.date(2025, 4, 5) <= fact["checked"] <= NEWEST  # Llama 4 was published then
    sources = read(file)["sources"]
    assert fact["source"] in sources or " " in fact["source"] or "://" in fact["source"]
    known = (catalog.models()[model].facts if file == "models" else catalog.facts(file, model))[name]
    assert known.value == fact["value"]
    assert known.source == sources.get(fact["source"], fact["source"])
    assert known.source.strip()


def test_every_source_is_used_and_says_something() -> None:
    for file in FILES:
        used = {fact["source"] for name, _, _, fact in FACTS if name == file}
        used |= {fact["source"] for fact in read(file).get("places", {}).values()}
        assert set(read(file)["sources"]) <= used, f"{file}: sources that no fact names"
        for text in read(file)["sources"].values():
            assert "://" in text or " " in text or "/" in text


@pytest.mark.parametrize(
    ("file", "name", "value"), [(f, n, fact["value"]) for f, _, n, fact in FACTS if f != "models"], ids=str
)
def test_names_and_types_of_a_hosts_facts(file: str, name: str, value: Any) -> None:
    head, _, rest = name.partition(".")
    if head == "features":
        assert rest in FEATURES
        assert value in get_args(Support)
    elif head == "parameters":
        assert rest in SAMPLING_FIELDS
        rule = ParameterRule(**value)
        if rule.minimum is not None and rule.maximum is not None:
            assert rule.minimum < rule.maximum
    else:
        assert isinstance(value, PLAIN[name])


def test_names_and_types_of_a_models_facts() -> None:
    for file, _, name, fact in FACTS:
        if file == "models":
            assert isinstance(fact["value"], MODEL[name])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_say_what_the_facts_say(kind: str) -> None:
    rows = catalog.rows(kind)
    assert [(row.model, row.model_id) for row in rows] == [(t["model"], t["id"]) for t in read(kind)["model"]]
    for row in rows:
        facts = {name: fact.value for name, fact in catalog.facts(kind, row.model).items()}
        assert row.known is True
        for feature in FEATURES:
            assert row.features[feature] == facts.get(f"features.{feature}", "native")
        assert row.parameters == {
            name.removeprefix("parameters."): ParameterRule(**value)
            for name, value in facts.items()
            if name.startswith("parameters.")
        }
        assert (row.context_window, row.max_output) == (facts.get("context_window"), facts.get("max_output"))
        assert row.default_max_tokens == facts.get("default_max_tokens")
        for price, name in ((row.input_price, "price.input"), (row.output_price, "price.output")):
            assert price == (Decimal(str(facts[name])) if name in facts else None)


def test_models() -> None:
    models = catalog.models()
    assert list(models) == ["llama-4-scout", "llama-4-maverick", "llama-4-behemoth"]
    assert {name: model.name for name, model in models.items()} == {name: name for name in models}
    assert catalog.released() == {"llama-4-scout": True, "llama-4-maverick": True, "llama-4-behemoth": False}
    assert models["llama-4-scout"].facts["context_window"].value == 10_000_000
    assert models["llama-4-scout"].facts["input"].value == ["text", "image"]


def test_every_row_is_of_a_canonical_model_that_was_released() -> None:
    for kind in KINDS:
        for row in catalog.rows(kind):
            assert catalog.released()[row.model]


def test_what_is_not_there() -> None:
    assert catalog.rows("no-such-kind") == ()
    assert catalog.rows("openai-compatible") == ()
    with pytest.raises(KeyError):
        catalog.facts("cloudflare", "llama-4-maverick")
    with pytest.raises(KeyError):
        catalog.facts("no-such-kind", "llama-4-scout")


def test_prices_are_exact() -> None:
    row = next(row for row in catalog.rows("cloudflare") if row.model == "llama-4-scout")
    assert (row.input_price, row.output_price) == (Decimal("0.27"), Decimal("0.85"))
    assert isinstance(row.input_price, Decimal)
    cost = cost_of(Usage(1_000_000, 2_000_000, 3_000_000), row)
    assert cost is not None
    assert (cost.usd, cost.estimated) == (Decimal("1.97"), False)
    cost = cost_of(Usage(1, 1, 2, estimated=True), row)
    assert cost is not None
    assert (cost.usd, cost.estimated) == (Decimal("0.00000112"), True)
    assert cost_of(Usage(1, 1, 2), ModelRow("m", "m")) is None


# The documented ranges: what must pass, and what the host would answer with 400.
RANGES = [
    ("cloudflare", "temperature", [0, 0.15, 5], [-0.1, 5.1]),
    ("cloudflare", "top_p", [0, 1, 2], [-0.1, 2.1]),
    ("cloudflare", "top_k", [1, 50], [0, 51]),
    ("cloudflare", "seed", [1, 9_999_999_999], [0, -1, 10_000_000_000]),
    ("cloudflare", "frequency_penalty", [0, 2], [-0.1, 2.1]),
    ("cloudflare", "presence_penalty", [0, 2], [-0.1, 2.1]),
    ("cloudflare", "repetition_penalty", [0, 2], [-0.1, 2.1]),
    ("azure", "temperature", [0, 2], [-0.1, 2.1]),
    ("azure", "top_p", [0, 1], [-0.1, 1.1]),
    ("azure", "frequency_penalty", [-2, 2], [-2.1, 2.1]),
    ("azure", "presence_penalty", [-2, 2], [-2.1, 2.1]),
    ("bedrock", "temperature", [0, 1], [-0.1, 1.1]),
    ("bedrock", "top_p", [0, 1], [-0.1, 1.1]),
    ("bedrock", "max_tokens", [1, 8192], [0]),
    ("bedrock", "stop", [1, 2500], [2501]),
    ("vertex", "max_tokens", [1, 8192], [0, 8193]),
    ("vertex", "temperature", [0, 1], [-0.1, 1.1]),
    ("vertex", "top_p", [0, 1], [-0.1, 1.1]),
    ("vertex", "top_k", [0, 2048], [-1, 2049]),
    ("huggingface", "temperature", [0, 2], [-0.1, 2.1]),
    ("huggingface", "frequency_penalty", [-2, 2], [-2.1, 2.1]),
    ("huggingface", "presence_penalty", [-2, 2], [-2.1, 2.1]),
    ("huggingface", "logprobs", [0, 5], [6]),
    ("huggingface", "stop", [1, 4], [5]),
]


@pytest.mark.parametrize(("kind", "name", "good", "bad"), RANGES)
def test_ranges(kind: str, name: str, good: list[float], bad: list[float]) -> None:
    rule = next(row for row in catalog.rows(kind) if row.model == "llama-4-scout").parameters[name]
    assert [value for value in good if rule.refusal(value) is not None] == []
    assert [value for value in bad if rule.refusal(value) is None] == []
    assert all("takes values" in str(rule.refusal(value)) for value in bad)


def test_what_cloudflare_can_do() -> None:
    row = catalog.rows("cloudflare")[0]
    assert row.model_id == "@cf/meta/llama-4-scout-17b-16e-instruct"
    assert row.context_window == 131_000
    assert row.features["image_url"] == "emulate"  # data URLs only
    assert row.features["stream_json_schema"] == "emulate"
    # With tools, Scout's streams come without their text, although its tokens are billed.
    assert row.features["stream_tools"] == "emulate"
    assert row.default_max_tokens is not None
    assert row.default_max_tokens > 256  # the host's own default cuts most answers off


def test_what_azure_can_do() -> None:
    rows = {row.model: row for row in catalog.rows("azure")}
    assert [row.model_id for row in rows.values()] == [
        "Llama-4-Scout-17B-16E-Instruct",
        "Llama-4-Maverick-17B-128E-Instruct-FP8",
    ]
    assert (rows["llama-4-scout"].image.max_count, rows["llama-4-maverick"].image.max_count) == (None, 1)
    for row in rows.values():
        # Documented: no tools, and text as the only format.
        assert {row.features[name] for name in ("tools", "forced_tools", "json_schema")} == {"emulate"}
        assert row.features["image_url"] == "emulate"


@pytest.mark.parametrize(
    ("rule", "value", "refused"),
    [
        (ParameterRule(), 1e9, False),
        (ParameterRule(minimum=1), 1, False),
        (ParameterRule(minimum=1), 0.999, True),
        (ParameterRule(maximum=0), 0, False),
        (ParameterRule(maximum=0), 0.001, True),
        (ParameterRule(minimum=0, maximum=1, open_ended=True), 0, True),
        (ParameterRule(minimum=0, maximum=1, open_ended=True), 1, True),
        (ParameterRule(minimum=0, maximum=1, open_ended=True), 0.5, False),
        (ParameterRule(supported=False), 0, True),
        (ParameterRule(minimum=0, maximum=1), float("nan"), True),
    ],
)
def test_parameter_rule(rule: ParameterRule, value: float, refused: bool) -> None:
    assert (rule.refusal(value) is not None) is refused


def test_a_note_is_the_reason() -> None:
    assert ParameterRule(supported=False, note="because").refusal(1) == "because"


def test_parse_takes_a_third_partys_rows() -> None:
    data = {
        "sources": {"docs": "https://host/docs"},
        "model": [
            {"model": "mine", "id": "host/mine"},
            {
                "model": "other",
                "id": "host/other",
                "facts": {
                    "features.tools": fact("emulate"),
                    "parameters.seed": fact({"supported": False, "note": "no seed"}),
                    "image.max_count": fact(5),
                    "image.media_types": fact(["image/png"]),
                    "price.input": fact(0.1),
                },
            },
        ],
    }
    plain, other = catalog.parse(data)
    assert plain == ModelRow("mine", "host/mine", features=dict.fromkeys(FEATURES, "native"))
    assert other.features == {**dict.fromkeys(FEATURES, "native"), "tools": "emulate"}
    assert other.parameters["seed"].refusal(1) == "no seed"
    assert (other.image.max_count, other.image.media_types) == (5, ("image/png",))
    assert (other.input_price, other.output_price) == (Decimal("0.1"), None)
    assert catalog.parse({}) == ()


def fact(value: Any) -> dict[str, Any]:
    return {"value": value, "source": "docs", "checked": NEWEST, "evidence": "documented"}


# -- licences, places, and facts that grow old -----------------------------------------------------------------------


def test_the_licence_of_llama_4() -> None:
    for model, model_id in [
        ("llama-4-scout", ""),
        ("llama-4-maverick", "prod"),
        ("mine", "us.meta.llama4-scout-17b-instruct-v1:0"),
        ("my-llama-4-tune", "x"),
    ]:
        found = catalog.licence(model, model_id)
        assert found is not None
        assert (found.name, found.attribution) == ("Llama 4 Community License", "Built with Llama")
        assert found.most_users == 700_000_000
        assert {"EU", "FR", "IE", "GR"} <= found.no_images_from
        assert not {"GB", "CH", "NO", "US", "UK", "EL"} & found.no_images_from
        assert "use-policy" in found.images_source
    assert catalog.licence("smollm2") is None
    assert catalog.licence("llama-3.2-vision", "meta/llama-3.2-11b") is None
    assert catalog.licence("llama-4-behemoth") is None, "never released: nobody was given a licence"


def test_the_european_union_has_27_members() -> None:
    union = catalog.places()["EU"]
    parts = {"AX", "GF", "GP", "MF", "MQ", "RE", "YT"}
    assert len(set(union.value)) == len(union.value) == 27 + len(parts)
    assert parts <= set(union.value)
    assert all(len(code) == 2 and code.isupper() for code in union.value)
    assert (union.evidence, type(union.checked)) == ("documented", datetime.date)


def test_stale_facts_are_those_checked_too_long_ago() -> None:
    oldest = min(fact["checked"] for *_, fact in FACTS)
    assert catalog.stale(oldest + datetime.timedelta(days=30), days=30) == ()
    late = catalog.stale(NEWEST + datetime.timedelta(days=31), days=30)
    assert len(late) == len(FACTS) + len(catalog.places()), "every fact grows old, and each is listed once"
    assert ("bedrock:llama-4-scout", "end_of_life") in {(owner, name) for owner, name, _ in late}
    assert all(fact.checked <= NEWEST for *_, fact in late)


def test_the_end_of_a_row_says_how_sure_it_is() -> None:
    for kind in KINDS:
        for row in catalog.rows(kind):
            known = catalog.facts(kind, row.model).get("end_of_life")
            if known is None:
                assert row.end_of_life is None
            else:
                assert row.end_of_life == EndOfLife(known.value, known.evidence != "inferred", known.source)
    data = {"model": [{"model": "m", "id": "i", "facts": {"end_of_life": fact(datetime.date(2027, 1, 31))}}]}
    assert catalog.parse(data)[0].end_of_life == EndOfLife(datetime.date(2027, 1, 31), True, "docs")
