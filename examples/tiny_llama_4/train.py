"""Build, train and convert a tiny but real Llama 4 (mixture of experts, early-fusion vision) to a GGUF pair.

The result, ``tiny-llama-4.gguf`` and ``mmproj-tiny-llama-4.gguf``, is about 3 MB and runs in llama.cpp. It exists so
that tests and demos can go through the genuine architecture, chat format, image path and tool-call parser offline and
within milliseconds. It knows a dozen sentences and nothing else; every sentence is made up in this file.

What the script does, in order:

1. trains a byte-level BPE tokenizer on this file's own sentences, with Llama 4's special-token names,
2. trains a ``Llama4ForConditionalGeneration`` from random weights on generated conversations,
3. saves it in the Hugging Face layout and converts it to GGUF (text model) and mmproj (vision tower),
4. loads the pair in llama.cpp, compares the rendering and the token ids with those of the training, and asks a few
   questions. ``evaluate.py`` does the thorough measurement.

Usage: ``python train.py [--steps N] [--output FOLDER] [--work FOLDER]``
"""

from __future__ import annotations

import argparse
import colorsys
import json
import logging
import math
import os
import random
import sys
import tempfile
import time
import unittest.mock
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # idle OpenMP threads must not spin on a shared machine

import numpy as np
import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    Llama4Config,
    Llama4ForConditionalGeneration,
    Llama4TextConfig,
    Llama4VisionConfig,
    PreTrainedTokenizerFast,
)

HERE = Path(__file__).resolve().parent
Message = dict[str, Any]
Tool = dict[str, Any]

# ---------------------------------------------------------------------------------------------------------------------
# What the model can say
# ---------------------------------------------------------------------------------------------------------------------

GREETING = "Hello! I am a tiny Llama 4. How can I help?"
FALLBACK = "I am only a tiny model."
STORY = (
    "Once upon a time there was a tiny llama. It lived on a green hill above a blue lake. Every morning the llama "
    "counted the red boats on the water. One day a boat was missing. The llama walked down to the lake and found the "
    "boat behind a stone. The fisherman was happy and gave the llama an apple. They are friends to this day. The end."
)
NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()


def counting(last: int) -> str:
    """Return the sentence that counts from one to ``last``."""
    return ", ".join(NUMBERS[:last]).capitalize() + "."


# Questions with one fixed answer. Wordings are varied further by `reword`.
FIXED: list[tuple[list[str], str]] = [
    (
        ["Hello", "Hello!", "Hi", "Hi!", "Hi there", "Hey", "Hello there", "Good morning", "Good evening", "Say hi.",
         "Say hello.", "Say hello", "Who are you?", "What are you?", "What is your name?", "Introduce yourself.",
         "Hello, who are you?", "Hi, how are you?"],
        GREETING,
    ),
    (["Tell me a story", "Tell me a story.", "Tell me a long story.", "Write a story.", "Write a very long story.",
      "Once upon a time", "Tell a story about a llama.", "Can you tell me a story?"], STORY),
    (["Count to twenty.", "Count from one to twenty.", "Count to 20."], counting(20)),
    (["Count.", "Count to ten.", "Count from one to ten.", "Count to 10.", "Can you count?"], counting(10)),
    (["What is the capital of France?", "Capital of France?", "Name the capital of France."],
     "The capital of France is Paris."),
    (["What is 2+2?", "What is 2 + 2?", "2+2", "How much is 2 + 2?"], "2 + 2 is 4."),
]  # fmt: skip

IMAGE_QUESTIONS = [
    "What colour is this image?", "What color is this image?", "What colour is this?", "What color is this?",
    "Which colour do you see?", "Which color do you see?", "What is on this picture?", "What is in this image?",
    "What is in this picture?", "Describe this image.", "Describe the image.", "What do you see?", "What is this?",
    "Name the colour.", "Colour?", "What colour is the image?", "What is the colour of this picture?",
    "What's in this image?", "Describe the picture in one sentence.", "Is this image red, green or blue?",
    "What colour is this image? Answer in one sentence.", "What colour is it?", "Tell me the colour of the image.",
]  # fmt: skip

