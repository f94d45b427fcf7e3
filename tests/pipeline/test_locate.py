"""A host that has to be asked where its endpoint is: asked once, whoever calls."""

from __future__ import annotations

import json

import pytest

from llamaroute.errors import NotFoundError, ProviderError, TimeoutError
from llamaroute.pipeline.exchange import exchange
from llamaroute.pipeline.locate import Location
from llamaroute.pipeline.ops import Send, Sleep
from llamaroute.spi import EndpointLocator, Target, WireRequest, WireResponse
from tests.pipeline.step import Adapter, Script, Step, answer, call_of, candidate


class Locating(Adapter):
    """Builds its URL from what the host said."""

    def locate(self, target: Target) -> WireRequest | None:
        return WireRequest("GET", "https://control/endpoint", {})

    def parse_location(self, response: WireResponse, target: Target) -> str:
        dns = json.loads(response.body).get("dns")
        if not dns:
            raise NotFoundError("the endpoint has no address")
        return f"https://{dns}"

    def build_request(self, request, target, *, stream):
        built = super().build_request(request, target, stream=stream)
        return WireRequest(built.method, f"{target.located}/chat", built.headers, built.body)


def locating(location: Location):
    chosen = candidate(adapter=Locating())
    chosen.location = location
    return chosen


def test_the_contract_knows_such_an_adapter():
    assert isinstance(Locating(), EndpointLocator)
    assert not isinstance(Adapter(), EndpointLocator)


def test_the_first_call_asks_and_later_ones_know():
    location = Location()
    call = call_of(locating(location))
    script = Script(answer(200, {"dns": "a.host"}), answer(200, {"text": "Hello"}))
    script.run(exchange(call), call.ledger)
    assert [op.request.url for op in script.sent] == ["https://control/endpoint", "https://a.host/chat"]
    assert all("authorization" in op.request.headers for op in script.sent), "the question is signed, too"
    later = call_of(locating(location))
    script = Script(answer(200, {"text": "Hello"}))
    script.run(exchange(later), later.ledger)
    assert [op.request.url for op in script.sent] == ["https://a.host/chat"]


def test_an_error_of_the_question_is_the_calls_and_the_next_call_asks_again():
    location = Location()
    call = call_of(locating(location))
    with pytest.raises(ProviderError) as caught:
        Script(answer(404, b"no such endpoint")).run(exchange(call), call.ledger)
    assert (caught.value.status, caught.value.target) == (404, "acme:llama-4-scout")
    again = call_of(locating(location))
    Script(answer(200, {"dns": "a.host"}), answer(200, {"text": "Hello"})).run(exchange(again), again.ledger)


def test_an_endpoint_without_an_address_is_an_error():
    call = call_of(locating(Location()))
    with pytest.raises(NotFoundError, match="no address"):
        Script(answer(200, {})).run(exchange(call), call.ledger)


def test_calls_that_come_meanwhile_wait_for_the_answer():
    location = Location()
    first, second = call_of(locating(location)), call_of(locating(location))
    asking, waiting = exchange(first), exchange(second)
    assert isinstance(asking.send(None), Send)
    assert isinstance(waiting.send(None), Sleep)
    assert isinstance(waiting.send(None), Sleep)
    location.url = "https://a.host"  # the first call has its answer
    op = waiting.send(None)
    assert isinstance(op, Send)
    assert op.request.url == "https://a.host/chat"
    asking.close()
    assert not location.asking, "a call that is given up leaves the question to others"


def test_waiting_ends_with_the_call():
    call = call_of(locating(Location(asking=True)), total=1.0)
    with pytest.raises(TimeoutError):
        Script(*[Step(Sleep)] * 50).run(exchange(call), call.ledger)
