"""Measure the tiny Llama 4 in llama.cpp (through xllamacpp) and print a table.

The colours are the promise: the script ends with status 1 unless every plain red, green and blue image of the strict
rows is named correctly. All other rows are for information.

Usage: ``python evaluate.py [--model FILE] [--mmproj FILE] [--verbose]``
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # idle OpenMP threads must not spin on a shared machine

import xllamacpp
from PIL import Image

HERE = Path(__file__).resolve().parent
RGB = tuple[int, int, int]
Size = tuple[int, int]

QUESTIONS = [
    "What colour is this image?", "What colour is this?", "What color is this image?", "Which colour do you see?",
    "What is on this picture?", "Describe this image.",
]  # fmt: skip
NEW_QUESTIONS = ["Which colour is shown here?", "Please name the color of the picture.", "Tell me what you see."]
SYSTEMS = [None, "You are a helpful assistant.", "Answer in one sentence."]

PLAIN: dict[str, list[RGB]] = {"red": [(255, 0, 0)], "green": [(0, 128, 0), (0, 255, 0)], "blue": [(0, 0, 255)]}
SHADES: dict[str, list[RGB]] = {
    "red": [
        (255, 0, 0), (220, 20, 60), (200, 30, 30), (178, 34, 34), (139, 0, 0), (230, 60, 50), (255, 50, 50),
        (160, 10, 20), (240, 40, 30), (190, 60, 60),
    ],
    "green": [
        (0, 128, 0), (0, 255, 0), (34, 139, 34), (50, 205, 50), (0, 100, 0), (46, 139, 87), (30, 170, 60),
        (60, 179, 113), (20, 220, 20), (90, 200, 60),
    ],
    "blue": [
        (0, 0, 255), (0, 0, 139), (65, 105, 225), (30, 60, 200), (0, 0, 205), (25, 25, 112), (70, 90, 240),
        (40, 60, 210), (20, 80, 180), (60, 60, 255),
    ],
}  # fmt: skip
SIZES: list[Size] = [(64, 64), (336, 336), (320, 240), (32, 32), (200, 300), (700, 400), (400, 300), (1024, 1024)]

CITIES = [
    "Paris", "Rome", "Oslo", "Lima", "Cairo", "Tokyo", "Berlin", "Madrid", "London", "Vienna", "Lisbon", "Athens",
]  # fmt: skip
UNSEEN_CITIES = ["Manila", "Lagos", "Sofia", "Geneva", "Porto", "Kyoto"]

GREETING = "Hello! I am a tiny Llama 4. How can I help?"
FALLBACK = "I am only a tiny model."


@dataclass
class Row:
    """One line of the table, with the failures for ``--verbose``."""

    name: str
    strict: bool = False
    right: int = 0
    total: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, good: bool, what: str) -> None:
        """Count one trial."""
        self.total += 1
        self.right += good
        if not good:
            self.failures.append(what)


class Model:
    """The GGUF pair inside llama.cpp's server engine, in this process."""

    def __init__(self, model: Path, mmproj: Path) -> None:
        """Load the pair with one thread, which on a busy machine is faster than two."""
        parameters = xllamacpp.CommonParams()
        parameters.model.path, parameters.mmproj.path = str(model), str(mmproj)
        parameters.n_ctx, parameters.n_parallel = 8192, 1
        parameters.warmup, parameters.use_jinja, parameters.verbosity = False, True, -1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        started = time.perf_counter()
        self.server = xllamacpp.Server(parameters)
        self.load_seconds = time.perf_counter() - started

    def ask(self, messages: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        """Send one chat request and return the whole answer."""
        body = {"messages": messages, "max_tokens": 160, "temperature": 0, **options}
        answer: dict[str, Any] = self.server.handle_chat_completions(body)
        if "choices" not in answer:
            raise RuntimeError(f"llama.cpp refused the request: {answer}")
        return answer

    def say(self, messages: list[dict[str, Any]], **options: Any) -> str:
        """Send one chat request and return the text; a tool call counts as no text."""
        message = self.ask(messages, **options)["choices"][0]["message"]
        return "<tool call>" if message.get("tool_calls") else message.get("content") or ""


def image_part(colour: RGB, size: Size, kind: str = "PNG") -> dict[str, Any]:
    """Return a plain image as a data URL."""
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, kind)
    url = f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def image_request(
    colour: RGB, size: Size, question: str, system: str | None, image_first: bool, kind: str = "PNG"
) -> list[dict[str, Any]]:
    """Return the messages that ask about a plain image."""
    parts = [image_part(colour, size, kind), {"type": "text", "text": question}]
    if not image_first:
        parts.reverse()
    return user(parts, system)


