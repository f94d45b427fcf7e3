"""Google's own library for Vertex AI (google-cloud-aiplatform) as the client of the control plane and of a dedicated
endpoint. Importing it takes seconds: everything that needs it is in this file."""

from __future__ import annotations

import importlib
import json
import re
from types import SimpleNamespace

import pytest

from llamaroute.emulator import Emulator, Reply

PLACE = "projects/emulated-project/locations/us-east5"
NUMBERED = "projects/123456789012/locations/us-east5"
ID = "1234567890123456789"
MODEL = "llama-4-scout-17b-16e-instruct"
DNS = "{endpoint}.us-east5-123456789012.prediction.vertexai.goog"
HELLO = [{"role": "user", "content": "Hello"}]
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def lib() -> SimpleNamespace:
    names = {
        "aiplatform": "google.cloud.aiplatform",
        "v1": "google.cloud.aiplatform_v1",
        "v1beta1": "google.cloud.aiplatform_v1beta1",
        "options": "google.api_core.client_options",
        "errors": "google.api_core.exceptions",
        "user": "google.oauth2.credentials",
        "session": "google.auth.transport.requests",
        "http_body": "google.api.httpbody_pb2",
        "adapters": "requests.adapters",
    }
    return SimpleNamespace(**{name: importlib.import_module(module) for name, module in names.items()})


def gapic(lib, kind, address: str, token):
    """A generated client that speaks plain HTTP with the emulator."""
    return kind(
        credentials=lib.user.Credentials(token) if isinstance(token, str) else token,
        transport="rest",
        client_options=lib.options.ClientOptions(api_endpoint=address),
    )


# ── generated clients ──


@pytest.mark.parametrize("prefix", ["", "/vertex"])
def test_endpoint_service(lib, emu: Emulator, prefix: str) -> None:
    with gapic(lib, lib.v1.EndpointServiceClient, emu.url + prefix, emu.key("vertex")) as service:
        endpoint = service.get_endpoint(name=f"{PLACE}/endpoints/{ID}")
        assert endpoint.name == f"{NUMBERED}/endpoints/{ID}"
        assert endpoint.dedicated_endpoint_enabled
        assert endpoint.dedicated_endpoint_dns == emu.base_url("vertex-endpoint")
        (deployed,) = endpoint.deployed_models
        assert deployed.model == f"{NUMBERED}/models/{MODEL}"
        assert deployed.dedicated_resources.machine_spec.accelerator_count == 8
        assert deployed.dedicated_resources.machine_spec.accelerator_type.name == "NVIDIA_H100_80GB"
        assert dict(endpoint.traffic_split) == {deployed.id: 100}
        assert [one.name for one in service.list_endpoints(parent=PLACE)] == [endpoint.name]
        with pytest.raises(lib.errors.NotFound, match="The Endpoint does not exist"):
            service.get_endpoint(name=f"{PLACE}/endpoints/5")
        with pytest.raises(lib.errors.Forbidden, match=r"aiplatform\.endpoints\.list") as caught:
            list(service.list_endpoints(parent="projects/other/locations/us-east5"))
        assert caught.value.reason == "IAM_PERMISSION_DENIED"


def test_a_token_that_is_not_accepted_is_renewed(lib, emu: Emulator) -> None:
    credentials = lib.user.Credentials(
        "stale", refresh_token="1//emulator-refresh-token", token_uri=emu.url + "/google/token", client_id="id",
        client_secret="secret",
    )  # fmt: skip
    with gapic(lib, lib.v1.EndpointServiceClient, emu.url, credentials) as service:
        assert service.get_endpoint(name=f"{PLACE}/endpoints/{ID}").name
        assert [request.status for request in emu.requests] == [401, 200, 200]
        emu.fault(status=401, times=9, path="/endpoints", host="vertex")
        with pytest.raises(lib.errors.Unauthorized, match="invalid authentication credentials") as caught:
            service.get_endpoint(name=f"{PLACE}/endpoints/{ID}")
    assert caught.value.reason == "ACCESS_TOKEN_EXPIRED"


