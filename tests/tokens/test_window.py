"""Windows: what is refused before it is sent, who is passed over, and what `fit=` leaves out. On both clients."""

from __future__ import annotations

import json
from typing import Any

import pytest

import llamaroute as lr
from llamaroute import tokenizer as tokenizer_module
from llamaroute.emulator import Emulator
from llamaroute.layers.window import room, too_long
from llamaroute.spi import ProviderSettings, Target
from llamaroute.tokenizer import Tokenizer
from llamaroute.tokens import count
from llamaroute.types.capability import ModelRow
from llamaroute.types.messages import messages_from
from llamaroute.types.request import ChatRequest
from tests.client.api import Api

SCOUT = "llama-4-scout"


def config(emu: Emulator, *hosts: str, window: int | None = None, **more: Any) -> dict[str, Any]:
    """Accounts at emulated hosts, in a route when there are several; `window` is configured for all."""
    made: dict[str, Any] = {"providers": emu.providers(*hosts), **more}
    made["default"] = "all" if len(hosts) > 1 else f"{hosts[0]}:{SCOUT}"
    if len(hosts) > 1:
        made["routes"] = {"all": {"targets": [f"{host}:{SCOUT}" for host in hosts]}}
    if window is not None:
        made["models"] = {SCOUT: {"context_window": window, "ids": dict.fromkeys(hosts, SCOUT)}}
    return made


def words(number: int) -> str:
    """Each is a token of its own, and it is a word too."""
    return "word " * number


def sent(emu: Emulator, index: int = -1) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = emu.requests[index].json["messages"]
    return messages


def codes(reply: lr.ChatResponse[Any]) -> list[str]:
    return [notice.code for notice in reply.warnings]


@pytest.fixture(params=["tokenizer", "no tokenizer"])
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With the extra, and without it."""
    if request.param == "no tokenizer":
        monkeypatch.setattr(tokenizer_module, "find", lambda env: None)
    return request.param == "tokenizer"


# -- refused before it is sent ----------------------------------------------------------------------------------------


async def test_what_is_certainly_too_long_is_never_sent(api: Api, emu: Emulator, installed: bool):
    async with api.client(config(emu, "cloudflare")) as client:
        with pytest.raises(
            lr.ContextLengthError, match=r"131,000 are served here; shorten it.*; nothing was sent"
        ) as e:
            await client.chat(words(140_000))
        with pytest.raises(lr.ContextLengthError):
            async with client.stream(words(140_000)):
                pass
    error = e.value
    assert emu.requests == []
    assert error.attempts == ()
    assert (error.provider, error.target, error.model) == ("cloudflare", f"cloudflare:{SCOUT}", SCOUT)
    assert error.limit == 131_000
    assert error.tokens is not None
    assert 140_000 <= error.tokens <= 140_050


async def test_what_words_do_not_prove_the_tokenizer_does(api: Api, emu: Emulator, installed: bool):
    """Without it the host has the last word."""
    text = "incomprehensibilities-" * 8_000  # one word, some 40,000 tokens
    async with api.client(config(emu, "openai", window=20_000)) as client:
        if installed:
            with pytest.raises(lr.ContextLengthError):
                await client.chat(text)
            assert emu.requests == []
        else:
            reply = await client.chat(text)
            assert codes(reply) == ["window_exceeded"]


async def test_what_fits_is_sent_without_a_word(api: Api, emu: Emulator, installed: bool):
    async with api.client(config(emu, "openai", window=20_000)) as client:
        reply = await client.chat(words(15_000))
    assert reply.warnings == ()


async def test_a_window_that_is_only_inferred_keeps_nobody_out(api: Api, emu: Emulator, installed: bool):
    """128,000 is what a gateway says of Bedrock; AWS's own card says ten million."""
    async with api.client(config(emu, "bedrock")) as client:
        reply = await client.chat(words(140_000))
    assert len(emu.requests) == 1
    (notice,) = [notice for notice in reply.warnings if notice.feature == "context"]
    assert notice.code == "window_exceeded"
    assert "bedrock:llama-4-scout is said to serve 128,000" in notice.message


