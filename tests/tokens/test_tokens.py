"""Counts, bounds and estimates of requests."""

from __future__ import annotations

import io
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil

import llamaroute as lr
from llamaroute.media.tiles import image_tokens
from llamaroute.tokenizer import Tokenizer
from llamaroute.tokens import (
    ESTIMATE_MARGIN,
    UNSEEN_PICTURE,
    Counted,
    at_least,
    at_most,
    count,
    count_message,
    estimate,
    estimate_tokens,
    estimate_usage,
)
from llamaroute.types.messages import Message, messages_from
from llamaroute.types.parts import ImageData, Text
from llamaroute.types.request import ChatRequest

from .corpus import LANGUAGES, own
from .test_tokenizer import TEXTS


def picture(width: int, height: int) -> lr.Image:
    data = io.BytesIO()
    Pil.new("RGB", (width, height)).save(data, "PNG")
    image = lr.Image(data.getvalue())
    image.load(ImageData.of("image/png", data.getvalue()))
    return image


def request(*input: Any, system: str | None = None, **fields: Any) -> ChatRequest:
    return ChatRequest(messages_from(list(input), system_text=system), **fields)


WEATHER = lr.Tool("weather", "Weather of a city", {"type": "object", "properties": {"city": {"type": "string"}}})
CALL = lr.ToolCall("c1", "weather", {"city": "Cusco"})


# -- what hosts counted -----------------------------------------------------------------------------------------------

THOUGHTS = (
    "**Thinking:** Let me see... I have instantenously remembered this table of fibonacci\nnumbers with their prime "
    "factorizations. That's sure convenient! Let\nme see if it has the answer:\n0 : 0\n1 : 1\n2 : 1\n3 : 2\n4 : 3\n"
    "5 : 5\n6 : 8 = 23\n7 : 13\n8 : 21 = 3 x 7\n9 : 34 = 2 x 17\n10 : 55 = 5 x 11\n11 : 89\n12 : 144 = 24 x 32\n"
    "13 : 233\n14 : 377 = 13 x 29\n15 : 610 = 2 x 5 x 61\n16 : 987 = 3 x 7 x 47\n17 : 1597\n18 : 2584 = 23 x 17 x 19\n"
    "19 : 4181 = 37 x 113\n20 : 6765 = 3 x 5 x 11 x 41\n21 : 10946 = 2 x 13 x 421\n22 : 17711 = 89 x 199\n"
    "23 : 28657\n\nThere we have it! 28657 is the first fibonacci number ending in 57,\nand it is prime. I'm supposed "
    "to answer with extreme concision, so I'll\njust say 'Yes.'"
)
TGI = "huggingface/text-generation-inference:integration-tests/models/__snapshots__/test_transformers_llama4"
MIRASCOPE = "Mirascope/mirascope:python/tests/e2e"
SECOND_BEGIN = 1
"""Some hosts put a second begin-of-text before a prompt that has one."""

RECORDED = {
    # A server (TGI) that says what it rendered: exactly ours, pictures included.
    f"{TGI}/test_flash_llama4_image_base64_rgb_png.json": (
        request(picture(100, 100), "What do you see in this plain image?"),
        166,
    ),
    f"{TGI}/test_flash_llama4_image_base64_rgb_jpg.json": (
        request(picture(100, 100), "What do you see in this JPEG image?"),
        166,
    ),
    f"{TGI}/test_flash_llama4_image_base64_rgba.json": (
        request(picture(100, 100), "What do you see in this transparent image?"),
        166,
    ),
    # Together
    f"{MIRASCOPE}/output/cassettes/test_max_tokens/together_meta_llama_Llama_4_Maverick_17B_128E_Instruct_FP8": (
        request("List all U.S. states."),
        18 - SECOND_BEGIN,
    ),
    f"{MIRASCOPE}/input/cassettes/test_call_with_text_encoded_thoughts/together_..._Maverick_17B_128E_Instruct_FP8": (
        request(
            lr.user("Is the first fibonacci number to end with the digits 57 prime?"),
            lr.assistant(THOUGHTS, "Yes."),
            lr.user("Please tell me what the number is."),
            system="Always answer with extreme concision, giving the answer and no added context.",
        ),
        366 - SECOND_BEGIN,
    ),
    # Nscale, through Hugging Face's router; the tools were not rendered, since none might be called
    "pydantic/pydantic-ai:tests/models/cassettes/test_tool_choice_matrix[none-huggingface]": (
        request("What's the weather in Paris?"),
        17 - SECOND_BEGIN,
    ),
}