def test_paged_lists_and_filters(lib) -> None:
    endpoints = {str(number): {"displayName": f"number-{number}"} for number in range(5)}
    with (
        Emulator(settings={"google": {"endpoints": endpoints}}) as emu,
        gapic(lib, lib.v1.EndpointServiceClient, emu.url, emu.key("vertex")) as service,
    ):
        found = service.list_endpoints(lib.v1.ListEndpointsRequest(parent=PLACE, page_size=2))
        assert [one.name.rpartition("/")[2] for one in found] == list("01234")
        assert len(emu.requests) == 3
        wanted = lib.v1.ListEndpointsRequest(parent=PLACE, filter='display_name="number-3"')
        assert [one.display_name for one in service.list_endpoints(wanted)] == ["number-3"]
        with pytest.raises(lib.errors.BadRequest, match="filter"):
            list(service.list_endpoints(lib.v1.ListEndpointsRequest(parent=PLACE, filter="labels.x=1")))


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_model_garden(lib, emu: Emulator, version: str) -> None:
    module = getattr(lib, version)
    name = "publishers/meta/models/llama-4-maverick-17b-128e-instruct-maas"
    with gapic(lib, module.ModelGardenServiceClient, emu.url, emu.key("vertex")) as garden:
        model = garden.get_publisher_model(name=name)
        assert (model.name, model.launch_stage.name) == (name, "GA")
        with pytest.raises(lib.errors.NotFound):
            garden.get_publisher_model(name="publishers/meta/models/llama-5")
        if version == "v1beta1":
            listed = [one.name for one in garden.list_publisher_models(parent="publishers/*")]
            assert len(listed) == 2
            assert name in listed


def test_prediction_service(lib, emu: Emulator) -> None:
    emu.replies("Oslo.", "Rome.")
    name = f"{PLACE}/endpoints/{ID}"
    body = lib.http_body.HttpBody(data=json.dumps({"messages": HELLO}).encode(), content_type="application/json")
    with gapic(
        lib, lib.v1.PredictionServiceClient, emu.base_url("vertex-endpoint"), emu.key("vertex-endpoint")
    ) as service:
        raw = service.raw_predict(endpoint=name, http_body=body)
        assert raw.content_type == "application/json"
        assert json.loads(raw.data)["choices"][0]["message"]["content"] == "Oslo."
        # the client writes 20 as 20.0
        answer = service.predict(endpoint=name, instances=[{"prompt": "Italy?", "max_tokens": 20}])
        assert list(answer.predictions) == ["Prompt:\nItaly?\nOutput:\nRome."]
        assert (answer.deployed_model_id, answer.model_display_name) == ("4567890123456789012", MODEL)
        with pytest.raises(lib.errors.BadRequest, match="'prompt' is required"):
            service.predict(endpoint=name, instances=[{"text": "x"}])


def test_the_shared_host_refuses_a_dedicated_endpoint(lib, emu: Emulator) -> None:
    with (
        gapic(lib, lib.v1.PredictionServiceClient, emu.url, emu.key("vertex")) as service,
        pytest.raises(lib.errors.BadRequest, match="Dedicated Endpoint cannot be accessed through the shared"),
    ):
        service.predict(endpoint=f"{PLACE}/endpoints/{ID}", instances=[{"prompt": "x"}])


# ── aiplatform.Endpoint: its calls go to https:// and the dedicated name, whatever api_endpoint says ──


@pytest.fixture
def emu_with_dns():
    with Emulator(settings={"google": {"dedicated_dns": DNS}}) as running:
        yield running


@pytest.fixture
def endpoint(lib, emu_with_dns: Emulator):
    """The endpoint as a user gets it, with a session that leads its DNS name to the emulator."""
    emu = emu_with_dns
    seen = f"https://{DNS.format(endpoint=ID)}"

    class Adapter(lib.adapters.HTTPAdapter):
        def send(self, request, *args, **options):
            assert request.url.startswith(seen + "/")
            request.url = emu.base_url("vertex-endpoint") + request.url.removeprefix(seen)
            return super().send(request, *args, **options)

    credentials = lib.user.Credentials(emu.key("vertex"))
    lib.aiplatform.init(
        project="emulated-project", location="us-east5", credentials=credentials, api_endpoint=emu.url,
        api_transport="rest",
    )  # fmt: skip
    found = lib.aiplatform.Endpoint(ID)
    with lib.session.AuthorizedSession(credentials) as session:
        session.mount("https://", Adapter())
        found.authorized_session = session
        yield found
    lib.aiplatform.init(api_endpoint=None, api_transport=None, credentials=None)


