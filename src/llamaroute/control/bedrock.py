"""What an AWS account can call on Amazon Bedrock, through boto3: foundation models, inference profiles, and access.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_ListFoundationModels.html
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_ListInferenceProfiles.html
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_GetFoundationModelAvailability.html

boto3 signs nothing here: the account's own credentials do, whatever they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic_core import to_json

from ..auth.aws import unlogged
from ..errors import ConfigError, ConnectionError, LlamarouteError, ProviderError
from ..pipeline.ops import Plan
from ..spi import WireRequest, WireResponse
from .base import Survey

__all__ = ["discover"]

T = TypeVar("T")

ATTEMPTS = 2
NEEDED = (
    "allow bedrock:ListFoundationModels, bedrock:ListInferenceProfiles and bedrock:GetFoundationModelAvailability "
    "(the managed policy AmazonBedrockReadOnly has them)"
)
"""https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AmazonBedrockReadOnly.html"""
READY = {
    "authorizationStatus": "AUTHORIZED",
    "entitlementAvailability": "AVAILABLE",
    "regionAvailability": "AVAILABLE",
}
"""What GetFoundationModelAvailability says of a model that can be called. The agreement's status is told beside it: it
may be missing where a model needs none."""


def discover(survey: Survey) -> Plan[None]:
    """Ask for models and profiles, and for the access to each model."""
    control = _Control(survey)
    try:
        yield from _ask_all(survey, control)
    finally:
        control.close()


def _ask_all(survey: Survey, control: _Control) -> Plan[None]:
    models = yield from survey.blocking(control.models, "the foundation models", may=NEEDED)
    profiles = yield from survey.blocking(control.profiles, "the inference profiles", may=NEEDED)
    for model in models or ():
        direct = "ON_DEMAND" in model.get("inferenceTypesSupported", ())
        survey.add(
            model["modelId"],
            region=control.region,
            status=model.get("modelLifecycle", {}).get("status", ""),
            callable=direct,
            note="" if direct else "only through an inference profile",
        )
    behind: dict[str, str] = {}
    for profile in profiles or ():
        own = profile["type"] == "APPLICATION"  # these are called by ARN
        id = profile["inferenceProfileArn"] if own else profile["inferenceProfileId"]
        routes = [model["modelArn"] for model in profile["models"]]
        behind[id] = _model_id(routes[0]) if routes else ""
        survey.add(
            id,
            names=(behind[id], profile["inferenceProfileName"]),
            what="inference-profile",
            region=control.region,
            status=profile["status"],
            callable=profile["status"] == "ACTIVE",
            note=f"routes to {', '.join(sorted({arn.split(':')[3] for arn in routes}))}",
        )
    for model_id in {behind.get(found.id, found.id) for found in survey.found() if found.callable}:
        yield from _access(survey, control, model_id, behind)
    if profiles is not None and models is not None:
        survey.expect(
            {*behind, *(model["modelId"] for model in models)}, f"the models and profiles of {control.region}"
        )


def _access(survey: Survey, control: _Control, model_id: str, behind: Mapping[str, str]) -> Plan[None]:
    """Whether the account may call a model, and so the profiles that lead to it."""
    said = yield from survey.blocking(lambda: control.availability(model_id), f"the access to {model_id}", may=NEEDED)
    lacking = [
        f"{name} {said[name]}" for name, good in READY.items() if said is not None and said.get(name, good) != good
    ]
    if lacking and said is not None and (agreement := said.get("agreementAvailability", {}).get("status")):
        lacking.append(f"agreementAvailability {agreement}")
    for found in survey.found():
        if found.callable and behind.get(found.id, found.id) == model_id:
            if said is None:
                survey.change(replace(found, callable=None))
            elif lacking:
                survey.change(replace(found, callable=False, note=f"no access: {', '.join(lacking)}"))


def _model_id(arn: str) -> str:
    return arn.rpartition("/")[2]


class _Control:
    """boto3's client of the control plane; made when it is first asked. Raises errors of ours."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._client: Any = None
        self.region = ""

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def models(self) -> list[dict[str, Any]]:
        return self._ask(lambda client: client.list_foundation_models()["modelSummaries"])

    def profiles(self) -> list[dict[str, Any]]:
        def ask(client: Any) -> list[dict[str, Any]]:
            pages = client.get_paginator("list_inference_profiles")
            # Without a type, AWS lists its own profiles alone.
            kinds = ("SYSTEM_DEFINED", "APPLICATION")
            found = [page for kind in kinds for page in pages.paginate(typeEquals=kind)]
            return [item for page in found for item in page["inferenceProfileSummaries"]]

        return self._ask(ask)

    def availability(self, model_id: str) -> dict[str, Any]:
        return self._ask(lambda client: client.get_foundation_model_availability(modelId=model_id))

    def _ask(self, question: Callable[[Any], T]) -> T:
        try:
            with unlogged():  # the request that boto3 logs is the one that gets the signature
                if self._client is None:
                    self._client = self._make()
                return question(self._client)
        except LlamarouteError:
            raise
        except ImportError as error:
            text = f"{self._survey.key}: boto3 is not installed; pip install 'llamaroute[bedrock]'"
            raise ConfigError(text, key=self._survey.key) from error
        except Exception as error:
            raise self._translated(error) from None

    def _make(self) -> Any:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.session import Session

        options: Any = self._survey.account.options
        limits = self._survey.call.timeout
        signed = self._survey.signed(WireRequest("GET", "https://bedrock.{region}.amazonaws.com", {}))
        named = (urlsplit(signed.url).hostname or "").split(".")[1]
        self.region = options.region or named or "us-east-1"  # a key and a URL of one's own need none
        settings = Config(
            signature_version=UNSIGNED,
            connect_timeout=limits.connect,
            read_timeout=limits.answer(stream=False),
            retries={"total_max_attempts": ATTEMPTS},
            proxies={"http": options.proxy, "https": options.proxy} if options.proxy else None,
        )
        # A profile that the process's environment names is not the account's.
        session = Session(session_vars={"profile": (None, None, None, None)})
        client = boto3.session.Session(botocore_session=session, region_name=self.region).client(
            "bedrock", endpoint_url=self._address(), verify=options.verify, config=settings
        )
        client.meta.events.register("before-send.bedrock", self._sign)
        return client

    def _address(self) -> str | None:
        """The control plane behind the account's `base_url`; AWS's own when that is the runtime's host."""
        base = self._survey.account.options.base_url
        return None if base is None or "bedrock-runtime" in (urlsplit(base).hostname or "") else base

    def _sign(self, request: Any, **about: Any) -> None:
        """Called by boto3 for each attempt; what it returns would stand for the answer."""
        own = {name.lower(): _text(value) for name, value in request.headers.items()}
        request.headers.update(self._survey.headers(request.method, request.url, own, request.body or b""))

    def _translated(self, error: Exception) -> LlamarouteError:
        """An exception of boto3's as the error that the same answer would be on the runtime."""
        from botocore import exceptions as aws

        call, line = self._survey.call, (str(error).strip().splitlines() or [""])[0][:300]
        match error:
            case aws.ClientError(response=answer):
                said, about = answer.get("Error", {}), answer.get("ResponseMetadata", {})
                headers = {**about.get("HTTPHeaders", {}), "x-amzn-errortype": str(said.get("Code", ""))}
                body = to_json({"message": said.get("Message", "")})
                response = WireResponse(about.get("HTTPStatusCode", 500), headers, body)
                return call.candidate.adapter.map_error(response, call.target)
            case aws.HTTPClientError() | aws.EndpointConnectionError():
                return ConnectionError(line, provider=self._survey.account.name)
        return ProviderError(f"{type(error).__name__}: {line}", provider=self._survey.account.name)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
