"""Vertex AI: settings, URLs, bodies, rows, the endpoint's address, and environment variables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import llamaroute as lr
from llamaroute.errors import CapabilityError, ConfigError, InputError, NotFoundError, ProtocolError
from llamaroute.pipeline.ops import Head, Send
from llamaroute.providers.vertex import SPEC
from llamaroute.spi import EndpointLocator, Prefiller, ProviderSettings, Target
from llamaroute.types.messages import assistant, user
from llamaroute.types.parts import Image, ImageData
from llamaroute.types.request import ChatRequest
from llamaroute.types.response import Phase
from tests.providers.vertex.samples import completion
from tests.providers.wires import PNG_URL, WEATHER, answer, ask, json_of, support, target_of, text_of

MAVERICK = "meta/llama-4-maverick-17b-128e-instruct-maas"
SCOUT = "meta/llama-4-scout-17b-16e-instruct-maas"
OWN: dict[str, Any] = {"project": "p-1", "api": "endpoint", "endpoint_id": "42"}
HOST = "https://us-east5-aiplatform.googleapis.com"
RESOURCE = "projects/p-1/locations/us-east5/endpoints/42"
DNS = "42.us-east5-777.prediction.vertexai.goog"


def target(model: str = "llama-4-maverick", **settings: Any) -> Target:
    return target_of(SPEC, {"project": "p-1", **settings}, model)


def build(request: ChatRequest, model: str = "llama-4-maverick", *, stream: bool = False, **settings: Any) -> Any:
    return SPEC.adapter.build_request(request, target(model, **settings), stream=stream)


def locator() -> EndpointLocator:
    assert isinstance(SPEC.adapter, EndpointLocator)
    return SPEC.adapter


# -- where requests go -------------------------------------------------------------------------------------------------

MAAS = "v1/projects/p-1/locations/us-east5/endpoints/openapi/chat/completions"


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, f"{HOST}/{MAAS}"),
        ({"api_version": "v1beta1"}, f"{HOST}/{MAAS.replace('v1/', 'v1beta1/', 1)}"),
        ({"base_url": "http://127.0.0.1:9/vertex"}, f"http://127.0.0.1:9/vertex/{MAAS}"),
        ({"base_url": "http://127.0.0.1:9/?key=x"}, f"http://127.0.0.1:9/{MAAS}?key=x"),
        ({"project": None}, f"{HOST}/{MAAS.replace('p-1', '-')}"),  # what the credentials name is put in when signed
        ({"project": "example.com:p"}, f"{HOST}/{MAAS.replace('p-1', 'example.com:p')}"),
        (OWN, f"{HOST}/v1/{RESOURCE}/chat/completions"),
        (
            {**OWN, "region": "europe-west4"},
            f"{HOST}/v1/{RESOURCE}/chat/completions".replace("us-east5", "europe-west4"),
        ),
        ({**OWN, "api_version": "v1beta1"}, f"{HOST}/v1beta1/{RESOURCE}/chat/completions"),
        ({**OWN, "dedicated_dns": DNS}, f"https://{DNS}/v1/{RESOURCE}/chat/completions"),
        ({**OWN, "dedicated_dns": f"https://{DNS}/"}, f"https://{DNS}/v1/{RESOURCE}/chat/completions"),
        ({**OWN, "dedicated_dns": "http://127.0.0.1:9/own"}, f"http://127.0.0.1:9/own/v1/{RESOURCE}/chat/completions"),
        ({**OWN, "route": "predict"}, f"{HOST}/v1/{RESOURCE}:predict"),
        ({**OWN, "route": "raw-predict"}, f"{HOST}/v1/{RESOURCE}:rawPredict"),
        # The parts of a full name win.
        (
            {**OWN, "endpoint_id": "projects/77/locations/us-west1/endpoints/8"},
            "https://us-west1-aiplatform.googleapis.com/v1/projects/77/locations/us-west1/endpoints/8/chat/completions",
        ),
    ],
    ids=str,
)
def test_url(settings: dict[str, Any], url: str) -> None:
    assert build(ask(), **settings).url == url


def test_streams_of_raw_predictions_have_a_verb_of_their_own() -> None:
    assert build(ask(), stream=True, **OWN, route="raw-predict").url == f"{HOST}/v1/{RESOURCE}:streamRawPredict"
    assert build(ask(), stream=True, **OWN, route="predict").url == f"{HOST}/v1/{RESOURCE}:predict"
    assert build(ask(), stream=True).url == f"{HOST}/{MAAS}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"api": "endpoint"}, 'api = "endpoint" needs endpoint_id'),
        ({"endpoint_id": "42"}, 'need api = "endpoint"'),
        ({"route": "predict"}, 'need api = "endpoint"'),
        ({"dedicated_dns": DNS}, 'need api = "endpoint"'),
        ({**OWN, "endpoint_id": "a/b"}, "should be an id, or projects/P/locations/R/endpoints/E"),
        ({**OWN, "endpoint_id": ""}, "should be an id"),
        ({**OWN, "dedicated_dns": "a b"}, "should be a host"),
        ({"project": "../x"}, "pattern"),
        ({"project": "-"}, "pattern"),
        ({"region": "us/east5"}, "pattern"),
        ({"impersonate": "not an address"}, "pattern"),
        ({"api_version": "v2"}, "v1beta1"),
        ({"quota_project": "a\nb"}, "pattern"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        target(**settings)


def test_the_config_file_says_where_it_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r'providers\.work: api = "endpoint" needs endpoint_id'):
        lr.Client({"providers": {"work": {"kind": "vertex", "api": "endpoint"}}}, env={})


def test_credentials_are_a_path() -> None:
    assert "credentials" in SPEC.settings.path_keys


# -- what is sent ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "model", "sent"),
    [
        ({}, "llama-4-maverick", MAVERICK),
        ({}, "llama-4-scout", SCOUT),
        ({}, "meta/llama-3.3-70b-instruct-maas", "meta/llama-3.3-70b-instruct-maas"),
        (OWN, "llama-4-scout", ""),
        ({**OWN, "models": {"llama-4-scout": "served"}}, "llama-4-scout", "served"),
        ({**OWN, "route": "raw-predict"}, "my-finetune", "my-finetune"),
    ],
    ids=str,
)
def test_model(settings: dict[str, Any], model: str, sent: str) -> None:
    assert json_of(build(ask(), model, **settings))["model"] == sent


def test_max_tokens_is_always_sent_to_the_service() -> None:
    assert json_of(build(ask()))["max_tokens"] == 8192
    assert json_of(build(ask(), "meta/new-maas"))["max_tokens"] == 8192
    assert json_of(build(ask(max_tokens=5)))["max_tokens"] == 5
    assert "max_tokens" not in json_of(build(ask(), **OWN))
    assert target().row.default_max_tokens == target("llama-4-scout").row.default_max_tokens == 8192


def test_a_prefill_is_sent_as_it_is() -> None:
    sent = json_of(build(ChatRequest((user("Look"), assistant("It shows")))))
    assert sent["messages"][-1] == {"role": "assistant", "content": "It shows"}


def test_only_the_service_is_known_to_go_on_from_a_prefill() -> None:
    adapter = SPEC.adapter
    assert isinstance(adapter, Prefiller)
    assert adapter.prefills(target())
    assert not adapter.prefills(target(**OWN))


def test_object_storage_goes_by_its_address() -> None:
    content = json_of(build(ask("Look", Image("gs://bucket/cat.png"))))["messages"][0]["content"]
    assert content[1] == {"type": "image_url", "image_url": {"url": "gs://bucket/cat.png"}}
    with pytest.raises(CapabilityError):
        build(ask("Look", Image("s3://bucket/cat.png")))
    with pytest.raises(CapabilityError):
        build(ask("Look", Image("gs://bucket/cat.png")), **OWN)


def test_detail_of_images_is_left_out_with_a_notice() -> None:
    given = Image("gs://bucket/cat.png", detail="high")
    wire = build(ask("Look", given))
    assert json_of(wire)["messages"][0]["content"][1]["image_url"] == {"url": "gs://bucket/cat.png"}
    assert [notice.code for notice in wire.warnings] == ["image_detail"]
    assert given.detail == "high"  # the caller's own object stays as it is
    loaded = Image(PNG_URL, detail="low")
    loaded.load(ImageData.of("image/png", b"\x89PNG\r\n\x1a\n"))
    assert json_of(build(ask("Look", loaded)))["messages"][0]["content"][1]["image_url"] == {"url": PNG_URL}
    own = build(ask("Look", loaded), **OWN)  # vLLM knows it
    assert json_of(own)["messages"][0]["content"][1]["image_url"] == {"url": PNG_URL, "detail": "low"}
    assert own.warnings == ()
    assert build(ask("Look", Image("gs://bucket/cat.png"))).warnings == ()


def test_parameters_that_no_document_mentions_are_sent_with_a_notice() -> None:
    wire = build(ask(seed=7, stop=("END",), frequency_penalty=0.5, logprobs=2, temperature=0.5))
    sent = json_of(wire)
    assert (sent["seed"], sent["stop"], sent["frequency_penalty"], sent["top_logprobs"]) == (7, ["END"], 0.5, 2)
    assert [(notice.code, notice.feature) for notice in wire.warnings] == [
        ("undocumented_parameter", "seed, stop, frequency_penalty, logprobs")
    ]
    assert build(ask(temperature=0.5, top_p=0.5, top_k=3)).warnings == ()
    assert build(ask(seed=7), **OWN).warnings == ()


def test_predictions_have_one_instance_in_chat_format() -> None:
    request = ask(max_tokens=9, extra={"vertex": {"parameters": {"a": 1}}})
    wire = build(request, **OWN, route="predict", stream=True)
    assert json_of(wire) == {
        "instances": [
            {
                "messages": [{"role": "user", "content": "Hi"}],
                "max_tokens": 9,
                "@requestFormat": "chatCompletions",
            }
        ],
        "parameters": {"a": 1},
    }
    assert wire.headers["accept"] == "application/json"
    replaced = build(ask(extra={"acc": {"instances": [1]}}), **OWN, route="predict")
    assert json_of(replaced) == {"instances": [1]}
    with pytest.raises(InputError, match="what JSON cannot"):
        build(ask(extra={"acc": {"x": object()}}), **OWN, route="predict")


def test_images_in_predictions_are_not_copied() -> None:
    image = Image(PNG_URL)
    data = image.load(ImageData.of("image/png", b"\x89PNG\r\n\x1a\n"))
    wire = build(ask("Look", image), **OWN, route="predict")
    assert any(piece is data.base64 for piece in wire.body)
    assert json_of(wire)["instances"][0]["messages"][0]["content"][1]["image_url"]["url"] == PNG_URL


@pytest.mark.parametrize(
    ("settings", "size", "fits"),
    [
        ({}, 1_500_000, True),
        ({}, 1_600_000, False),
        ({"dedicated_dns": DNS}, 1_600_000, True),
        ({"dedicated_dns": DNS}, 10_000_000, True),
        ({"dedicated_dns": DNS, "route": "predict"}, 11_000_000, False),
    ],
)
def test_size_of_a_request_to_an_endpoint(settings: dict[str, Any], size: int, fits: bool) -> None:
    request = ask("x" * size)
    if fits:
        assert len(text_of(build(request, **OWN, **settings))) > size
    else:
        with pytest.raises(CapabilityError, match="takes requests of at most"):
            build(request, **OWN, **settings)


# -- what the account's settings make of the rows ----------------------------------------------------------------------


def refused(request: ChatRequest, to: Target, *, stream: bool = False) -> str:
    with pytest.raises(CapabilityError) as caught:
        support(request, to, stream=stream)
    return str(caught.value)


@pytest.mark.parametrize("region", ["us-central1", "europe-west4", "global"])
def test_other_regions_are_refused_before_anything_is_sent(region: str) -> None:
    said = refused(ask(), target(region=region))
    assert f"Llama 4 is served in us-east5 alone and this account's region is {region}" in said
    assert 'set region = "us-east5"' in said
    support(ask(), target(region="us-east5"), stream=True)
    # An endpoint of one's own may be anywhere, and so may a model the catalogue does not know.
    support(ask(), target(**{**OWN, "region": region}), stream=True)


def test_where_a_model_may_run() -> None:
    """The region in an endpoint's own name wins over the key."""
    assert target(**OWN, region="europe-west4").row.regions == ("europe-west4",)
    named = {**OWN, "endpoint_id": "projects/p-1/locations/asia-east1/endpoints/42", "region": "us-east5"}
    assert target(**named).row.regions == ("asia-east1",)
    assert target().row.regions == (), "the account's region says it"


