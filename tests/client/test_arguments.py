"""What callers pass: wrong values are errors of ours before a byte leaves."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity

import llamaroute as lr

from .api import Api, box
from .raw import Raw, Story, answer

BUSY = answer(b"{}", "503 Service Unavailable")


WRONG: list[dict[str, Any]] = [
    {"max_tokens": 0},
    {"max_tokens": -1},
    {"max_tokens": 1.5},
    {"max_tokens": True},
    {"max_tokens": "10"},
    {"temperature": "hot"},
    {"temperature": float("nan")},
    {"temperature": float("inf")},
    {"temperature": True},
    {"top_k": 0},
    {"seed": 1.0},
    {"stop": ""},
    {"stop": ["a", ""]},
    {"stop": [1]},
    {"stop": 5},
    {"system": 5},
    {"system": ["a"]},
    {"logprobs": "yes"},
    {"logprobs": -1},
    {"parallel_tool_calls": "yes"},
    {"tools": lambda: None},
    {"tools": [5]},
    {"tools": 5},
    {"tool_choice": "required"},
    {"tool_choice": "f"},
    {"tool_choice": 5},
    {"output": 5},
    {"output": object()},
    {"output": int, "output_retries": -1},
    {"output": int, "output_retries": "x"},
    {"output": int, "output_retries": 1.5},
    {"retry": 0},
    {"retry": -1},
    {"retry": True},
    {"retry": False},
    {"retry": 1.5},
    {"retry": "3"},
    {"retry": tenacity.stop_never},
    {"extra": "x"},
    {"extra": {"box": 5}},
    {"extra": {"box": [1]}},
    {"extra": {"box": {"x": object()}}},
    {"metadata": 5},
    {"model": 5},
    {"model": ["box"]},
    {"model": "no-such-model"},
    {"temprature": 0.5},
    {"message": "Hi"},
    {"stream": True},
]


@pytest.mark.parametrize("options", WRONG, ids=[f"{place}-{'-'.join(one)}" for place, one in enumerate(WRONG)])
async def test_wrong_arguments(api: Api, options: dict[str, Any]):
    with Raw(Story()) as server:
        async with api.client(box(server.url)) as client:
            with pytest.raises(lr.InputError) as caught:
                await client.chat("Hi", **options)
        assert server.accepted == 0
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "value", [5, None, [], [5], [lr.system("only")], {"role": "x", "content": "y"}, b"bytes", [["a"]]]
)
async def test_wrong_input(api: Api, value: Any):
    with Raw(Story()) as server:
        async with api.client(box(server.url)) as client:
            with pytest.raises(lr.InputError):
                await client.chat(value)
        assert server.accepted == 0


async def test_a_misspelt_argument_is_told_its_name(api: Api):
    async with api.client(box("http://127.0.0.1:9/v1")) as client:
        with pytest.raises(lr.InputError, match=r"temprature.*temperature"):
            await client.chat("Hi", temprature=1)


async def test_none_means_not_given(api: Api):
    names = [
        "model", "system", "output", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "frequency_penalty",
        "presence_penalty", "repetition_penalty", "logprobs", "parallel_tool_calls", "headers", "timeout", "retry",
        "metadata", "extra", "fit",
    ]  # fmt: skip
    with Raw(Story()) as server:
        async with api.client(box(server.url)) as client:
            await client.chat("Hi")
            await client.chat("Hi", **dict.fromkeys(names), tools=(), tool_choice="auto", output_retries=1, priority=0)
    assert server.requests[0].body == server.requests[1].body


async def test_every_knob_reaches_the_wire(api: Api):
    knobs = {
        "max_tokens": 5, "temperature": 0, "top_p": 0.5, "top_k": 3, "seed": 0, "frequency_penalty": -0.5,
        "presence_penalty": 0.5, "repetition_penalty": 1.1,
    }  # fmt: skip
    with Raw(Story()) as server:
        async with api.client(box(server.url)) as client:
            await client.chat("Hi", **knobs, stop="END", logprobs=2)
            await client.chat("Hi", stop=["a", "b"], logprobs=True)
            await client.chat("Hi", logprobs=False)
    first, second, third = (request.json for request in server.requests)
    assert {name: first[name] for name in knobs} == knobs
    assert (first["stop"], first["logprobs"], first["top_logprobs"]) == (["END"], True, 2)
    assert (second["stop"], second["logprobs"]) == (["a", "b"], True)
    assert "top_logprobs" not in second
    assert "logprobs" not in third


# -- retry= -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry", "requests"),
    [
        (1, 1),
        (lr.RetryPolicy(attempts=1), 1),
        (lr.RetryPolicy(attempts=4, base=0), 4),
        (tenacity.Retrying(stop=tenacity.stop_after_attempt(3)), 3),
        (tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(2)), 2),
        (tenacity.Retrying(stop=tenacity.stop_after_attempt(3), retry=tenacity.retry_never), 1),
    ],
)
async def test_retry(api: Api, retry: Any, requests: int):
    with Raw(Story([BUSY])) as server:
        async with api.client(box(server.url)) as client:
            with pytest.raises(lr.OverloadedError) as caught:
                await client.chat("Hi", retry=retry)
            assert len(server.requests) == requests
            assert len(caught.value.attempts) == requests


async def test_the_accounts_retry_counts_where_the_call_says_nothing(api: Api):
    with Raw(Story([BUSY])) as server:
        async with api.client(box(server.url, retry={"attempts": 2, "base": 0})) as client:
            with pytest.raises(lr.OverloadedError):
                await client.chat("Hi")
            assert len(server.requests) == 2
            with pytest.raises(lr.OverloadedError):
                await client.chat("Hi", retry=1)
            assert len(server.requests) == 3


# -- totals -----------------------------------------------------------------------------------------------------------


async def test_totals(api: Api):
    config = box("")
    config["models"] = {"llama-4-scout": {"input_price": 1, "output_price": 2, "ids": {"box": "llama-4-scout"}}}
    with Raw(Story([answer(b'{"error": "x"}', "400 Bad Request"), Story().answers[0]])) as server:
        config["providers"]["box"]["base_url"] = server.url
        async with api.client(config) as client:
            assert client.usage().calls == 0
            with pytest.raises(lr.InvalidRequestError):
                await client.chat("Hi")
            await client.chat("Hi")
            reply = await client.chat("Hi")
            totals = client.usage()
    assert (totals.calls, totals.failed, totals.attempts) == (3, 1, 3)
    assert (totals.input_tokens, totals.output_tokens) == (6, 8)
    assert reply.cost is not None
    assert totals.cost == 2 * reply.cost.usd
    assert totals.unpriced == 0
    assert set(totals.by_target) == {"box:llama-4-scout"}
    assert totals.by_target["box:llama-4-scout"].calls == 3


async def test_totals_of_streams(api: Api):
    from .raw import stream_of, then_silence

    whole = stream_of("a", "b")
    with Raw(Story([whole]), then_silence(*whole[:2])) as server:
        async with api.client(box(server.url)) as client:
            async with client.stream("Hi") as stream:
                async for _ in stream:
                    pass
            assert (client.usage().calls, client.usage().unpriced, client.usage().output_tokens) == (1, 1, 4)
            server.connections[0].sock.close()
    totals = client.usage()
    assert (totals.calls, totals.failed, totals.attempts) == (1, 0, 1)


async def test_totals_are_a_picture_of_their_moment(api: Api):
    with Raw(Story()) as server:
        async with api.client(box(server.url)) as client:
            before = client.usage()
            await client.chat("Hi")
            after = client.usage()
    assert after.calls - before.calls == 1