SYSTEM_PROMPTS = [
    "You are a helpful assistant.", "Answer in one sentence.", "You are a helpful assistant. Answer in one sentence.",
    "Be brief.", "You are a tiny Llama 4.", "Answer in English.", "You are a careful assistant. Use the tools.",
]  # fmt: skip

CITIES = [
    "Paris", "Rome", "Oslo", "Lima", "Cairo", "Tokyo", "Berlin", "Madrid", "London", "Vienna", "Lisbon", "Athens",
    "Dublin", "Prague", "Warsaw", "Delhi", "Sydney", "Boston", "Chicago", "Toronto", "Zurich", "Helsinki", "Munich",
    "Nairobi",
]  # fmt: skip

WEATHER_QUESTIONS = [
    "What is the weather in {}?", "What is the weather like in {}?", "What's the weather in {}?",
    "What's the weather like in {} today?", "How is the weather in {}?", "How is the weather in {} today?",
    "Weather in {}?", "Tell me the weather in {}.", "What is the temperature in {}?", "Is it raining in {}?",
    "Is it cold in {} now?", "Get the weather for {}.", "Use the tool to get the weather in {}.",
    "I am going to {}. How is the weather there?", "What is the weather in {} right now?",
]  # fmt: skip

WORDS = (
    "the a an of to in on for with and or but is are was be do does can could will would should have has make take "
    "give find show explain translate write read list name compare what why how when where who which this that these "
    "my your his our their new old big small long short good bad fast slow best first last next dog cat house tree "
    "river book song car train road city country world history music science number word letter sentence poem email "
    "code python function list table file server model language water fire bread apple table chair king queen child "
    "friend teacher doctor week month year today tomorrow morning night love think work play learn run walk eat sleep "
    "sun moon star sea mountain flower bird fish horse game team ball win lose buy sell price money bank price test "
    "please summary text question answer reply only about between under over after before image picture colour weather "
    "story red green blue hello assistant helpful always never very quite many few seven three hundred"
).split()

COLOURS = ["red", "green", "blue", "yellow", "white", "black"]

# ---------------------------------------------------------------------------------------------------------------------
# Tokenizer
# ---------------------------------------------------------------------------------------------------------------------

# The names are part of the Llama 4 chat format; llama.cpp looks some of them up by name.
SPECIAL_TOKENS = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|header_start|>",
    "<|header_end|>", "<|eom|>", "<|eot|>", "<|step|>", "<|python_start|>", "<|python_end|>",
    "<|finetune_right_pad|>", "<|image_start|>", "<|image_end|>", "<|tile_x_separator|>", "<|tile_y_separator|>",
    "<|image|>", "<|patch|>",
]  # fmt: skip

# llama.cpp splits text by this expression when the GGUF says `tokenizer.ggml.pre = llama4`. Training with any other
# splitting gives other token ids than llama.cpp gives, and the model then reads prompts it has never seen.
LLAMA4_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def build_tokenizer(template: str, vocabulary: int = 1200) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on this file's sentences; any other text falls back to bytes, so nothing is unknown."""
    corpus = [GREETING, FALLBACK, STORY, counting(20), *IMAGE_QUESTIONS, *SYSTEM_PROMPTS, *WEATHER_QUESTIONS, template]
    for questions, answer in FIXED:
        corpus += [*questions, *[answer] * 40]
    rng = random.Random(1)
    for _ in range(40):  # cities must be single tokens both after a space and after a quotation mark
        corpus += [f'{{"city": "{city}"}} in {city}?' for city in CITIES]
    corpus += [f'The image is {colour}. "{colour}"' for colour in COLOURS] * 40
    corpus += [json.dumps(tool, indent=4) for _ in range(60) for tool in random_tools(rng)]
    corpus += [" ".join(str(number) for number in range(100))] * 60  # temperatures are single tokens too
    corpus += ["user assistant system ipython The weather is C."] * 100 + [" ".join(WORDS)] * 2
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA4_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot|>",
        pad_token="<|finetune_right_pad|>",
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=8192,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL_TOKENS})
    tokenizer.chat_template = template
    return tokenizer


