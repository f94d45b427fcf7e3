"""Google Vertex AI: Llama 4 as a service (MaaS), and on endpoints of one's own.

https://docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models/llama/use-llama
https://docs.cloud.google.com/vertex-ai/docs/predictions/using-dedicated-endpoints

No recorded answer of Llama 4 there is public: docs/hosts.md says where the shapes are from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError, PydanticSerializationError

from .. import catalog
from ..dialects.accumulate import fold
from ..dialects.http_errors import CODES, ErrorBody, map_http_error, read_error
from ..dialects.json_body import Body, loads
from ..dialects.openai_chat import OpenAIChat, OpenAIDecoder, answer_events, error_status, is_error, open_answer
from ..dialects.openai_request import extra_for
from ..errors import (
    AuthenticationError,
    CapabilityError,
    InputError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    ProviderError,
    RateLimitError,
    ServerError,
)
from ..errors import TimeoutError as TimeoutError_
from ..spi import (
    DecoderEvent,
    HeaderText,
    ProviderSettings,
    ProviderSpec,
    StreamDecoder,
    Target,
    WireRequest,
    WireResponse,
)
from ..types.capability import FEATURES, Feature, ImageRule, ModelRow, Support
from ..types.dataclass import dataclass
from ..types.events import Finished, ReasoningDelta, TextDelta, ToolCallStarted
from ..types.parts import Image, Part
from ..types.request import ChatRequest
from ..types.response import ChatResponse, Notice
from ..types.tools import canonical_json
from .urls import join_url

__all__ = ["SPEC", "VertexSettings"]

LLAMA_REGION = "us-east5"
"""The only region with Llama 4 as a service; `global` and the multi-region hosts answer 404.
GoogleCloudPlatform/vertex-ai-samples:skills/vertex-inference/SKILL.md, vercel/ai pull request 15783."""

MAAS_SUFFIX = "-maas"
"""Ends the ids of models that Google runs as a service; no endpoint of one's own has such a model."""

MAX_TOKENS = 8192
"""Sent with models the catalogue does not know, too: the service answers nothing at all to a request without.
vercel/ai issue 15685; 8192 is the most that it takes for Llama 4."""

MOST_BYTES = {"dedicated": 10 << 20, "shared": 3 << 19}
"""Bytes of a request: 10 MB, and 1.5 MB on the host that endpoints share.
https://docs.cloud.google.com/vertex-ai/docs/predictions/choose-endpoint-type"""

ERROR_CODES: Mapping[str, type[ProviderError]] = {
    **CODES,
    "invalid_argument": InvalidRequestError,
    "failed_precondition": InvalidRequestError,
    "out_of_range": InvalidRequestError,
    "unimplemented": InvalidRequestError,
    "already_exists": InvalidRequestError,
    "unauthenticated": AuthenticationError,
    "permission_denied": PermissionDeniedError,
    "not_found": NotFoundError,
    "resource_exhausted": RateLimitError,
    "aborted": OverloadedError,
    "unavailable": OverloadedError,
    "deadline_exceeded": TimeoutError_,
    "cancelled": ServerError,
    "unknown": ServerError,
    "internal": ServerError,
    "data_loss": ServerError,
}
"""The words of google.rpc.Code. https://cloud.google.com/apis/design/errors#handling_errors"""

NOT_ENABLED = "not allowed to use Publisher Model"
"""What a FAILED_PRECONDITION says of a model that the project has not enabled; the code alone says nothing.
langchain-ai/langchain-google issue 593."""
ENABLE = "enable the model and accept its licence, once per project, on its card in Model Garden"

HINTS: tuple[tuple[str, str, str], ...] = (
    ("FAILED_PRECONDITION", NOT_ENABLED, ENABLE),
    ("NOT_FOUND", "Publisher Model", f"if name and region are right, {ENABLE}"),
    ("UNAVAILABLE", "Took too long", "ask for fewer max_tokens"),
)
"""Status, words of the message, and what mends it, where the code alone says nothing. The third is what a deployment
answers that works longer than its endpoint waits (model_garden_pytorch_llama4_deployment.ipynb)."""