@pytest.mark.parametrize("source", RECORDED)
def test_recorded_hosts_counted_the_same(tokenizer: Tokenizer, source: str):
    asked, tokens = RECORDED[source]
    assert count(asked, tokenizer) == Counted(tokens, exact=True)


SPOKEN = st.text(min_size=1, max_size=60).map(str.strip).filter(lambda text: text and "<|" not in text)
DIALOGUES = st.tuples(st.none() | SPOKEN, st.lists(SPOKEN, min_size=1, max_size=5))


@settings(deadline=None, max_examples=200)
@given(dialogue=DIALOGUES)
def test_the_chat_format_is_metas(tokenizer: Tokenizer, chat_format: Any, dialogue: tuple[str | None, list[str]]):
    from llama_models.datatypes import RawMessage

    system, turns = dialogue
    ours = [lr.assistant(text) if i % 2 else lr.user(text) for i, text in enumerate(turns)]
    asked = request(*ours, system=system)
    theirs = [RawMessage(role=message.role, content=message.text) for message in asked.messages]
    assert count(asked, tokenizer) == Counted(len(chat_format.encode_dialog_prompt(theirs).tokens), exact=True)


# -- what is exact ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (700, 400), (1024, 1024)])
def test_pictures_cost_their_tiles(tokenizer: Tokenizer, size: tuple[int, int]):
    without = count(request("What is it?"), tokenizer).tokens
    counted = count(request("What is it?", picture(*size)), tokenizer)
    assert counted == Counted(without + image_tokens(*size), exact=True)


def test_a_picture_nobody_has_seen_is_guessed(tokenizer: Tokenizer):
    without = count(request("What is it?"), tokenizer).tokens
    counted = count(request("What is it?", lr.Image("https://example.com/a.png")), tokenizer)
    assert counted == Counted(without + UNSEEN_PICTURE, exact=False)


@pytest.mark.parametrize(
    ("part", "pictures"),
    [(lr.Document(b"%PDF"), 20), (lr.Document(b"%PDF", pages=[1, 3]), 2), (lr.Video("a.mp4", frames=5), 5)],
    ids=["document", "pages", "video"],
)
def test_pages_and_frames_nobody_has_seen_are_guessed(tokenizer: Tokenizer, part: Any, pictures: int):
    without = count(request("What is it?"), tokenizer).tokens
    asked = request("What is it?", part)
    assert count(asked, tokenizer) == Counted(without + pictures * UNSEEN_PICTURE, exact=False)
    assert at_most(asked) > count(asked, tokenizer).tokens


@pytest.mark.parametrize(
    "asked",
    [
        request("Hi", tools=(WEATHER,)),
        request("Hi", tools=(WEATHER,), tool_choice="none"),
        request("Hi", output=lr.JsonSchema("a", {"type": "object"})),
        request("Hi", lr.assistant(CALL), lr.tool_result(CALL, "Rain")),
        request(lr.assistant(CALL), "Hi"),
        request("Write <|eot|> for me"),
    ],
    ids=["tools", "tools that may not be called", "schema", "result", "call", "marks"],
)
def test_what_hosts_render_each_their_own_way_is_not_exact(tokenizer: Tokenizer, asked: ChatRequest):
    assert not count(asked, tokenizer).exact
    assert count(asked, tokenizer).tokens >= count(request("Hi"), tokenizer).tokens


