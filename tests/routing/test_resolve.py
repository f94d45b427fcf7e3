"""`model=` -> targets: the order of resolution, branch by branch."""

from __future__ import annotations

from typing import Any

import pytest

from llamaroute import catalog
from llamaroute.config.load import load_config
from llamaroute.errors import CapabilityError, ConfigError, InputError
from llamaroute.registry import provider_spec
from llamaroute.routing.resolve import Resolution, make_account, resolve

SCOUT_CF = "@cf/meta/llama-4-scout-17b-16e-instruct"
SCOUT_HF = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
MAVERICK_HF = "meta-llama/Llama-4-Maverick-17B-128E-Instruct"

CLOUDFLARE = {"kind": "cloudflare", "account_id": "a", "api_key": "k"}
HUGGINGFACE = {"kind": "huggingface", "api_key": "k"}
BOX = {"kind": "openai-compatible", "base_url": "http://box.example/v1"}

ALL: dict[str, Any] = {
    "providers": {
        "cf": CLOUDFLARE,
        "hf": HUGGINGFACE,
        "box": {**BOX, "model": "my/finetune:v2", "models": {"llama-4-maverick": "prod-maverick", "fast": "tiny-1"}},
    },
    "routes": {
        "chat": {"targets": ["cf:llama-4-scout", "hf:llama-4-scout", "box"]},
        "both": {"targets": ["llama-4-scout"]},
        "twice": {"targets": ["cf", "llama-4-scout"]},
        "odd": {"targets": ["box:unheard-of"]},
        "wrong": {"targets": ["cf:llama-4-behemoth"]},
        "llama-4-maverick": {"targets": ["cf"]},
    },
}


def run(model: str | None, **config: Any) -> Resolution:
    loaded = load_config(config or ALL, env={}).config
    accounts = {}
    for name, options in loaded.providers.items():
        spec = provider_spec(options.kind)
        rows = catalog.rows(spec.name) if spec.catalog is None else catalog.parse(spec.catalog)
        accounts[name] = make_account(name, spec, options, rows, loaded.models)
    return resolve(model, loaded, accounts, catalog.released)


def names(resolution: Resolution) -> list[tuple[str, str]]:
    return [(target.name, target.model_id) for target in resolution.targets]


CF = ("cf:llama-4-scout", SCOUT_CF)
HF = ("hf:llama-4-scout", SCOUT_HF)
FINETUNE = ("box:my/finetune:v2", "my/finetune:v2")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # a route's name
        ("chat", [CF, HF, FINETUNE]),
        ("both", [CF, HF]),
        ("twice", [CF, HF]),
        ("llama-4-maverick", [CF]),  # a route hides the canonical model of that name
        # provider:rest, cut at the first colon
        ("cf:llama-4-scout", [CF]),
        (f"cf:{SCOUT_CF}", [CF]),
        (f"hf:{SCOUT_HF}", [HF]),
        ("hf:llama-4-maverick", [("hf:llama-4-maverick", MAVERICK_HF)]),
        ("box:llama-4-maverick", [("box:llama-4-maverick", "prod-maverick")]),
        ("box:prod-maverick", [("box:llama-4-maverick", "prod-maverick")]),
        ("box:my/finetune:v2", [FINETUNE]),
        ("cf:", [CF]),
        # a provider's name alone
        ("cf", [CF]),
        ("hf", [HF]),
        ("box", [FINETUNE]),
        # a canonical model name, everywhere it is, in the file's order
        ("llama-4-scout", [CF, HF]),
        # an own name from a provider's table
        ("fast", [("box:fast", "tiny-1")]),
        # an id that one provider lists
        (SCOUT_CF, [CF]),
        (SCOUT_HF, [HF]),
        ("prod-maverick", [("box:llama-4-maverick", "prod-maverick")]),
        ("tiny-1", [("box:fast", "tiny-1")]),
        ("my/finetune:v2", [FINETUNE]),  # `my/finetune` is no configured provider, so that colon cuts nothing
    ],
)
def test_known_names_lead_to_their_targets_without_a_word(model: str, expected: list[tuple[str, str]]):
    resolution = run(model)
    assert names(resolution) == expected
    assert resolution.notices == ()