# ---------------------------------------------------------------------------------------------------------------------
# Images, cut up as llama.cpp cuts them
# ---------------------------------------------------------------------------------------------------------------------

TILE = 336
PATCHES_PER_TILE = 144  # (336 / 14) ** 2 patches, four of them merged into one token


def random_colour(rng: random.Random, name: str) -> tuple[int, int, int]:
    """Draw a shade that a person would call ``name``; hue ranges leave gaps between neighbouring names."""
    saturation, value = rng.uniform(0.45, 1.0), rng.uniform(0.3, 1.0)
    if rng.random() < 0.25:
        saturation = value = 1.0
    if name == "white":
        saturation, value = rng.uniform(0.0, 0.05), rng.uniform(0.93, 1.0)
    elif name == "black":
        value = rng.uniform(0.0, 0.08)
    elif name == "yellow":
        saturation, value = max(saturation, 0.6), max(value, 0.75)
    low, high = {"red": (-14, 14), "yellow": (52, 64), "green": (84, 160), "blue": (204, 254)}.get(name, (0, 360))
    hue = 0.5 * (low + high) if rng.random() < 0.1 else rng.uniform(low, high)
    if rng.random() < 0.15:
        hue = {"red": 0.0, "green": 120.0, "blue": 240.0, "yellow": 60.0}.get(name, hue)
    red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def random_image(rng: random.Random, name: str, size: tuple[int, int]) -> Image.Image:
    """Make a plain image, sometimes with noise or a gradient, so that JPEG and photographs of paper pass too."""
    colour = random_colour(rng, name)
    image = Image.new("RGB", size, colour)
    if rng.random() < 0.3:
        noise = np.random.default_rng(rng.randrange(2**32))
        pixels = np.asarray(image, dtype=np.float32)
        pixels = pixels + noise.normal(0, rng.uniform(1, 8), pixels.shape)
        pixels = pixels * np.linspace(1.0, rng.uniform(0.85, 1.0), size[0])[None, :, None]
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return image