async def test_other_models_have_other_tokenizers(api: Api):
    with Emulator(models={"openai": ["gemma"]}) as emu:
        table = {**emu.providers("openai")["openai"], "model": "gemma"}
        more = {"models": {"gemma": {"context_window": 1000, "ids": {"openai": "gemma"}}}}
        async with api.client({"providers": {"openai": table}, **more}) as client:
            reply = await client.chat(words(2_000))
            counted = await client.count_tokens(words(2_000))
    assert codes(reply) == ["window_exceeded"]
    assert counted.estimated


# -- passed over ------------------------------------------------------------------------------------------------------


async def test_a_target_with_too_small_a_window_is_passed_over_unasked(api: Api, emu: Emulator, installed: bool):
    async with api.client(config(emu, "cloudflare", "bedrock")) as client:
        long = await client.chat(words(140_000))
        short = await client.chat("Hi")
        async with client.stream(words(140_000)) as stream:
            events = [event async for event in stream]
    assert [request.host for request in emu.requests] == ["bedrock", "cloudflare", "bedrock"]
    assert (long.provider, short.provider, stream.response.provider) == ("bedrock", "cloudflare", "bedrock")
    assert [attempt.target for attempt in long.attempts] == [f"bedrock:{SCOUT}"]
    assert "passed_over" in codes(long)
    assert short.warnings == ()
    (notice,) = [notice for notice in long.warnings if notice.code == "passed_over"]
    assert notice.message.startswith("cloudflare:llama-4-scout was passed over: the request has at least 140,0")
    assert not any(isinstance(event, lr.FailedOver) for event in events)


async def test_only_when_all_are_too_small_it_is_an_error(api: Api, emu: Emulator, installed: bool):
    made = config(emu, "cloudflare", "azure")
    async with api.client(made) as client:
        with pytest.raises(lr.ContextLengthError, match="no configured target can serve this request") as caught:
            await client.chat(words(140_000))
    assert emu.requests == []
    assert caught.value.limit == 131_000  # the nearest
    assert "cloudflare:llama-4-scout" in str(caught.value)
    assert "128,000" in str(caught.value)


async def test_a_target_that_cannot_serve_it_for_another_reason_is_named_too(api: Api, emu: Emulator):
    made = config(emu, "cloudflare", "bedrock")
    made["providers"]["bedrock"]["features"] = {"stream": "refuse"}
    async with api.client(made) as client:
        with pytest.raises(lr.ContextLengthError, match=r"131,000 .*; bedrock:llama-4-scout cannot serve streaming"):
            async with client.stream(words(140_000)):
                pass
        with pytest.raises(lr.CapabilityError, match="streaming"):
            async with client.stream("Hi", model="bedrock"):
                pass
    assert emu.requests == []


async def test_explain_says_who_would_be_passed_over(api: Api, emu: Emulator, installed: bool):
    async with api.client(config(emu, "cloudflare", "bedrock")) as client:
        long = client.explain(words(140_000))
        trimmed = client.explain(words(140_000), fit="trim")
        short = client.explain("Hi")
    assert emu.requests == []
    assert [bool(target.refused) for target in long.targets] == [True, False]
    assert "cloudflare:llama-4-scout: the request has at least 140,0" in str(long.targets[0].refused)
    assert [bool(target.refused) for target in (*trimmed.targets, *short.targets)] == [False] * 4


async def test_a_failure_after_a_target_was_passed_over_is_the_hosts(api: Api, emu: Emulator):
    emu.fault(status=500, times=9)
    async with api.client(config(emu, "cloudflare", "bedrock")) as client:
        with pytest.raises(lr.ServerError) as caught:
            await client.chat(words(140_000), retry=1)
    assert [attempt.target for attempt in caught.value.attempts] == [f"bedrock:{SCOUT}"]