def test_targets_carry_account_kind_and_row():
    (target,) = run("cf:llama-4-scout").targets
    assert (target.provider, target.kind, target.model) == ("cf", "cloudflare", "llama-4-scout")
    assert target.row.context_window == 131_000
    assert target.row.known


def test_only_a_route_has_the_routes_settings():
    assert run("chat").route is not None
    assert run("cf").route is None


# -- ids that nobody knows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "name", "model_id"),
    [
        (f"hf:{SCOUT_HF}:nscale", f"hf:{SCOUT_HF}:nscale", f"{SCOUT_HF}:nscale"),
        ("hf:some/new-model", "hf:some/new-model", "some/new-model"),
        ("cf:@cf/new/model", "cf:@cf/new/model", "@cf/new/model"),
        ("box:us.meta.llama4-scout-17b-instruct-v1:0", "box:us.meta.llama4-scout-17b-instruct-v1:0",
         "us.meta.llama4-scout-17b-instruct-v1:0"),
        ("box:cf:llama-4-scout", "box:cf:llama-4-scout", "cf:llama-4-scout"),
        ("box: ", "box: ", " "),
    ],
)  # fmt: skip
def test_an_unknown_id_passes_through_with_its_provider_and_a_notice(model: str, name: str, model_id: str):
    resolution = run(model)
    assert names(resolution) == [(name, model_id)]
    (notice,) = resolution.notices
    assert notice.code == "unknown_model"
    assert model_id in notice.message
    assert not resolution.targets[0].row.known


def test_an_unknown_id_in_a_route_is_told_too():
    resolution = run("odd")
    assert names(resolution) == [("box:unheard-of", "unheard-of")]
    assert [notice.code for notice in resolution.notices] == ["unknown_model"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("chta", "'chat'"),
        ("llama-4-scuot", "'llama-4-scout'"),
        ("fsat", "'fast'"),
        ("hff:some/model", "provider 'hf'"),
        ("us.meta.llama4-scout-17b-instruct-v1:0", "provider:id"),
        ("", "provider:id"),
        (":llama-4-scout", "provider:id"),
    ],
)
def test_an_unknown_name_is_an_error_with_the_nearest(model: str, said: str):
    with pytest.raises(InputError) as caught:
        run(model)
    assert said in str(caught.value)
    assert "cf, hf, box" in str(caught.value)


def test_names_are_case_sensitive():
    with pytest.raises(InputError, match="llama-4-scout"):
        run("Llama-4-Scout")


# -- models that cannot be had ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["llama-4-behemoth", "cf:llama-4-behemoth", "box:llama-4-behemoth", "wrong"])
def test_behemoth_was_never_released(model: str):
    with pytest.raises(CapabilityError, match="never released"):
        run(model)


def test_a_model_that_no_configured_provider_has():
    with pytest.raises(CapabilityError, match="llama-4-maverick") as caught:
        run("llama-4-maverick", providers={"cf": CLOUDFLARE})
    assert caught.value.missing == {"cf": "llama-4-maverick"}


def test_a_model_that_this_provider_does_not_have():
    with pytest.raises(CapabilityError, match=r"providers\.cf\.models") as caught:
        run("cf:llama-4-maverick")
    assert "llama-4-scout" in str(caught.value)
    assert caught.value.missing == {"cf:llama-4-maverick": "llama-4-maverick"}


def test_a_server_of_ones_own_may_have_any_model():
    """It has no catalogue, so nothing says that it lacks one."""
    resolution = run("box:llama-4-scout", providers={"box": BOX})
    assert names(resolution) == [("box:llama-4-scout", "llama-4-scout")]


# -- without model= ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("default", "expected"),
    [("chat", [CF, HF, FINETUNE]), ("hf:llama-4-scout", [HF]), ("llama-4-scout", [CF, HF]), ("box", [FINETUNE])],
)
def test_the_default(default: str, expected: list[tuple[str, str]]):
    assert names(run(None, **ALL, default=default)) == expected


def test_a_default_route_brings_its_settings():
    assert run(None, **ALL, default="chat").route is not None