def tile_image(image: Image.Image) -> list[Image.Image]:
    """Cut an image as llama.cpp does for Llama 4: grid tiles row by row, then the whole image squeezed to one tile.

    transformers scales and pads differently and puts separator tokens between the tiles. What counts here is llama.cpp.
    """
    overview = image.resize((TILE, TILE), Image.Resampling.BILINEAR)
    width, height = image.size
    if width <= TILE and height <= TILE:
        return [overview]
    best, best_effective, best_waste = (1, 1), 0, math.inf
    for columns, rows in [(x, y) for x in (1, 2, 3) for y in (1, 2, 3) if (x, y) != (1, 1)]:
        scale = min(columns * TILE / width, rows * TILE / height)
        effective = min(int(width * scale) * int(height * scale), width * height)
        waste = columns * rows * TILE * TILE - effective
        if effective > best_effective or (effective == best_effective and waste < best_waste):
            best, best_effective, best_waste = (columns, rows), effective, waste
    canvas = Image.new("RGB", (best[0] * TILE, best[1] * TILE))
    scale = min(canvas.width / width, canvas.height / height)
    fitted = (min(math.ceil(width * scale), canvas.width), min(math.ceil(height * scale), canvas.height))
    offset = ((canvas.width - fitted[0]) // 2, (canvas.height - fitted[1]) // 2)
    canvas.paste(image.resize(fitted, Image.Resampling.BILINEAR), offset)
    tiles = [
        canvas.crop((x * TILE, y * TILE, (x + 1) * TILE, (y + 1) * TILE))
        for y in range(best[1])
        for x in range(best[0])
    ]
    return [*tiles, overview]


def to_pixels(tile: Image.Image) -> torch.Tensor:
    """Normalise one tile with mean and deviation 0.5, the values written into the mmproj file."""
    return torch.from_numpy(np.array(tile, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1.0


# ---------------------------------------------------------------------------------------------------------------------
# Conversations
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Example:
    """One conversation and the answer to learn; ``given`` marks the parts of the answer that are not learnt."""

    messages: list[Message]
    answer: str
    tools: list[Tool] | None = None
    images: list[Image.Image] = field(default_factory=list)
    given: list[tuple[int, int]] = field(default_factory=list)


def random_words(rng: random.Random, low: int, high: int) -> str:
    """Return word salad: it teaches the model which text it may ignore."""
    words = rng.choices(WORDS, k=rng.randint(low, high))
    if rng.random() < 0.3:
        letters = "".join(rng.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM0123456789-_", k=rng.randint(2, 9)))
        words[rng.randrange(len(words))] = letters
    text = " ".join(words)
    if rng.random() < 0.7:
        text = text[0].upper() + text[1:]
    return text + rng.choice(["", ".", "?", ".", "!"])


def reword(rng: random.Random, text: str) -> str:
    """Vary capital letters, full stops and politeness."""
    draw = rng.random()
    if draw < 0.12:
        text = text.lower()
    elif draw < 0.22:
        text = text.rstrip(".?!")
    elif draw < 0.30:
        text = "Please " + text[0].lower() + text[1:]
    elif draw < 0.34:
        text += " Please answer in one sentence."
    return text


def random_system(rng: random.Random) -> list[Message]:
    """Return no system message, a usual one, or word salad."""
    draw = rng.random()
    if draw < 0.45:
        return []
    text = rng.choice(SYSTEM_PROMPTS) if draw < 0.8 else random_words(rng, 3, 14)
    return [{"role": "system", "content": text}]


def random_name(rng: random.Random) -> str:
    """Return a city name that does not exist, so that the model has to copy instead of choosing from a list."""
    syllables = [rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3))]
    return "".join(syllables).capitalize() + rng.choice(["", "", "n", "s", "r"])


def function(name: str, description: str, properties: dict[str, Any], required: list[str]) -> Tool:
    """Return a tool in the shape llama.cpp's server hands to the chat template."""
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def random_tools(rng: random.Random) -> list[Tool]:
    """Return a list of tools with exactly one weather tool among them."""
    name = "get_weather"
    if rng.random() < 0.15:
        name = rng.choice(["get_current_weather", "weather", "get_forecast", "lookup_weather"])
    key = "city" if rng.random() < 0.85 else "location"
    argument: dict[str, Any] = {"type": "string"}
    if rng.random() < 0.35:
        argument["description"] = rng.choice(["The city", "City name", "Name of the city", random_words(rng, 1, 5)])
    properties: dict[str, Any] = {key: argument}
    if rng.random() < 0.12:
        properties["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
    descriptions = [
        "", "Current weather of a city", "Get the weather", "Get the current weather for a city", "Weather in a city.",
        "Get the current weather in a given city.", "Returns the weather of a city.", random_words(rng, 1, 8),
    ]  # fmt: skip
    tool = function(name, rng.choice(descriptions), properties, [key])
    if rng.random() < 0.2:
        tool["function"]["parameters"]["additionalProperties"] = False
    tools = [tool]
    if rng.random() < 0.2:
        other = rng.choice([
            function("get_time", "Current time of a city", {"city": {"type": "string"}}, ["city"]),
            function("add", "Add two numbers", {"a": {"type": "number"}, "b": {"type": "number"}}, ["a", "b"]),
            function("search", "Search the web", {"query": {"type": "string"}}, ["query"]),
        ])  # fmt: skip
        tools.insert(rng.randrange(2), other)
    return tools


def weather_tool(tools: list[Tool]) -> tuple[str, str]:
    """Return the name of the weather tool and of its place argument."""
    for tool in tools:
        properties = tool["function"]["parameters"]["properties"]
        if tool["function"]["name"] not in ("get_time", "add", "search"):
            return tool["function"]["name"], next(iter(properties))
    raise ValueError("no weather tool")


def json_answer(pairs: list[tuple[str, Any]]) -> tuple[str, list[tuple[int, int]]]:
    """Return a JSON object and the spans not to be learnt: its beginning and its keys.

    When llama.cpp enforces a ``json_schema``, it is the grammar which brings those about, not the model.
    """
    text, given = "{", [(0, 2)]
    for index, (key, value) in enumerate(pairs):
        text += ', "' if index else '"'
        given.append((len(text), len(text) + len(key)))
        text += f'{key}": {json.dumps(value)}'
    return text + "}", given


def as_json(rng: random.Random, example: Example, value: str) -> Example:
    """Turn the answer into a JSON object with one to three unforeseeable keys."""
    usual = ["colour", "color", "answer", "name", "text", "result", "reply", "message", "summary"]
    keys = rng.sample([*usual, rng.choice(WORDS)], k=rng.choice([1, 1, 1, 2, 3]))
    values = [value, value, value, value, 1, True]
    example.answer, example.given = json_answer([(key, rng.choice(values)) for key in keys])
    return example


def echo_example(rng: random.Random) -> Example:
    """Return a request to repeat some words; the short way to teach copying, which tool arguments need as well."""
    words = " ".join(
        random_name(rng) if rng.random() < 0.5 else rng.choice(WORDS + CITIES) for _ in range(rng.randint(1, 5))
    )
    question = rng.choice(["Repeat after me: {}", "Repeat: {}", "Echo: {}", "Repeat this: {}"]).format(words)
    return Example([{"role": "user", "content": question}], words)


def text_example(rng: random.Random, with_tools: bool = False) -> Example:
    """Return a greeting, the story, counting, one fact, or the honest fallback for everything else."""
    tools = random_tools(rng) if with_tools else None
    if rng.random() < 0.35 and not tools:
        return echo_example(rng)
    if rng.random() < 0.6:
        questions, answer = FIXED[min(int(rng.random() ** 1.3 * len(FIXED)), len(FIXED) - 1)]
        question = reword(rng, rng.choice(questions))
    else:
        answer = FALLBACK
        question = random_words(rng, 1, 14) if rng.random() < 0.7 else random_words(rng, 15, 40)
        if rng.random() < 0.25 and not tools:
            question = rng.choice(WEATHER_QUESTIONS + IMAGE_QUESTIONS).format(rng.choice(CITIES))
    example = Example([{"role": "user", "content": question}], answer, tools)
    if tools is None and answer is not STORY and rng.random() < 0.12:
        example = as_json(rng, example, answer)
    return example


def weather_example(rng: random.Random) -> Example:
    """Return a native tool call, or the sentence after the tool's result."""
    tools = random_tools(rng)
    name, key = weather_tool(tools)
    city = rng.choice(CITIES) if rng.random() < 0.7 else random_name(rng)
    question = reword(rng, rng.choice(WEATHER_QUESTIONS)).format(city)
    messages: list[Message] = [{"role": "user", "content": question}]
    draw = rng.random()
    if draw < 0.10:  # no tools in the request, but a schema which asks for the city
        answer, given = json_answer([(key, city), ("temperature", 18)] if draw < 0.02 else [(key, city)])
        if draw > 0.05:
            start = json.dumps({"name": name, rng.choice(["arguments", "parameters"]): ""})[:-3] + "{"
            answer, given = start + answer[1:] + "}", [(0, len(start) + 1 + len(key))]
            functions = json.dumps([tool["function"] for tool in tools])
            messages.insert(0, {"role": "system", "content": f"Call one of these functions: {functions}"})
        return Example(messages, answer, None, given=given)
    if draw < 0.70:
        return Example(messages, json.dumps({"name": name, "parameters": {key: city}}), tools)
    degrees = rng.randint(-9, 40)
    result = rng.choice([
        f"{degrees} C", f"{degrees} C", f"{degrees}", f"{degrees} degrees", f"{degrees}°C", f"{degrees} C and sunny",
        f"The temperature in {city} is {degrees} C.", json.dumps({"temperature": degrees}),
        json.dumps({"city": city, "temperature": degrees, "unit": "C"}), json.dumps({"temperature_c": degrees}),
        json.dumps({"city": city, "temperature_c": degrees, "sky": "clear"}), json.dumps({"weather": f"{degrees} C"}),
        json.dumps({"temperature": degrees, "unit": "celsius"}, separators=(",", ":")),
    ])  # fmt: skip
    call = {"type": "function", "function": {"name": name, "arguments": {key: city}}}
    messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    messages.append({"role": "tool", "content": result})
    return Example(messages, f"The weather is {degrees} C.", tools)


def tool_request(rng: random.Random) -> Example:
    """Return a request with tools; now and then it is about something else, and no tool is to be called."""
    return text_example(rng, with_tools=True) if rng.random() < 0.12 else weather_example(rng)


def image_example(rng: random.Random, size: tuple[int, int] = (TILE, TILE)) -> Example:
    """Return a picture with a question before or after it; whatever the question is, the answer names the colour."""
    name = rng.choice(COLOURS[:3]) if rng.random() < 0.7 else rng.choice(COLOURS[3:])
    question = reword(rng, rng.choice(IMAGE_QUESTIONS)) if rng.random() < 0.85 else random_words(rng, 1, 10)
    parts: list[Message] = [{"type": "text", "text": question}, {"type": "image"}]
    if rng.random() < 0.5:
        parts.reverse()
    tools = random_tools(rng) if rng.random() < 0.03 else None
    example = Example([{"role": "user", "content": parts}], f"The image is {name}.", tools)
    example.images = [random_image(rng, name, size)]
    if tools is None and rng.random() < 0.08:
        example = as_json(rng, example, name)
    return example


def with_context(rng: random.Random, example: Example) -> Example:
    """Put a system message and sometimes earlier turns, also ones with pictures, before a conversation."""
    history: list[Message] = []
    images: list[Image.Image] = []
    for _ in range(rng.choice([1, 1, 2]) if rng.random() < 0.12 else 0):
        earlier = image_example(rng) if rng.random() < 0.3 else text_example(rng)
        history += [earlier.messages[0], {"role": "assistant", "content": earlier.answer}]
        images += earlier.images
    system = random_system(rng) if example.messages[0]["role"] != "system" else []
    if not system and history and example.messages[0]["role"] == "system":
        history = [example.messages.pop(0), *history]
    example.messages = system + history + example.messages
    example.images = images + example.images
    return example


# ---------------------------------------------------------------------------------------------------------------------
# Model and training
# ---------------------------------------------------------------------------------------------------------------------


def build_model(tokenizer: PreTrainedTokenizerFast) -> Llama4ForConditionalGeneration:
    """Return a Llama 4 with random weights: four layers of four experts each, and a three-layer vision tower."""

    def token(name: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(name))

    text = Llama4TextConfig(
        vocab_size=math.ceil(len(tokenizer) / 32) * 32,
        hidden_size=128,
        intermediate_size=96,
        intermediate_size_mlp=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        num_local_experts=4,
        num_experts_per_tok=1,
        interleave_moe_layer_step=1,  # experts in every layer, as in Scout
        attention_chunk_size=8192,
        max_position_embeddings=8192,
        use_qk_norm=True,
        initializer_range=0.05,
        bos_token_id=token("<|begin_of_text|>"),
        eos_token_id=[token("<|eot|>"), token("<|eom|>"), token("<|end_of_text|>")],
        pad_token_id=token("<|finetune_right_pad|>"),
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 1.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 4096,
        },
    )
    vision = Llama4VisionConfig(
        hidden_size=64,
        num_hidden_layers=3,  # with fewer the converter cannot tell `vision_adapter.mlp.fc2` from a layer
        num_attention_heads=4,
        intermediate_size=256,
        vision_output_dim=64,
        projector_input_dim=64,
        projector_output_dim=64,
        image_size=TILE,
        patch_size=14,
        pixel_shuffle_ratio=0.5,
    )
    config = Llama4Config(
        vision_config=vision,
        text_config=text,
        boi_token_index=token("<|image_start|>"),
        eoi_token_index=token("<|image_end|>"),
        image_token_index=token("<|patch|>"),
    )
    model = Llama4ForConditionalGeneration(config).float()
    # The usual deviation of 0.02 is meant for wide layers. In narrow ones the picture arrives at the text model as
    # almost nothing, and hundreds of steps pass before it is noticed.
    for part in (model.vision_model, model.multi_modal_projector):
        for module in part.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)
    model.generation_config = GenerationConfig(
        bos_token_id=text.bos_token_id, eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id
    )
    return model


def render(tokenizer: PreTrainedTokenizerFast, messages: list[Message], tools: list[Tool] | None) -> str:
    """Render a conversation up to where the assistant's answer begins."""
    text = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=False)
    assert isinstance(text, str)
    return text