async def test_the_hosts_own_word_still_moves_on_to_the_next(api: Api, emu: Emulator):
    """Where nothing is known of the first one's window, it is asked."""
    with Emulator(context={"openai": 500}) as small:
        made = config(emu, "bedrock", "openai")
        made["providers"]["openai"] = small.providers("openai")["openai"]
        made["routes"]["all"]["targets"].reverse()
        async with api.client(made) as client:
            reply = await client.chat(words(5_000))
        assert len(small.requests) == 1
    assert reply.provider == "bedrock"
    failed, done = reply.attempts
    assert failed.error is not None
    assert (failed.error.type, done.target) == ("ContextLengthError", f"bedrock:{SCOUT}")


async def test_a_hosts_own_word_is_no_passing_over(api: Api):
    with Emulator(context={"openai": 500, "huggingface": 500}) as emu:
        made = config(emu, "openai", "huggingface")
        async with api.client(made) as client:
            with pytest.raises(lr.ContextLengthError) as one:
                await client.chat(words(5_000), model=f"openai:{SCOUT}")
            with pytest.raises(lr.AllTargetsFailedError) as all_of_them:
                await client.chat(words(5_000))
        assert len(emu.requests) == 3
    assert [attempt.target for attempt in one.value.attempts] == [f"openai:{SCOUT}"]
    assert len(all_of_them.value.attempts) == 2
    assert isinstance(all_of_them.value.last, lr.ContextLengthError)


# -- fit= -------------------------------------------------------------------------------------------------------------


def history(turns: int, size: int) -> list[lr.Message]:
    made: list[lr.Message] = []
    for turn in range(turns):
        made += [lr.user(f"q{turn} {words(size)}"), lr.assistant(f"a{turn} {words(size)}")]
    return [*made, lr.user("And now?")]


async def test_trim_leaves_out_the_oldest_turns(api: Api, emu: Emulator, installed: bool, tokenizer: Tokenizer):
    asked = history(12, 500)
    async with api.client(config(emu, "openai", window=10_000)) as client:
        reply = await client.chat(asked, system="Be brief.", fit="trim", max_tokens=500)
    system, *turns = sent(emu)
    assert (system["role"], turns[-1]["content"]) == ("system", "And now?")
    kept = len(turns)
    assert turns == [json.loads(json.dumps({"role": m.role, "content": m.text})) for m in asked[-kept:]]
    assert turns[0]["role"] == "user"
    prompt = ChatRequest(messages_from(asked[-kept:], system_text="Be brief."))
    assert count(prompt, tokenizer).tokens + 500 <= 10_000
    (notice,) = reply.warnings
    assert notice.code == "history_trimmed"
    assert notice.message.startswith(f"{25 - kept} of 26 messages left out, oldest first, so that openai:")
    if installed:  # no more than had to
        more = ChatRequest(messages_from(asked[-kept - 2 :], system_text="Be brief."))
        assert count(more, tokenizer).tokens + 500 + 16 > 10_000
    else:
        assert kept >= 7


async def test_what_fits_is_sent_whole(api: Api, emu: Emulator):
    async with api.client(config(emu, "openai", window=10_000)) as client:
        reply = await client.chat(history(2, 100), fit="trim")
        again = await client.chat(history(2, 100), fit=5_000)
    assert [len(sent(emu, i)) for i in (0, 1)] == [5, 5]
    assert reply.warnings == again.warnings == ()


async def test_a_number_of_tokens(api: Api, emu: Emulator, tokenizer: Tokenizer):
    async with api.client(config(emu, "openai")) as client, client.stream(history(10, 100), fit=600) as stream:
        async for _ in stream:
            pass
    kept = sent(emu)
    asked = [lr.Message(m["role"], (lr.Text(m["content"]),)) for m in kept]
    assert 350 < count(ChatRequest(tuple(asked)), tokenizer).tokens <= 600
    assert codes(stream.response) == ["history_trimmed"]


async def test_usage_is_estimated_of_what_was_sent(api: Api, emu: Emulator):
    emu.fault(missing_usage=True, times=2)
    async with api.client(config(emu, "openai")) as client:
        trimmed = await client.chat(history(10, 100), fit=600)
        whole = await client.chat(history(10, 100))
    assert trimmed.usage.estimated
    assert 250 < trimmed.usage.input_tokens < 600 < whole.usage.input_tokens