def test_what_the_service_cannot_do() -> None:
    maverick, scout = target(), target("llama-4-scout")
    assert support(ask(tools=(WEATHER,)), maverick, stream=True)["stream_tools"] == "emulate"
    assert support(ask(tools=(WEATHER,)), maverick, stream=False)["tools"] == "native"
    assert scout.row.features["tools"] == "emulate"
    assert "temperature=1.5" in refused(ask(temperature=1.5), maverick)
    assert "max_tokens=8193" in refused(ask(max_tokens=8193), maverick)
    assert support(ask(*[Image(PNG_URL)] * 3), maverick, stream=False)["images"] == "native"
    assert support(ask(*[Image(PNG_URL)] * 4), maverick, stream=False)["images"] == "emulate"
    assert maverick.row.features["image_url"] == "emulate"
    assert maverick.row.image.storage == ("gs",)


def test_an_endpoint_of_ones_own_is_what_its_container_is() -> None:
    row = target(**OWN).row
    assert set(row.features.values()) == {"native"}
    assert (row.parameters, row.context_window, row.default_max_tokens, row.input_price) == ({}, None, None, None)
    assert row.image.max_count is None
    streams = {name for name, how in target(**OWN, route="predict").row.features.items() if how == "emulate"}
    assert streams == {"stream", "stream_tools", "stream_json_schema"}