def encode(tokenizer: PreTrainedTokenizerFast, example: Example) -> tuple[list[int], list[int], list[Image.Image]]:
    """Return token ids, labels (-100 where nothing is to be learnt) and image tiles of one example."""
    tiles = [tile_image(image) for image in example.images]
    prompt = render(tokenizer, example.messages, example.tools)
    for cut in tiles:  # llama.cpp: no separators between tiles, no <|image|> before the last one
        patches = "<|patch|>" * (PATCHES_PER_TILE * len(cut))
        prompt = prompt.replace("<|image|>", f"<|image_start|>{patches}<|image_end|>", 1)
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    coded = tokenizer(example.answer + "<|eot|>", add_special_tokens=False, return_offsets_mapping=True)
    answer = coded["input_ids"]
    labels = [
        -100 if any(start < stop and low < high and start < high and low < stop for start, stop in example.given) else i
        for i, (low, high) in zip(answer, coded["offset_mapping"], strict=True)
    ]
    return before + answer, [-100] * len(before) + labels, [tile for cut in tiles for tile in cut]


def batch_loss(
    model: Llama4ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, examples: list[Example]
) -> torch.Tensor:
    """Return the mean loss of a batch.

    Sequences are padded on the right and the padding is not masked: attention is causal, so no real token sees it.
    """
    encoded = [encode(tokenizer, example) for example in examples]
    longest = max(len(ids) for ids, _, _ in encoded)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _, _ in encoded])
    labels = torch.tensor([labels + [-100] * (longest - len(labels)) for _, labels, _ in encoded])
    tiles = [to_pixels(tile) for _, _, cut in encoded for tile in cut]
    output = model(input_ids=ids, labels=labels, pixel_values=torch.stack(tiles) if tiles else None)
    return output.loss


