"""What a Google project has on Vertex AI, through google-cloud-aiplatform: endpoints, and models as a service.

https://cloud.google.com/python/docs/reference/aiplatform/latest

Its tokens are the account's own, whatever the credentials are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import ConfigError, ConnectionError, LlamarouteError, ProviderError
from ..pipeline.ops import Plan
from ..spi import WireRequest, WireResponse
from .base import Survey

__all__ = ["discover"]

T = TypeVar("T")

PUBLISHER = "publishers/meta"
MAAS = "-maas"
"""Ends the ids of models that Google runs as a service; the others of the list are there to be deployed."""
VIEWER = "give the account the role roles/aiplatform.viewer on the project"


def discover(survey: Survey) -> Plan[None]:
    """Ask for the endpoints of the region, and for the publisher's models."""
    options: Any = survey.account.options
    control = _Control(survey)
    endpoints = yield from survey.blocking(control.endpoints, f"the endpoints in {control.region}", may=VIEWER)
    for endpoint in endpoints or ():
        _add_endpoint(survey, control.region, endpoint)
    if options.api == "endpoint":
        own = options.endpoint_id.rpartition("/")[2]
        if endpoints is not None and own not in {endpoint.name.rpartition("/")[2] for endpoint in endpoints}:
            survey.problem(
                "not-found",
                f"{survey.key}.endpoint_id: {own!r} is not among the endpoints in {control.region}",
                "correct endpoint_id, project or region",
            )
        return
    models = yield from survey.blocking(control.models, "the models of Model Garden", may=VIEWER)
    listed: set[str] = set()
    for model in models or ():
        _, publisher, _, name = model.name.split("/")
        if name.endswith(MAAS):
            listed.add(f"{publisher}/{name}")
            _add_model(survey, control.region, f"{publisher}/{name}", model)
    if models is not None:
        survey.expect(listed, "the models of Model Garden")


def _add_endpoint(survey: Survey, region: str, endpoint: Any) -> None:
    deployed = endpoint.deployed_models
    names = [name.rpartition("/")[2] for model in deployed for name in (model.model, model.display_name)]
    dns = endpoint.dedicated_endpoint_dns
    survey.add(
        endpoint.name.rpartition("/")[2],
        names=(*names, endpoint.display_name),
        what="endpoint",
        region=region,
        status="deployed" if deployed else "empty",
        callable=bool(deployed),
        note=f'api = "endpoint" calls it{f", at {dns}" if dns else ""}',
    )


def _add_model(survey: Survey, region: str, id: str, model: Any) -> None:
    """Model Garden lists the same models whichever region is asked, so that being listed says little."""
    row = next((row for row in survey.account.rows if row.model_id == id), None)
    elsewhere = row.unavailable if row is not None else ""
    survey.add(
        id,
        region=region,
        status=model.launch_stage.name,
        callable=False if elsewhere else None,
        note=elsewhere or "listed whether or not the project has enabled it in Model Garden",
    )


class _Control:
    """The clients of google-cloud-aiplatform. Raises errors of ours."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        options: Any = survey.account.options
        self._project: str | None = options.project
        self.region: str = options.region
        if options.endpoint_id and "/" in options.endpoint_id:  # its full name wins over the other keys
            _, self._project, _, self.region, *_ = options.endpoint_id.split("/")

    def endpoints(self) -> list[Any]:
        def ask(aiplatform: Any) -> list[Any]:
            with self._client(aiplatform.EndpointServiceClient) as client:
                return list(client.list_endpoints(parent=self._parent(), timeout=self._seconds))

        return self._ask(ask)

    def models(self) -> list[Any]:
        def ask(aiplatform: Any) -> list[Any]:
            with self._client(aiplatform.ModelGardenServiceClient) as client:
                return list(client.list_publisher_models(parent=PUBLISHER, timeout=self._seconds))

        return self._ask(ask)

    @property
    def _seconds(self) -> float:
        return self._survey.call.timeout.answer(stream=False)

    def _parent(self) -> str:
        if self._project is None:
            # The credentials know it, and put it in when they sign.
            url = self._survey.signed(WireRequest("GET", "https://host/projects/-/locations", {})).url
            self._project = url.split("/")[4]
        return f"projects/{self._project}/locations/{self.region}"

    def _client(self, kind: Callable[..., Any]) -> Any:
        options = self._survey.account.options
        address = options.base_url or f"https://{self.region}-aiplatform.googleapis.com"
        # Without a scheme, the REST transport takes the address for one that speaks TLS.
        client = kind(
            credentials=_credentials(self._survey), transport="rest", client_options={"api_endpoint": address}
        )
        session = client.transport._session  # there is no other way to give it a CA bundle or a proxy
        session.verify = options.verify
        if options.proxy:
            session.proxies = {"http": options.proxy, "https": options.proxy}
        return client

    def _ask(self, question: Callable[[Any], T]) -> T:
        try:
            # The only version with a list of Model Garden; it lists endpoints, too.
            from google.cloud import aiplatform_v1beta1 as aiplatform
        except ImportError as error:
            text = (
                f"{self._survey.key}: google-cloud-aiplatform is not installed; pip install 'llamaroute[vertex-admin]'"
            )
            raise ConfigError(text, key=self._survey.key) from error
        try:
            return question(aiplatform)
        except LlamarouteError:
            raise
        except Exception as error:
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> LlamarouteError:
        """An exception of Google's as the error that the same answer would be to a chat."""
        import requests
        from google.api_core.exceptions import GoogleAPICallError, RetryError

        call, name = self._survey.call, self._survey.account.name
        line = (str(error).strip().splitlines() or [""])[0][:300]
        answer = getattr(error, "response", None)
        if isinstance(error, GoogleAPICallError) and answer is not None:
            headers = {key.lower(): value for key, value in answer.headers.items()}
            return call.candidate.adapter.map_error(
                WireResponse(answer.status_code, headers, answer.content), call.target
            )
        if isinstance(error, requests.RequestException | RetryError):
            return ConnectionError(line, provider=name)
        return ProviderError(f"{type(error).__name__}: {line}", provider=name)


def _credentials(survey: Survey) -> Any:
    """The account's credentials in the form that Google's clients take."""
    from google.auth.credentials import Credentials

    class AccountCredentials(Credentials):  # type: ignore[misc,unused-ignore]
        def refresh(self, request: Any) -> None:
            survey.call.candidate.auth.refresh()

        def before_request(self, request: Any, method: str, url: str, headers: dict[str, str]) -> None:
            headers.update(survey.headers(method, url, {}))

    return AccountCredentials()  # type: ignore[no-untyped-call,unused-ignore]