def test_what_the_user_says_of_an_endpoint_stays() -> None:
    models = {"llama-4-scout": {"context_window": 65536, "output_price": 2, "features": {"tools": "refuse"}}}
    table = {**OWN, "kind": "vertex", "access_token": "t", "features": {"images": "refuse"}}
    with lr.Client({"providers": {"own": table}, "models": models}, env={}) as client:
        row = client._runtime._found("own:llama-4-scout").candidates[0].target.row
    assert (row.context_window, row.output_price) == (65536, 2)
    assert (row.features["tools"], row.features["images"]) == ("refuse", "refuse")
    assert row.features["forced_tools"] == "native"
    assert row.model_id == ""


@pytest.mark.parametrize("settings", [{}, {"region": "us-west1"}, OWN, {**OWN, "route": "predict"}], ids=str)
def test_refining_twice_is_refining_once(settings: dict[str, Any]) -> None:
    assert SPEC.refine is not None
    to = target("llama-4-scout", **settings)
    assert SPEC.refine(to.row, to.options) == to.row


# -- the endpoint's address --------------------------------------------------------------------------------------------


def described(**fields: Any) -> dict[str, Any]:
    return {"name": RESOURCE, "deployedModels": [{"id": "6", "model": "m"}], **fields}


@pytest.mark.parametrize(
    ("resource", "base"),
    [
        (described(), HOST),
        (described(dedicatedEndpointEnabled=False, dedicatedEndpointDns=DNS), HOST),
        (described(dedicatedEndpointEnabled=True), HOST),
        (described(dedicatedEndpointEnabled=True, dedicatedEndpointDns=DNS), f"https://{DNS}"),
        (described(dedicatedEndpointEnabled=True, dedicatedEndpointDns=f"https://{DNS}"), f"https://{DNS}"),
    ],
)
def test_where_an_endpoint_is(resource: dict[str, Any], base: str) -> None:
    assert locator().parse_location(answer(resource), target(**OWN)) == base