async def test_each_target_gets_what_its_own_window_holds(api: Api, emu: Emulator):
    """The first one fails after it was sent the little it takes; the second is sent more."""
    emu.fault(status=500, times=1, host="cloudflare")
    async with api.client(config(emu, "cloudflare", "bedrock")) as client:
        reply = await client.chat(history(2, 40_000), fit="trim", retry=1)
    first, second = (request.json for request in emu.requests)
    assert len(first["messages"]) == 3
    assert len(second["messages"]) == 3
    assert reply.provider == "bedrock"
    async with api.client(config(emu, "cloudflare", "bedrock")) as client:
        await client.chat(history(1, 60_000), fit="trim", model=f"bedrock:{SCOUT}")


async def test_calls_stay_with_their_results(api: Api, emu: Emulator):
    old, new = (lr.ToolCall(id, "look", {"what": "x"}) for id in ("c1", "c2"))
    asked = [
        lr.user("look"), lr.assistant(old), lr.tool_result(old, words(3_000)), lr.assistant("Seen."),
        lr.user("again"), lr.assistant(new), lr.tool_result(new, words(300)),
    ]  # fmt: skip
    look = lr.Tool("look", "Look at a thing", {"type": "object", "properties": {}})
    async with api.client(config(emu, "openai", window=3_000)) as client:
        reply = await client.chat(asked, tools=[look], fit="trim", max_tokens=500)
    assert [message["role"] for message in sent(emu)] == ["user", "assistant", "tool"]
    assert sent(emu)[1]["tool_calls"][0]["id"] == sent(emu)[2]["tool_call_id"] == "c2"
    assert codes(reply) == ["history_trimmed"]


async def test_old_pictures_go_first(api: Api, emu: Emulator):
    import io

    from PIL import Image as Pil

    data = io.BytesIO()
    Pil.new("RGB", (300, 300)).save(data, "PNG")
    pictures = [lr.Image(data.getvalue()) for _ in range(2)]
    asked = [lr.user("Old:", pictures[0]), lr.assistant("I see."), lr.user("New:", pictures[1])]
    async with api.client(config(emu, "openai")) as client:
        reply = await client.chat(asked, fit=2_000)  # neither was loaded before, so that each may be a large one
    first, _, last = sent(emu)
    assert "[an image that stood here was left out]" in json.dumps(first)
    assert "image_url" in json.dumps(last)
    (notice,) = reply.warnings
    assert notice.message.startswith("1 older image left out")


async def test_what_cannot_be_made_to_fit_is_not_sent(api: Api, emu: Emulator, installed: bool):
    async with api.client(config(emu, "openai", window=1_000)) as client:
        with pytest.raises(lr.ContextLengthError, match="cannot be trimmed to 484 tokens") as caught:
            await client.chat([lr.user("old"), lr.assistant("old"), lr.user(words(2_000))], fit="trim", max_tokens=500)
    assert emu.requests == []
    assert caught.value.limit == 484
    assert caught.value.tokens is not None
    assert caught.value.tokens > 2_000


async def test_a_window_nobody_knows_trims_nothing_and_says_so(api: Api, emu: Emulator):
    async with api.client(config(emu, "openai")) as client:
        reply = await client.chat(history(3, 100), fit="trim")
    assert len(sent(emu)) == 7
    (notice,) = reply.warnings
    assert notice.code == "window_unknown"
    assert 'set [models."llama-4-scout"] context_window' in notice.message


@pytest.mark.parametrize("value", ["cut", 0, -1, True, 1.5, ["trim"]])
async def test_other_values_are_refused(api: Api, emu: Emulator, value: Any):
    async with api.client(config(emu, "openai")) as client:
        with pytest.raises(lr.InputError, match="fit= takes 'trim' or a number of tokens from 1, not "):
            await client.chat("Hi", fit=value)