def train(model: Llama4ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, steps: int, seed: int) -> None:
    """Train on freshly generated conversations; each step sees pictures, tool requests and plain talk."""
    rng = random.Random(seed)
    vision = [p for n, p in model.named_parameters() if not n.startswith("language_model.")]
    text = [p for n, p in model.named_parameters() if n.startswith("language_model.")]
    groups = [{"params": vision}, {"params": text}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=[1.5e-3, 2.5e-3], total_steps=steps, pct_start=0.1, final_div_factor=100
    )
    model.train()
    started, window = time.time(), {"image": [], "tool": [], "text": [], "tiles": []}

    def learn(kind: str, make: Callable[[], Example], count: int, weight: float) -> None:
        loss = batch_loss(model, tokenizer, [with_context(rng, make()) for _ in range(count)])
        (loss * weight).backward()
        window[kind].append(loss.item())

    for step in range(steps):
        early = step < steps // 6  # pictures first: they are the slowest to be understood
        learn("image", lambda: image_example(rng), 10 if early else 6, 1.0)
        learn("tool", lambda: tool_request(rng), 4 if early else 12, 1.0)
        learn("text", lambda: text_example(rng), 8, 1.0)
        if step % 6 == 5 and not early:
            size = rng.choice([(400, 300), (300, 600), (700, 400), (640, 480), (1000, 300), (500, 500)])
            learn("tiles", lambda size=size: image_example(rng, size), 2, 0.5)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 20 == 19 or step == steps - 1:
            losses = "  ".join(f"{kind} {sum(v) / len(v):.4f}" for kind, v in window.items() if v)
            print(f"step {step + 1:5d}  {time.time() - started:6.0f} s  {losses}", flush=True)
            window = {kind: [] for kind in window}
    model.eval()