def test_the_question() -> None:
    question = locator().locate(target(**OWN))
    assert question is not None
    assert (question.method, question.url, question.body) == ("GET", f"{HOST}/v1/{RESOURCE}", b"")
    assert locator().locate(target()) is None
    assert locator().locate(target(**OWN, dedicated_dns=DNS)) is None


@pytest.mark.parametrize(
    ("body", "cls"),
    [({"name": RESOURCE}, NotFoundError), ([], ProtocolError), (b"<html>", ProtocolError)],
)
def test_an_endpoint_that_cannot_be_called(body: Any, cls: type[Exception]) -> None:
    with pytest.raises(cls):
        locator().parse_location(answer(body), target(**OWN))


class Google:
    """A transport: the endpoint's description, then answers."""

    def __init__(self, resource: dict[str, Any]) -> None:
        self.resource = resource
        self.urls: list[str] = []

    def open(self, send: Send) -> Google:
        self.urls.append(f"{send.request.method} {send.request.url}")
        said = self.resource if send.request.method == "GET" else completion({"content": "Hello."}, "stop")
        self.rest = json.dumps(said).encode()
        self.head = Head(200, {"content-type": "application/json"})
        return self

    def read(self, until: float, phase: Phase) -> bytes:
        data, self.rest = self.rest, b""
        return data

    def close(self) -> None:
        pass