REMEDIES: Mapping[str, str] = {
    "SERVICE_DISABLED": "enable it: gcloud services enable aiplatform.googleapis.com",
    "IAM_PERMISSION_DENIED": "the account needs the role roles/aiplatform.user",
    "USER_PROJECT_DENIED": "the account needs roles/serviceusage.serviceUsageConsumer on the quota project",
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": "get a token with the scope https://www.googleapis.com/auth/cloud-platform",
    "ACCESS_TOKEN_EXPIRED": "a ready access_token is not renewed; configure credentials instead",
    "CREDENTIALS_MISSING": "API keys are not taken here; configure credentials",
}
"""Reasons of google.rpc.ErrorInfo -> what mends them.
https://cloud.google.com/service-infrastructure/docs/service-management/reference/rpc/google.api#errorreason"""

UNDOCUMENTED = ("seed", "stop", "frequency_penalty", "presence_penalty", "repetition_penalty", "logprobs")
"""Parameters of which no document says what Llama does with them as a service."""

_RESOURCE = re.compile(r"projects/(?P<project>[\w.:-]+)/locations/(?P<region>[\w-]+)/endpoints/(?P<id>[\w-]+)")


class VertexSettings(ProviderSettings):
    """Google Vertex AI: Llama 4 as a service, or an endpoint of your own."""

    path_keys: ClassVar[tuple[str, ...]] = ("verify", "credentials")
    project_variables: ClassVar[tuple[str, ...]] = (
        "GOOGLE_CLOUD_PROJECT",
        "GCLOUD_PROJECT",
        "CLOUD_ML_PROJECT_ID",
        "VERTEXAI_PROJECT",
        "GOOGLE_VERTEX_PROJECT",
    )
    """Environment variables that name the project, as Google's own packages and other clients read them."""

    project: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.:-]*$")
    """The project's id or number. Default: GOOGLE_CLOUD_PROJECT, else the project that the credentials name."""
    region: str = Field(default=LLAMA_REGION, pattern=r"^[a-z][a-z0-9-]*$")
    """The region. Llama 4 as a service is in us-east5 alone. Default: us-east5."""
    api: Literal["maas", "endpoint"] = "maas"
    """`maas` for the models that Google runs, `endpoint` for one you deployed from Model Garden. Default: maas."""
    endpoint_id: str | None = None
    """With api = "endpoint": its id, or its full name `projects/P/locations/R/endpoints/E`."""
    route: Literal["chat", "predict", "raw-predict"] = "chat"
    """With api = "endpoint": how it is asked. `predict` cannot stream. Default: chat."""
    dedicated_dns: str | None = Field(default=None, repr=False)
    """With api = "endpoint": its own host, such as `123.us-east5-456.prediction.vertexai.goog`, so that Google is not
    asked for it."""
    credentials: str | None = None
    """Path of a Google credentials file. Default: GOOGLE_APPLICATION_CREDENTIALS, else what gcloud or the machine
    has."""
    impersonate: str | None = Field(default=None, pattern=r"^[^@\s/]+@[^@\s/]+$")
    """E-mail address of a service account to act as."""
    quota_project: HeaderText | None = None
    """Project that pays and whose quota counts (`x-goog-user-project`). Default: GOOGLE_CLOUD_QUOTA_PROJECT."""
    access_token: SecretStr | None = None
    """A ready OAuth access token; it lasts an hour and is not renewed."""
    api_version: Literal["v1", "v1beta1"] = "v1"
    """Version of the API in URLs. Default: v1."""

    @field_validator("endpoint_id")
    @classmethod
    def _is_endpoint(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\w-]+", value) and not _RESOURCE.fullmatch(value):
            raise PydanticCustomError("endpoint", "should be an id, or projects/P/locations/R/endpoints/E")
        return value

    @field_validator("dedicated_dns")
    @classmethod
    def _is_host(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"(https?://)?[\w.-]+(:\d+)?(/[\w./-]*)?", value):
            raise PydanticCustomError("host", "should be a host, with or without https://")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> VertexSettings:
        if self.api == "endpoint" and self.endpoint_id is None:
            raise PydanticCustomError("endpoint", 'api = "endpoint" needs endpoint_id')
        if self.api == "maas" and (self.endpoint_id or self.dedicated_dns or self.route != "chat"):
            raise PydanticCustomError("maas", 'endpoint_id, dedicated_dns and route need api = "endpoint"')
        return self