def test_endpoint_found_and_listed(lib, endpoint) -> None:
    assert endpoint.resource_name == f"{NUMBERED}/endpoints/{ID}"
    assert endpoint.dedicated_endpoint_enabled
    assert endpoint.dedicated_endpoint_dns == DNS.format(endpoint=ID)
    assert [one.name for one in lib.aiplatform.Endpoint.list()] == [ID]
    assert lib.aiplatform.Endpoint.list(filter='display_name="other"') == []
    assert [model.display_name for model in endpoint.list_models()] == [MODEL]
    with pytest.raises(lib.errors.NotFound):
        lib.aiplatform.Endpoint("5").display_name


def test_endpoint_predict(endpoint, emu_with_dns: Emulator) -> None:
    emu_with_dns.replies("Oslo.", "Rome.")
    prompted = endpoint.predict([{"prompt": "Norway?", "max_tokens": 20}], use_dedicated_endpoint=True)
    assert prompted.predictions == ["Prompt:\nNorway?\nOutput:\nOslo."]
    assert prompted.deployed_model_id == "4567890123456789012"
    assert (prompted.model_resource_name, prompted.model_version_id) == (f"{NUMBERED}/models/{MODEL}", "1")
    chat = {"@requestFormat": "chatCompletions", "messages": HELLO, "max_tokens": 20}
    completion = endpoint.predict([chat], use_dedicated_endpoint=True).predictions
    assert completion["choices"][0]["message"]["content"] == "Rome."
    with pytest.raises(
        ValueError, match=r"(?s)Failed to make prediction request\. Status code:400.*'prompt' is required"
    ):
        endpoint.predict([{"text": "x"}], use_dedicated_endpoint=True)


def test_endpoint_raw_predict(endpoint, emu_with_dns: Emulator) -> None:
    emu_with_dns.replies("Oslo.", Reply(tool_calls=[("f", {"a": 1})]))
    answer = endpoint.raw_predict(json.dumps({"messages": HELLO}).encode(), JSON, use_dedicated_endpoint=True)
    assert answer.json()["choices"][0]["message"]["content"] == "Oslo."
    assert answer.headers["X-Vertex-AI-Deployed-Model-Id"] == "4567890123456789012"
    body = {"messages": HELLO, "tools": [{"type": "function", "function": {"name": "f"}}]}
    called = endpoint.raw_predict(json.dumps(body).encode(), JSON, use_dedicated_endpoint=True).json()
    assert called["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'


def text_of(lines) -> str:
    frames = [line.decode() for line in lines if line]
    assert frames.pop() == "data: [DONE]"
    events = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])


def test_endpoint_stream_raw_predict(endpoint, emu_with_dns: Emulator) -> None:
    emu_with_dns.reply("In pieces é🎉.")
    body = json.dumps({"messages": HELLO, "stream": True}).encode()
    assert text_of(endpoint.stream_raw_predict(body, JSON)) == "In pieces é🎉."


def test_endpoint_invoke(endpoint, emu_with_dns: Emulator) -> None:
    emu_with_dns.replies("Plain.", "Streamed é🎉.")
    body = {"messages": HELLO, "model": "meta-llama/Llama-4-Scout-17B-16E-Instruct"}
    answer = endpoint.invoke("/v1/chat/completions", json.dumps(body).encode(), JSON)
    assert answer.json()["choices"][0]["message"]["content"] == "Plain."
    streamed = endpoint.invoke(
        "/v1/chat/completions", json.dumps({**body, "stream": True}).encode(), JSON, stream=True,
        deployed_model_id="4567890123456789012",
    )  # fmt: skip
    assert text_of(streamed) == "Streamed é🎉."
    paths = [request.path for request in emu_with_dns.requests if request.host == "vertex-endpoint"]
    assert re.fullmatch(r"/v1/projects/123456789012/.*/invoke/v1/chat/completions", paths[0])
    assert "/deployedModels/4567890123456789012/invoke/" in paths[1]