def test_a_client_asks_once() -> None:
    wire = Google(described(dedicatedEndpointEnabled=True, dedicatedEndpointDns=DNS))
    with lr.Client({"providers": {"own": {"kind": "vertex", **OWN, "access_token": "t"}}}, transport=wire, env={}) as c:
        assert [c.chat("Hi", model="own").text for _ in range(2)] == ["Hello."] * 2
    chat = f"POST https://{DNS}/v1/{RESOURCE}/chat/completions"
    assert wire.urls == [f"GET {HOST}/v1/{RESOURCE}", chat, chat]


# -- the environment ---------------------------------------------------------------------------------------------------

FILE = {"GOOGLE_APPLICATION_CREDENTIALS": "/sa.json"}


@pytest.mark.parametrize(
    ("env", "table"),
    [
        ({}, None),
        (FILE, None),
        ({"GOOGLE_CLOUD_PROJECT": "p"}, None),  # many an environment has it that means something else
        ({"GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_REGION": "us-west1"}, None),
        ({**FILE, "GOOGLE_CLOUD_PROJECT": "p"}, {"project": "p"}),
        ({**FILE, "GCLOUD_PROJECT": "p"}, {"project": "p"}),
        ({**FILE, "CLOUD_ML_PROJECT_ID": "a", "GOOGLE_CLOUD_PROJECT": "b"}, {"project": "b"}),
        ({"VERTEXAI_PROJECT": "p"}, {"project": "p"}),
        ({"GOOGLE_VERTEX_PROJECT": "p", "GOOGLE_VERTEX_LOCATION": "us-east5"}, {"project": "p", "region": "us-east5"}),
        ({"GOOGLE_GENAI_USE_VERTEXAI": "True", "GOOGLE_CLOUD_PROJECT": "p"}, {"project": "p"}),
        ({"GOOGLE_GENAI_USE_VERTEXAI": "False", "GOOGLE_CLOUD_PROJECT": "p"}, None),
        (
            {**FILE, "GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_REGION": "us-west1", "CLOUD_ML_REGION": "us-west2"},
            {"project": "p", "region": "us-west1"},
        ),
        (
            {**FILE, "GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_LOCATION": "global", "VERTEXAI_LOCATION": "us-east5"},
            {"project": "p", "region": "us-east5"},
        ),
    ],
    ids=str,
)
def test_from_env(env: dict[str, str], table: dict[str, Any] | None) -> None:
    assert SPEC.from_env is not None
    assert SPEC.from_env(env) == table
    if table is not None:
        assert isinstance(SPEC.settings.model_validate({"kind": "vertex", **table}), ProviderSettings)


def test_a_region_without_llama_4_in_the_environment_is_said_and_not_overruled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {**FILE, "GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_REGION": "europe-west4", "HOME": str(tmp_path)}
    monkeypatch.chdir(tmp_path)
    with lr.Client(env=env) as client, pytest.raises(CapabilityError, match="VERTEXAI_LOCATION=us-east5"):
        client.chat("Hi", model="vertex")