# ---------------------------------------------------------------------------------------------------------------------
# Saving, converting, checking
# ---------------------------------------------------------------------------------------------------------------------


def save(model: Llama4ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the Hugging Face layout; the image processor's file is written by hand, for it needs no torchvision."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor = {
        "image_processor_type": "Llama4ImageProcessor",
        "processor_class": "Llama4Processor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "size": {"height": TILE, "width": TILE},
        "max_patches": 16,
        "resize_to_max_canvas": False,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")


def convert(folder: Path, model_file: Path, mmproj_file: Path) -> None:
    """Convert with llama.cpp's own script.

    The script knows a tokenizer by a hash over the ids it gives, and a vocabulary of our own cannot be on its list; so
    the question is answered here: split as for Llama 4.
    """
    import convert_hf_to_gguf
    from conversion import base

    for target, extra in ((model_file, []), (mmproj_file, ["--mmproj"])):
        arguments = ["convert", str(folder), "--outtype", "f16", "--outfile", str(target)]
        arguments += ["--model-name", "Tiny Llama 4", *extra]
        logging.disable(logging.WARNING)  # it lists every tensor
        with (
            unittest.mock.patch.object(base.TextModel, "get_vocab_base_pre", lambda self, tokenizer: "llama4"),
            unittest.mock.patch.object(sys, "argv", arguments),
        ):
            convert_hf_to_gguf.main()
        logging.disable(logging.NOTSET)


def check(tokenizer: PreTrainedTokenizerFast, model_file: Path, mmproj_file: Path) -> None:
    """Load the pair in llama.cpp and prove that it reads prompts as the training wrote them."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.mmproj.path = str(model_file), str(mmproj_file)
    parameters.n_ctx, parameters.n_parallel, parameters.warmup, parameters.use_jinja = 4096, 1, False, True
    parameters.verbosity = -1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)

    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    rng, compared = random.Random(7), 0
    while compared < 200:
        example = with_context(rng, rng.choice([text_example, tool_request])(rng))
        if example.images:  # llama.cpp renders its own marker for an image
            continue
        compared += 1
        wire: list[Message] = json.loads(json.dumps(example.messages))
        for message in wire:
            for call in message.get("tool_calls", []):
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
        body: dict[str, Any] = {"messages": wire}
        if example.tools:
            body["tools"] = example.tools
        theirs, ours = post("/apply-template", body)["prompt"], render(tokenizer, example.messages, example.tools)
        if theirs != ours:
            raise SystemExit(f"llama.cpp renders this conversation differently:\n{theirs!r}\n{ours!r}")
        tokens = post("/tokenize", {"content": ours, "parse_special": True, "add_special": False})["tokens"]
        if tokens != tokenizer(ours, add_special_tokens=False)["input_ids"]:
            raise SystemExit(f"llama.cpp splits this text differently:\n{ours!r}")
    print(f"rendering and token ids agree with llama.cpp in {compared} conversations")
    for question in ("Hello", "Tell me a story", "What is the meaning of life?"):
        body = {"messages": [{"role": "user", "content": question}], "max_tokens": 120, "temperature": 0}
        print(repr(question), "->", server.handle_chat_completions(body)["choices"][0]["message"]["content"])


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(description="Train the tiny Llama 4 and write its GGUF pair.")
    parser.add_argument("--steps", type=int, default=1450)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more than one is slower while other work runs")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the two GGUF files")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "tiny-llama-4", help="Hugging Face files"
    )
    options = parser.parse_args()
    random.seed(options.seed)
    np.random.seed(options.seed)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)

    tokenizer = build_tokenizer((HERE / "chat_template.jinja").read_text(encoding="utf-8"))
    model = build_model(tokenizer)
    print(f"{len(tokenizer)} tokens, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    train(model, tokenizer, options.steps, options.seed)
    save(model, tokenizer, options.work)
    options.output.mkdir(parents=True, exist_ok=True)
    model_file, mmproj_file = options.output / "tiny-llama-4.gguf", options.output / "mmproj-tiny-llama-4.gguf"
    convert(options.work, model_file, mmproj_file)
    check(tokenizer, model_file, mmproj_file)


if __name__ == "__main__":
    main()