def test_tools_are_counted_only_where_they_may_be_called(tokenizer: Tokenizer):
    plain = count(request("Hi"), tokenizer).tokens
    assert count(request("Hi", tools=(WEATHER,), tool_choice="none"), tokenizer).tokens == plain
    assert count(request("Hi", tools=(WEATHER,)), tokenizer).tokens > plain + 80


def test_line_breaks_at_the_start_share_a_token_with_those_of_the_header(tokenizer: Tokenizer):
    plain, broken = (count_message(lr.user(text), tokenizer).tokens for text in ("Hi", "\n\nHi"))
    assert plain == broken


# -- bounds -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=500)
@given(text=TEXTS)
def test_words_are_never_more_than_tokens(tokenizer: Tokenizer, text: str):
    asked = ChatRequest((lr.user(text),))
    assert at_least(asked) <= at_least(asked, tokenizer) <= count(asked, tokenizer).tokens


SLASHES = st.text("./-a \n\r\t", max_size=40)


@settings(deadline=None, max_examples=500)
@given(text=SLASHES)
def test_words_are_never_more_than_tokens_where_pieces_hold_line_breaks(tokenizer: Tokenizer, text: str):
    asked = ChatRequest((lr.user(text),))
    assert at_least(asked) <= at_least(asked, tokenizer)


def test_one_piece_may_hold_several_lines_of_slashes(tokenizer: Tokenizer):
    """The case that the bound must not count as words."""
    text = "-\n/\n/\n/\n/"
    assert tokenizer(text) < len(text.split())
    assert at_least(request(text)) <= count(request(text), tokenizer).tokens


MESSAGES = st.lists(
    st.one_of(
        TEXTS.map(lr.user),
        TEXTS.map(lr.assistant),
        TEXTS.map(lambda text: lr.assistant(text, CALL)),
        TEXTS.map(lambda text: lr.tool_result(CALL, text)),
        TEXTS.map(lambda text: lr.user(picture(700, 400), text)),
    ),
    max_size=5,
)


@settings(deadline=None, max_examples=200)
@given(messages=MESSAGES, tools=st.booleans())
def test_the_bounds_hold(tokenizer: Tokenizer, messages: list[Message], tools: bool):
    asked = ChatRequest(tuple(messages), tools=(WEATHER,) if tools else ())
    assert at_least(asked) <= at_least(asked, tokenizer) <= count(asked, tokenizer).tokens <= at_most(asked)


def test_prose_without_a_tokenizer_is_bounded_usefully(tokenizer: Tokenizer):
    asked = request((LANGUAGES["English"] + " ") * 500)
    assert at_least(asked) > 0.85 * count(asked, tokenizer).tokens


# -- estimates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LANGUAGES)
def test_languages_are_estimated(tokenizer: Tokenizer, name: str):
    text = LANGUAGES[name]
    assert 1 / 1.6 < tokenizer(text) / estimate(text) < ESTIMATE_MARGIN


def test_the_stated_error_holds_for_code_and_documentation(tokenizer: Tokenizer):
    """docs/tokens.md: 8 % on the average, and 95 % of texts within 21 %."""
    errors = sorted(abs(estimate(text) / tokenizer(text) - 1) for text in own().values())
    assert len(errors) > 80
    assert statistics.mean(errors) < 0.08
    assert errors[int(0.95 * len(errors))] < 0.21


def test_a_long_text_is_estimated_from_a_sample():
    text = "\n".join(own().values())
    assert len(text) > 5 * 200_000
    parts = [estimate(text[at : at + 100_000]) for at in range(0, len(text), 100_000)]
    assert estimate(text) == pytest.approx(sum(parts), rel=0.05)


def test_next_to_nothing_is_a_token():
    assert [estimate(text) for text in ("", " ", ".", "a")] == [0, 1, 1, 1]


def test_usage_is_estimated():
    asked = request("What is a llama?", system="Answer.")
    answer = lr.ChatResponse(text="An animal.", parts=(Text("An animal."),), tool_calls=(CALL,))
    usage = estimate_usage(asked, answer)
    assert usage.estimated
    assert usage.input_tokens == estimate_tokens(asked)
    assert usage.output_tokens > estimate("An animal.")
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