# -- count_tokens -----------------------------------------------------------------------------------------------------


async def test_counting_says_what_the_target_serves(api: Api, emu: Emulator, installed: bool):
    async with api.client(config(emu, "cloudflare")) as client:
        counted = await client.count_tokens("List all U.S. states.", system="Be brief.")
    assert (counted.target, counted.window) == (f"cloudflare:{SCOUT}", 131_000)
    assert counted.estimated is not installed
    assert counted.tokens == 25 if installed else 18 <= counted.tokens <= 34
    assert emu.requests == []


async def test_pictures_are_loaded_to_be_counted(api: Api, emu: Emulator, tmp_path: Any):
    from PIL import Image as Pil

    Pil.new("RGB", (200, 100)).save(tmp_path / "a.png")
    async with api.client(config(emu, "cloudflare")) as client:
        without = await client.count_tokens("What is it?")
        counted = await client.count_tokens(["What is it?", lr.Image(tmp_path / "a.png")])
        with pytest.raises(lr.InputError, match="missing"):
            await client.count_tokens(lr.Image(tmp_path / "missing.png"))
    assert (counted.tokens - without.tokens, counted.estimated) == (147, False)


async def test_a_wrong_variable_is_an_error(api: Api, emu: Emulator, tmp_path: Any):
    (tmp_path / "tokenizer.model").write_text("no")
    variables = {"LLAMAROUTE_TOKENIZER": str(tmp_path / "tokenizer.model")}
    async with api.client(config(emu, "cloudflare"), env=variables) as client:
        with pytest.raises(lr.ConfigError, match="LLAMAROUTE_TOKENIZER"):
            await client.count_tokens("Hi")


async def test_the_tokenizer_is_not_loaded_for_what_surely_fits(
    api: Api, emu: Emulator, monkeypatch: pytest.MonkeyPatch
):
    def load(env: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(tokenizer_module, "load", load)
    async with api.client(config(emu, "cloudflare")) as client:
        assert (await client.chat(words(1_000), fit="trim")).text


# -- the decision alone -----------------------------------------------------------------------------------------------


def target(**row: Any) -> Target:
    return Target("x", "x", SCOUT, SCOUT, ProviderSettings(kind="x"), ModelRow(SCOUT, SCOUT, **row))


def test_room_is_what_the_answer_leaves():
    request = ChatRequest((lr.user("Hi"),))
    assert room(request, target()) is None
    assert room(request, target(context_window=128_000)) == 128_000 - 4096 - 16
    assert room(request, target(context_window=8_000)) == 6_000 - 16
    assert room(request, target(context_window=128_000, default_max_tokens=1_000)) == 128_000 - 1_016
    assert room(request, target(context_window=128_000, max_output=2_048)) == 128_000 - 2_064
    assert room(request.evolve(tools=(lr.Tool("t", "", {}),)), target(context_window=8_000)) == 5_400 - 16
    assert room(request.evolve(max_tokens=10), target(context_window=128_000, max_output=2_048)) == 127_974
    assert room(request.evolve(max_tokens=9_000), target(context_window=8_000)) == 0


def test_only_a_sure_window_decides(tokenizer: Tokenizer):
    request = ChatRequest((lr.user(words(300)),))
    assert too_long(request, target(context_window=200, window_sure=True)) == (308, 200)
    assert too_long(request, target(context_window=200)) is None
    assert too_long(request, target()) is None
    assert too_long(request, target(context_window=5_000, window_sure=True), tokenizer) is None
    assert too_long(request, target(context_window=308, window_sure=True), tokenizer) is None
    assert too_long(request, target(context_window=307, window_sure=True), tokenizer) == (308, 307)


def test_pictures_and_tools_alone_are_never_certain(tokenizer: Tokenizer):
    tool = lr.Tool("t", words(5_000), {"type": "object"})
    request = ChatRequest((lr.user(lr.Image("https://example.com/a.png")),), tools=(tool,))
    assert too_long(request, target(context_window=200, window_sure=True), tokenizer) is None