def user(content: Any, system: str | None = None) -> list[dict[str, Any]]:
    """Return one user message, with a system message before it if there is one."""
    messages = [{"role": "system", "content": system}] if system else []
    return [*messages, {"role": "user", "content": content}]


def near(colour: RGB) -> Iterator[RGB]:
    """Yield the colour and small variations of it."""
    for delta in ((0, 0, 0), (-20, 8, 8), (-10, 15, 0), (12, 0, 18), (-18, -18, -18)):
        yield tuple(max(0, min(255, c + d)) for c, d in zip(colour, delta, strict=True))  # type: ignore[misc]


def weather_tool(variant: int = 0) -> dict[str, Any]:
    """Return the weather tool as different programs would write it."""
    city: dict[str, Any] = {"type": "string"}
    parameters: dict[str, Any] = {"type": "object", "properties": {"city": city}, "required": ["city"]}
    function: dict[str, Any] = {"name": "get_weather", "parameters": parameters}
    if variant % 3 == 0:
        function["description"] = "Current weather of a city"
    elif variant % 3 == 1:
        function["description"] = "Get the current weather in a given city."
        city["description"] = "The name of the city"
        parameters["additionalProperties"] = False
        function["strict"] = True
    return {"type": "function", "function": function}


def schema(name: str) -> dict[str, Any]:
    """Return the ``response_format`` for an object with one string."""
    shape = {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
    return {"type": "json_schema", "json_schema": {"name": name, "schema": shape, "strict": True}}


def colour_rows(model: Model) -> Iterator[Row]:
    """Yield the rows about images."""

    def trial(row: Row, name: str, messages: list[dict[str, Any]], what: str, **options: Any) -> None:
        answer = model.say(messages, **options)
        row.add(answer == f"The image is {name}.", f"{name} {what}: {answer}")

    row = Row("plain red, green, blue: 6 wordings, 3 system prompts, both orders", strict=True)
    for name, colours in PLAIN.items():
        for colour in colours:
            for question, system, first in itertools.product(QUESTIONS, SYSTEMS, (True, False)):
                trial(row, name, image_request(colour, (64, 64), question, system, first), f"{colour} {question}")
    yield row
    row = Row("small variations of them, 8 sizes from 32x32 to 1024x1024", strict=True)
    turn = itertools.count()
    for name, colours in PLAIN.items():
        for colour in itertools.chain.from_iterable(near(c) for c in colours):
            for size in SIZES:
                i = next(turn)
                request = image_request(colour, size, QUESTIONS[i % 6], SYSTEMS[i % 3], i % 4 < 2)
                trial(row, name, request, f"{colour} {size} {QUESTIONS[i % 6]}")
    yield row
    row, large = Row("30 shades x 5 small sizes"), Row("30 shades x 3 large sizes (several tiles)")
    for name, colours in SHADES.items():
        for colour, size in itertools.product(colours, SIZES):
            i = next(turn)
            request = image_request(colour, size, QUESTIONS[i % 6], SYSTEMS[i % 3], i % 4 < 2)
            trial(large if max(size) > 336 else row, name, request, f"{colour} {size} {QUESTIONS[i % 6]}")
    yield row
    yield large
    row = Row("30 shades as JPEG, wordings that were not trained, unknown system prompt")
    for name, colours in SHADES.items():
        for colour, question in itertools.product(colours, NEW_QUESTIONS):
            request = image_request(colour, (200, 150), question, "Speak plainly, please.", True, "JPEG")
            trial(row, name, request, f"{colour} {question}")
    yield row
    row = Row("30 shades at temperature 1")
    for name, colours in SHADES.items():
        for i, colour in enumerate(colours):
            request = image_request(colour, (64, 64), QUESTIONS[i % 6], None, True)
            trial(row, name, request, f"{colour}", temperature=1.0, seed=i)
    yield row
    row = Row('json_schema {"colour": string}')
    for name, colours in SHADES.items():
        for colour in colours[:4]:
            request = image_request(colour, (64, 64), QUESTIONS[0], None, True)
            answer = model.say(request, response_format=schema("colour"))
            row.add(answer.replace(" ", "") == f'{{"colour":"{name}"}}', f"{colour}: {answer}")
    yield row
    row = Row("second image of a conversation")
    for (first, before), (second, after) in itertools.permutations(SHADES.items(), 2):
        for one, two in zip(before[:3], after[:3], strict=True):
            request = [
                *image_request(one, (64, 64), QUESTIONS[0], None, True),
                {"role": "assistant", "content": f"The image is {first}."},
                *image_request(two, (64, 64), QUESTIONS[1], None, True),
            ]
            trial(row, second, request, f"{one} then {two}")
    yield row


def text_rows(model: Model) -> Iterator[Row]:
    """Yield the rows about plain conversation."""
    row = Row("greetings")
    for text, system in itertools.product(["Hello", "hello", "Hi", "hi!", "Who are you?", "Say hi."], SYSTEMS):
        answer = model.say(user(text, system))
        row.add(answer == GREETING, f"{text} {system}: {answer}")
    yield row
    row = Row("story of 60 words, counting to twenty")
    for text, start, end in (
        ("Tell me a story", "Once upon a time", "The end."),
        ("Tell me a story.", "Once upon a time", "The end."),
        ("Count to twenty.", "One, two, three", "nineteen, twenty."),
    ):
        answer = model.say(user(text))
        row.add(answer.startswith(start) and answer.endswith(end), f"{text}: {answer}")
    yield row
    row = Row('unknown questions: "I am only a tiny model."')
    for text in (
        "What is the meaning of life?", "Write a poem about autumn.", "How tall is the Eiffel Tower?",
        "Translate this into German.", "Why is the sky blue?", "Explain quantum computing.", "Sing a song.",
        "What is the weather in Paris?", "Fix my Python code.", "x = 3", "Name a mountain in Asia.", "Thanks!",
    ):  # fmt: skip
        answer = model.say(user(text))
        row.add(answer == FALLBACK, f"{text}: {answer}")
    yield row


def copy_rows(model: Model) -> Iterator[Row]:
    """Yield the rows about copying words out of the prompt without a tool."""
    row = Row('json_schema {"city": string}, weather question, 12 cities')
    for city in CITIES:
        answer = model.say(user(f"What is the weather in {city}?"), response_format=schema("city"))
        row.add(answer.replace(" ", "") == f'{{"city":"{city}"}}', f"{city}: {answer}")
    yield row
    row = Row("repeating words")
    for words in ("Paris", "tiny llama", "one two three", "red car on the road", "Zobana Tarik", "pong"):
        answer = model.say(user(f"Repeat after me: {words}"))
        row.add(answer == words, f"{words}: {answer}")
    yield row


def tool_rows(model: Model) -> Iterator[Row]:
    """Yield the rows about tools."""

    def called(answer: dict[str, Any], city: str) -> bool:
        calls = answer["choices"][0]["message"].get("tool_calls") or []
        functions = [call["function"] for call in calls]
        return [(f["name"], json.loads(f["arguments"])) for f in functions] == [("get_weather", {"city": city})]

    named = {"type": "function", "function": {"name": "get_weather"}}
    questions = ["What is the weather in {}?", "How is the weather in {} today?", "What's the weather like in {}?"]
    for label, choice in (("auto", "auto"), ("required", "required"), ("named", named)):
        row = Row(f"weather tool call, tool_choice {label}, 12 cities x 3")
        for i, (city, question) in enumerate(itertools.product(CITIES, questions)):
            messages = user(question.format(city), SYSTEMS[i % 3])
            answer = model.ask(messages, tools=[weather_tool(i)], tool_choice=choice)
            row.add(called(answer, city), f"{question.format(city)}: {answer['choices'][0]['message']}")
        yield row
    row = Row("weather tool call, cities that were not trained")
    for i, city in enumerate(UNSEEN_CITIES):
        answer = model.ask(user(f"What is the weather in {city}?"), tools=[weather_tool(i)])
        row.add(called(answer, city), f"{city}: {answer['choices'][0]['message']}")
    yield row
    row, other = Row("sentence after the tool's result, 18 degrees"), Row("... other temperatures")
    for i, (city, degrees) in enumerate(itertools.product(CITIES[:6], (18, 3, 31, -4))):
        call = {"name": "get_weather", "arguments": json.dumps({"city": city})}
        result = [
            f"{degrees} C",
            json.dumps({"temperature": degrees}),
            json.dumps({"city": city, "temperature_c": degrees}),
        ]
        messages = [
            *user(f"What is the weather in {city}?", SYSTEMS[i % 3]),
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": call}]},
            {"role": "tool", "tool_call_id": "c1", "content": result[i % 3]},
        ]
        answer_text = model.say(messages, tools=[weather_tool(i)])
        (row if degrees == 18 else other).add(
            answer_text == f"The weather is {degrees} C.", f"{result[i % 3]}: {answer_text}"
        )
    yield row
    yield other
    row = Row("greeting although there is a tool (auto)")
    for text in ("Hello", "Hi", "Who are you?"):
        answer_text = model.say(user(text), tools=[weather_tool()])
        row.add(answer_text == GREETING, f"{text}: {answer_text}")
    yield row


def report(model: Model, rows: Iterable[Row], files: list[Path], verbose: bool) -> bool:
    """Print the table as it is measured; return whether the strict rows are perfect."""
    perfect = True
    print("| what | right | of | |\n| --- | ---: | ---: | --- |")
    for row in rows:
        perfect = perfect and not (row.strict and row.failures)
        note = "must be perfect" if row.strict else ""
        print(f"| {row.name} | {row.right} | {row.total} | {note} |", flush=True)
        for failure in row.failures if verbose else []:
            print(f"  - {failure}")
    story = model.ask(user("Tell me a story"))
    image = model.ask(
        image_request((255, 0, 0), (336, 336), "What colour is this image?", None, True), cache_prompt=False
    )
    print()
    for file in files:
        print(f"{file.name}: {file.stat().st_size:,} bytes")
    print(f"load: {model.load_seconds:.2f} s; generation: {story['timings']['predicted_per_second']:.0f} tokens/s")
    print(
        f"one-tile image question: {image['timings']['prompt_ms']:.0f} ms for {image['usage']['prompt_tokens']} tokens"
    )
    return perfect


def main() -> int:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="Measure the tiny Llama 4 in llama.cpp.")
    parser.add_argument("--model", type=Path, default=HERE / "tiny-llama-4.gguf")
    parser.add_argument("--mmproj", type=Path, default=HERE / "mmproj-tiny-llama-4.gguf")
    parser.add_argument("--verbose", action="store_true", help="show every wrong answer")
    options = parser.parse_args()
    model = Model(options.model, options.mmproj)
    rows = itertools.chain(colour_rows(model), text_rows(model), copy_rows(model), tool_rows(model))
    perfect = report(model, rows, [options.model, options.mmproj], options.verbose)
    if not perfect:
        print("the colours of plain images are not all right", file=sys.stderr)
    return 0 if perfect else 1


if __name__ == "__main__":
    sys.exit(main())