def test_the_only_provider_needs_no_default():
    assert names(run(None, providers={"cf": CLOUDFLARE})) == [CF]


def test_several_providers_need_one():
    with pytest.raises(ConfigError, match="default") as caught:
        run(None)
    assert caught.value.key == "default"
    assert "cf, hf, box" in str(caught.value)


def test_an_only_provider_without_a_model():
    with pytest.raises(ConfigError, match=r"providers\.box\.model") as caught:
        run(None, providers={"box": BOX})
    assert caught.value.key == "providers.box.model"


def test_the_only_entry_of_models_is_the_model():
    assert names(run("box", providers={"box": {**BOX, "models": {"llama-4-scout": "prod"}}})) == [
        ("box:llama-4-scout", "prod")
    ]


def test_of_several_entries_none_is():
    with pytest.raises(ConfigError, match=r"providers\.box\.model"):
        run("box", providers={"box": {**BOX, "models": {"a": "1", "b": "2"}}})


# -- several providers ------------------------------------------------------------------------------------------------


def two(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {"providers": {"one": {**BOX, **first}, "two": {**BOX, **second}}}


def test_an_id_that_several_providers_list_must_be_told_apart():
    with pytest.raises(InputError, match="several providers") as caught:
        run("shared-id", **two({"models": {"a": "shared-id"}}, {"models": {"b": "shared-id"}}))
    assert "one:a" in str(caught.value)
    assert "two:b" in str(caught.value)


def test_an_own_name_that_several_providers_have_means_all_of_them():
    assert names(run("fast", **two({"models": {"fast": "x"}}, {"models": {"fast": "y"}}))) == [
        ("one:fast", "x"),
        ("two:fast", "y"),
    ]


def test_an_id_under_two_names_of_one_provider_is_listed_by_one_provider():
    found = run("prod", **two({"models": {"llama-4-scout": "prod", "fast": "prod"}}, {}))
    assert names(found) == [("one:llama-4-scout", "prod")]


def test_a_providers_own_model_does_not_stand_for_its_other_rows():
    providers = {"cf": {**CLOUDFLARE, "model": "@cf/other/model"}, "hf": HUGGINGFACE}
    assert names(run("@cf/other/model", providers=providers)) == [("cf:@cf/other/model", "@cf/other/model")]
    assert names(run("cf", providers=providers)) == [("cf:@cf/other/model", "@cf/other/model")]
    assert names(run("cf:llama-4-scout", providers=providers)) == [CF]


def test_a_canonical_model_is_served_by_providers_that_have_it_as_their_own_model():
    """`model = "llama-4-scout"` says that this server has it, as a row of `models` does."""
    own = {"one": {**BOX, "model": "llama-4-scout"}, "two": {**BOX, "model": "llama-4-scout"}}
    expected = [("one:llama-4-scout", "llama-4-scout"), ("two:llama-4-scout", "llama-4-scout")]
    assert names(run("llama-4-scout", providers=own)) == expected
    assert names(run("llama-4-scout", providers={"cf": CLOUDFLARE, **own})) == [CF, *expected]


def test_a_canonical_name_goes_before_an_id_of_the_same_text():
    config = two({"models": {"llama-4-scout": "prod"}}, {"models": {"mine": "llama-4-scout"}})
    assert names(run("llama-4-scout", **config)) == [("one:llama-4-scout", "prod")]


# -- [models] ---------------------------------------------------------------------------------------------------------


def test_models_add_rows_and_facts():
    config = {
        "providers": {"cf": CLOUDFLARE, "box": BOX},
        "models": {
            "my-model": {
                "ids": {"box": "box/1", "cloudflare": "@cf/my/1"},
                "context_window": 5,
                "features": {"tools": "refuse"},
            }
        },
    }
    resolution = run("my-model", **config)
    assert names(resolution) == [("cf:my-model", "@cf/my/1"), ("box:my-model", "box/1")]
    assert resolution.notices == ()
    for target in resolution.targets:
        assert target.row.context_window == 5
        assert target.row.features["tools"] == "refuse"
        assert target.row.features["images"] == "native"


def test_an_account_goes_before_its_kind():
    config = {
        "providers": {"cf": CLOUDFLARE, "cf2": CLOUDFLARE},
        "models": {"my-model": {"ids": {"cf": "own", "cloudflare": "kind"}}},
    }
    assert names(run("my-model", **config)) == [("cf:my-model", "own"), ("cf2:my-model", "kind")]


def test_models_override_what_the_catalogue_says():
    config = {"providers": {"cf": CLOUDFLARE}, "models": {"llama-4-scout": {"context_window": 7, "input_price": 9}}}
    (target,) = run("llama-4-scout", **config).targets
    assert (target.row.context_window, target.row.input_price) == (7, 9)
    assert target.model_id == SCOUT_CF
    assert target.row.output_price is not None, "what is not given stays"


@pytest.mark.parametrize(
    ("said", "ends"),
    [
        ("2027-03-01", {"cf": "2027-03-01", "hf": "2027-03-01"}),
        ({"cloudflare": "2027-03-01"}, {"cf": "2027-03-01", "hf": None}),
        ({"cloudflare": "2027-03-01", "cf": "2027-04-01"}, {"cf": "2027-04-01", "hf": None}),
        ({"box": "2027-03-01"}, {"cf": None, "hf": None}),
    ],
    ids=["all", "kind", "account", "another"],
)
def test_ends_of_ones_own_are_sure(said: Any, ends: dict[str, str | None]):
    hub = {"kind": "huggingface", "api_key": "k"}
    box = {"kind": "openai-compatible", "base_url": "http://x"}
    config = {
        "providers": {"cf": CLOUDFLARE, "hf": hub, "box": box},
        "models": {"llama-4-scout": {"end_of_life": said}},
    }
    for target in run("llama-4-scout", **config).targets:
        end, known = target.row.end_of_life, ends[target.provider]
        assert (end and end.day.isoformat()) == known
        assert end is None or (end.sure, end.source) == (True, '[models."llama-4-scout"]')


@pytest.mark.parametrize("model", ["box", "my-model", "box:my-model"])
def test_facts_of_a_providers_own_model(model: str):
    """The model is named in the provider's table; `[models]` says what it can do."""
    config = {"providers": {"box": {**BOX, "model": "my-model"}}, "models": {"my-model": {"context_window": 5}}}
    resolution = run(model, **config)
    assert names(resolution) == [("box:my-model", "my-model")]
    assert resolution.targets[0].row.context_window == 5
    assert resolution.notices == ()


def test_features_of_the_account_go_over_everything():
    config = {
        "providers": {"cf": {**CLOUDFLARE, "features": {"tools": "emulate", "images": "refuse"}}},
        "models": {"llama-4-scout": {"features": {"tools": "refuse"}}},
    }
    (target,) = run("cf", **config).targets
    assert target.row.features["tools"] == "emulate"
    assert target.row.features["images"] == "refuse"
    assert target.row.features["json_schema"] == "native"


def test_a_router_is_told_its_inference_provider():
    config = {"providers": {"hf": {**HUGGINGFACE, "inference_provider": "nscale"}}}
    assert names(run("hf:llama-4-scout", **config)) == [("hf:llama-4-scout", f"{SCOUT_HF}:nscale")]
    assert names(run(f"hf:{SCOUT_HF}:groq", **config)) == [(f"hf:{SCOUT_HF}:groq", f"{SCOUT_HF}:groq")]


# -- what the file itself says wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "default", "key"), [(None, "llama-4-scuot", "default"), ("r", None, "routes.r.targets")]
)
def test_a_name_in_the_file_that_leads_nowhere_is_the_files_error(model: str | None, default: str | None, key: str):
    config: dict[str, Any] = {"providers": {"cf": CLOUDFLARE}, "routes": {"r": {"targets": ["llama-4-scuot"]}}}
    if default is not None:
        config = {"providers": {"cf": CLOUDFLARE}, "default": default}
    with pytest.raises(ConfigError) as caught:
        run(model, **config)
    assert caught.value.key is not None
    assert caught.value.key.startswith(key)
    assert "llama-4-scout" in str(caught.value)