@dataclass(frozen=True, slots=True)
class Place:
    """Where an account's requests go. `project` is `-` where the credentials say which; `auth/google.py` puts it in."""

    project: str
    region: str
    endpoint: str

    @classmethod
    def of(cls, options: VertexSettings) -> Place:
        """The parts of an endpoint's full name win over the other keys."""
        named = _RESOURCE.fullmatch(options.endpoint_id or "")
        if named:
            return cls(named["project"], named["region"], named["id"])
        endpoint = "openapi" if options.api == "maas" else options.endpoint_id or ""
        return cls(options.project or "-", options.region, endpoint)

    @property
    def resource(self) -> str:
        """The endpoint's full name; for models as a service, that of the endpoint they share."""
        return f"projects/{self.project}/locations/{self.region}/endpoints/{self.endpoint}"


def _options(target: Target) -> VertexSettings:
    assert isinstance(target.options, VertexSettings)
    return target.options


def _root(options: VertexSettings) -> str:
    """The API's root, before the version."""
    return options.base_url or f"https://{Place.of(options).region}-aiplatform.googleapis.com"


def _host(dns: str) -> str:
    """`dedicatedEndpointDns` comes with and without a scheme."""
    return dns.rstrip("/") if "://" in dns else f"https://{dns.rstrip('/')}"


def _base(target: Target) -> str:
    """The root for a target's requests: of an endpoint, its own host where it has one."""
    options = _options(target)
    if options.dedicated_dns is not None:
        return _host(options.dedicated_dns)
    return target.located or _root(options)


def _url(target: Target, *, stream: bool = False) -> str:
    options = _options(target)
    tail = {
        "chat": "/chat/completions",
        "predict": ":predict",
        "raw-predict": ":streamRawPredict" if stream else ":rawPredict",
    }[options.route]
    return join_url(_base(target), f"{options.api_version}/{Place.of(options).resource}{tail}")


def _adjust(body: dict[str, Any], request: ChatRequest, target: Target) -> None:
    options = _options(target)
    if options.api == "maas":
        body.setdefault("max_tokens", MAX_TOKENS)
    if options.route == "predict":
        # GoogleCloudPlatform/vertex-ai-samples: model_garden_llama_guard_deployment.ipynb
        body["@requestFormat"] = "chatCompletions"


def _names_model(target: Target) -> bool:
    return _options(target).route != "predict"


CHAT = OpenAIChat(url=_url, adjust=_adjust, codes=ERROR_CODES, names_model=_names_model)


class VertexAdapter:
    """OpenAI's dialect with Google's errors, and in an envelope on the `predict` route."""

    def build_request(self, request: ChatRequest, target: Target, *, stream: bool) -> WireRequest:
        """See `spi.Adapter`."""
        options = _options(target)
        asked, warnings = _without_detail(request, target) if options.api == "maas" else (request, ())
        if options.route == "predict":
            built = CHAT.build_request(asked.evolve(extra={}), target, stream=False)
            built = replace(built, body=_instance(built.body, request, target))
        else:
            built = CHAT.build_request(asked, target, stream=stream)
            built = replace(built, url=_url(target, stream=stream))
        if options.api == "maas":
            warnings = (*warnings, *_doubts(request, target))
        else:
            _check_size(built, target)
        return replace(built, warnings=(*built.warnings, *warnings))

    def prefills(self, target: Target) -> bool:
        """See `spi.Prefiller`. Documented for the models that Google runs (docs/hosts.md); what serves an endpoint
        of one's own is not known here."""
        return _options(target).api == "maas"

    def parse_response(self, response: WireResponse, request: ChatRequest, target: Target) -> ChatResponse[Any]:
        """See `spi.Adapter`."""
        payload = open_answer(response, target, self.map_error)
        answer = payload
        if _options(target).route == "predict":
            answer = _prediction(payload)
            if is_error(answer):
                inside = WireResponse(error_status(answer), response.headers, canonical_json(answer).encode())
                raise self.map_error(inside, target)
        if not isinstance(answer.get("choices"), list):
            raise ProtocolError("the answer has no 'choices'; is this a chat model's endpoint?", raw=payload)
        return fold(_Watch(target).over(answer_events(answer)), raw=payload)

    def stream_decoder(self, request: ChatRequest, target: Target) -> StreamDecoder:
        """See `spi.Adapter`."""
        return _Decoder(target)

    def map_error(self, response: WireResponse, target: Target) -> ProviderError:
        """See `spi.Adapter`."""
        return _error(response, target)

    # -- spi.EndpointLocator -------------------------------------------------------------------------------------------

    def locate(self, target: Target) -> WireRequest | None:
        """An endpoint may have a host of its own, and is then refused at the one that all share."""
        options = _options(target)
        if options.api == "maas" or options.dedicated_dns is not None:
            return None
        url = join_url(_root(options), f"{options.api_version}/{Place.of(options).resource}")
        return WireRequest("GET", url, {"accept": "application/json"})

    def parse_location(self, response: WireResponse, target: Target) -> str:
        """The host from the endpoint's resource.

        https://docs.cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints
        """
        resource = loads(response.body, "the endpoint's description")
        if not isinstance(resource, Mapping):
            raise ProtocolError("the endpoint's description is not a JSON object", raw=resource)
        if not resource.get("deployedModels"):
            raise NotFoundError(
                f"no model is deployed at endpoint {Place.of(_options(target)).endpoint}",
                status=response.status,
                raw=resource,
            )
        dns = resource.get("dedicatedEndpointDns")
        if resource.get("dedicatedEndpointEnabled") and isinstance(dns, str) and dns:
            return _host(dns)
        return _root(_options(target))


# -- requests ----------------------------------------------------------------------------------------------------------


def _without_detail(request: ChatRequest, target: Target) -> tuple[ChatRequest, tuple[Notice, ...]]:
    """`detail` of an image is a hint that the route does not take.

    https://docs.cloud.google.com/vertex-ai/generative-ai/docs/migrate/openai/overview
    """
    if all(image.detail is None for image in request.images):
        return request, ()

    def plain(part: Part) -> Part:
        if not isinstance(part, Image) or part.detail is None:
            return part
        copy = Image(part.source)
        copy.from_dict = part.from_dict
        if (data := part.loaded()) is not None:
            copy.load(data)
        return copy

    messages = tuple(replace(message, parts=tuple(map(plain, message.parts))) for message in request.messages)
    notice = Notice("image_detail", f"{target.name} knows no `detail` of images: it was left out", "images")
    return request.evolve(messages=messages), (notice,)


def _doubts(request: ChatRequest, target: Target) -> tuple[Notice, ...]:
    given = [name for name in UNDOCUMENTED if getattr(request, name) is not None]
    if not given:
        return ()
    names = ", ".join(given)
    message = f"{target.name}: no document says what Llama does with {names}; it may be ignored or refused"
    return (Notice("undocumented_parameter", message, names),)


def _instance(body: bytes | tuple[bytes, ...], request: ChatRequest, target: Target) -> bytes | tuple[bytes, ...]:
    """The one instance of a prediction. `extra` goes beside it: `parameters`, say."""
    extra = extra_for(request, target)
    out = Body()
    try:
        out.write(b'{"instances":')
        if "instances" in extra:
            out.value(extra.pop("instances"))
        else:
            out.write(b"[")
            for piece in body if isinstance(body, tuple) else (body,):
                out.blob(piece)
            out.write(b"]")
        for key, value in extra.items():
            out.write(b",")
            out.value(key)
            out.write(b":")
            out.value(value)
        out.write(b"}")
    except PydanticSerializationError as error:
        raise InputError(f"extra= holds what JSON cannot: {error}") from None
    return out.finish()


def _check_size(built: WireRequest, target: Target) -> None:
    options = _options(target)
    own_host = _base(target) != _root(options)
    kind = "dedicated" if own_host else "shared"
    size, most = sum(map(len, built.body)) if isinstance(built.body, tuple) else len(built.body), MOST_BYTES[kind]
    if size > most:
        what = f"a {kind} endpoint takes requests of at most {most:,} bytes, this one has {size:,}"
        raise CapabilityError(f"{target.name}: {what}", missing={target.name: what})


# -- answers -----------------------------------------------------------------------------------------------------------


def _prediction(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `predictions` holds: with @requestFormat it *is* the chat completion, elsewhere a list.

    GoogleCloudPlatform/vertex-ai-samples: model_garden_llama_guard_deployment.ipynb
    """
    found = payload.get("predictions")
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, Mapping):
        raise ProtocolError(
            "the prediction is not a chat completion; does its container know @requestFormat?", raw=payload
        )
    return found


class _Watch:
    """Looks at an answer's events, and gives notice before the end of one that says nothing.

    That is what the service sends when it gets no `max_tokens` (vercel/ai issue 15685).
    """

    __slots__ = ("_empty", "_target")

    def __init__(self, target: Target) -> None:
        self._target = target
        self._empty = True

    def over(self, events: Iterable[DecoderEvent]) -> Iterator[DecoderEvent]:
        """The events, with the notice."""
        for event in events:
            if isinstance(event, TextDelta | ReasoningDelta | ToolCallStarted):
                self._empty = False
            elif self._empty and isinstance(event, Finished) and event.reason == "stop":
                message = f"{self._target.name} answered nothing at all, with finish reason 'stop'"
                yield Notice("empty_answer", message, "text")
            yield event


class _Decoder:
    """OpenAI's decoder, watched."""

    __slots__ = ("_inner", "_watch")

    def __init__(self, target: Target) -> None:
        self._inner = OpenAIDecoder(lambda response: _error(response, target))
        self._watch = _Watch(target)

    def feed(self, data: bytes) -> Iterator[DecoderEvent]:
        """See `spi.StreamDecoder`."""
        return self._watch.over(self._inner.feed(data))

    def close(self) -> Iterator[DecoderEvent]:
        """See `spi.StreamDecoder`."""
        return self._watch.over(self._inner.close())


# -- errors ------------------------------------------------------------------------------------------------------------


def _error(response: WireResponse, target: Target) -> ProviderError:
    body = read_error(response.body)
    google = _google(body)
    status = google.get("status")
    if not isinstance(status, str) or not status:  # the front end's page, or what a container says
        if response.status == 404 and isinstance(body.raw, str) and body.raw.startswith("<"):
            body = replace(body, message=f"{body.message}; check region, api_version and base_url")
        return map_http_error(response, target, ERROR_CODES, body=body)
    details = [detail for detail in _listed(google.get("details")) if isinstance(detail, Mapping)]
    reason = next((text for detail in details if isinstance(text := detail.get("reason"), str) and text), None)
    hint = REMEDIES.get(reason or "") or next(
        (hint for code, words, hint in HINTS if code == status and words in body.message), None
    )
    codes = tuple(code for code in (reason, status) if code)
    if hint is ENABLE:
        codes = ("PERMISSION_DENIED",)
    message = f"{body.message.rstrip('.')}; {hint}" if hint else body.message
    error = map_http_error(response, target, ERROR_CODES, body=replace(body, message=message, codes=codes))
    error.code = reason or status
    if error.retry_after is None:
        error.retry_after = next((wait for detail in details if (wait := _delay(detail)) is not None), None)
    return error


def _google(body: ErrorBody) -> Mapping[str, Any]:
    """The google.rpc.Status of an error, which may stand in an array."""
    raw = body.raw[0] if isinstance(body.raw, list) and body.raw else body.raw
    inner = raw.get("error") if isinstance(raw, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _delay(detail: Mapping[str, Any]) -> float | None:
    """Seconds of a google.rpc.RetryInfo: `"retryDelay": "12.5s"`.

    https://cloud.google.com/apis/design/errors#error_details
    """
    delay = detail.get("retryDelay")
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)s", delay) if isinstance(delay, str) else None
    return float(found[1]) if found else None


# -- the account's rows ------------------------------------------------------------------------------------------------


def _refine(row: ModelRow, options: VertexSettings) -> ModelRow:
    if options.api == "endpoint":
        return _deployed(row, options)
    if row.known and options.region != LLAMA_REGION:
        return row.evolve(
            unavailable=f"Llama 4 is served in {LLAMA_REGION} alone and this account's region is {options.region}; set "
            f'region = "{LLAMA_REGION}" (without a config file: VERTEXAI_LOCATION={LLAMA_REGION})'
        )
    return row


_STREAMS: tuple[Feature, ...] = ("stream", "stream_tools", "stream_json_schema")


def _deployed(row: ModelRow, options: VertexSettings) -> ModelRow:
    """The row for an endpoint of one's own: what its container can do, not what the catalogue says of the service.

    Google's containers are vLLM, started with a tool parser (model_garden_pytorch_llama4_deployment.ipynb). What the
    user's own `[models]` table changed stays.
    """
    service = next((known for known in catalog.rows(SPEC.name) if known.model == row.model), None)
    base = service or ModelRow(row.model, row.model_id)

    def kept(name: str) -> Any:
        value = getattr(row, name)
        return None if value == getattr(base, name) else value

    features: dict[Feature, Support] = dict.fromkeys(FEATURES, "native")
    if service is not None:
        features |= {name: how for name, how in row.features.items() if how != service.features[name]}
    else:
        features |= row.features
    if options.route == "predict":
        features |= dict.fromkeys(_STREAMS, "emulate")
    return ModelRow(
        model=row.model,
        # A container serves one model and takes any name for it, an empty one too.
        model_id="" if row.model_id.endswith(MAAS_SUFFIX) else row.model_id,
        features=features,
        image=ImageRule(),
        context_window=kept("context_window"),
        window_sure=row.window_sure,
        max_output=kept("max_output"),
        default_max_tokens=kept("default_max_tokens"),
        input_price=kept("input_price"),
        output_price=kept("output_price"),
        end_of_life=kept("end_of_life"),
        regions=(Place.of(options).region,),
        known=row.known,
    )


_REGION_VARIABLES = (
    "VERTEXAI_LOCATION",
    "GOOGLE_VERTEX_LOCATION",
    "GOOGLE_CLOUD_LOCATION",
    "GOOGLE_CLOUD_REGION",
    "CLOUD_ML_REGION",
)
_MEANT = ("CLOUD_ML_PROJECT_ID", "VERTEXAI_PROJECT", "GOOGLE_VERTEX_PROJECT")
"""Variables that nobody sets who does not mean Vertex AI."""


def _from_env(env: Mapping[str, str]) -> dict[str, Any] | None:
    """A project's name alone is in many an environment: there must be a credentials file, or a name of Vertex AI's own.

    A region that has no Llama 4 is kept: the refusal says so, and nothing goes to another region in silence.
    """
    project = next((env[name] for name in VertexSettings.project_variables if env.get(name)), None)
    file = env.get("GOOGLE_APPLICATION_CREDENTIALS")
    meant = any(env.get(name) for name in _MEANT) or env.get("GOOGLE_GENAI_USE_VERTEXAI", "").lower() in ("1", "true")
    if not project or not (file or meant):
        return None
    region = next((env[name] for name in _REGION_VARIABLES if env.get(name)), None)
    return {"project": project, **({"region": region} if region else {})}


SPEC = ProviderSpec(
    name="vertex",
    adapter=VertexAdapter(),
    auth="llamaroute.auth.google:google",
    settings=VertexSettings,
    from_env=_from_env,
    refine=_refine,
    default_model="llama-4-maverick",
    env=("GOOGLE_CLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS"),
    extra="vertex",
)
