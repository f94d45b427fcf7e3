"""The answering side of the matrix: a model that does what the request says, in whatever form the host gave it.

It reads the request as a model would and shares no code with the library: native tools become calls; functions that are
described in the system message become Llama 4's pythonic text; a schema, or JSON asked for in words, becomes JSON;
images are looked at. Emulated hosts, and the engine of the `local` column, take it as their model.
"""

from __future__ import annotations

import base64
import io
import json
import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import PIL.Image

__all__ = ["COLOURS", "FACTS", "Obedient", "Seen"]

CITIES = ("Paris", "Rome", "Lima")
COLOURS = {"red": (220, 20, 20), "green": (20, 160, 40), "blue": (30, 50, 220), "yellow": (240, 220, 30)}
FACTS: Mapping[str, Any] = {"name": "Cusco", "people": 428450, "altitude": 3399.5, "rivers": ["Huatanay", "Tullumayo"]}
"""What it knows when JSON is wanted; no emulator could make these up from a schema."""


@dataclass(frozen=True)
class Seen:
    """An image as it arrived at the model."""

    mime: str
    width: int
    height: int
    size: int
    colours: tuple[str, ...]

    def __str__(self) -> str:
        return f"{' '.join(self.colours)} {self.width}x{self.height}"


@dataclass
class Obedient:
    """The model.

    invents: it calls a function that does not exist, until it is told so.   texts: its numbers are text in calls.
    """

    invents: bool = False
    texts: bool = False
    seen: list[Seen] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def close(self) -> None:
        """Nothing is held."""

    def run(self, body: dict[str, Any], emit: Callable[[dict[str, Any]], bool]) -> None:
        """See `llamaroute.emulator.model.Model`."""
        self.asked.append(body)
        answer = _Mind(self, body).answer()
        calls = answer if isinstance(answer, list) else []
        text = answer if isinstance(answer, str) else ""
        reason = "tool_calls" if calls else "stop"
        for stop in body.get("stop") or ():
            text = text.partition(stop)[0]
        for piece in re.findall(r".{1,5}", text, re.DOTALL):
            emit(_chunk({"content": piece}))
        for index, (name, arguments) in enumerate(calls):
            written = json.dumps(arguments)
            head = {"index": index, "id": f"call{index}", "type": "function"}
            emit(_chunk({"tool_calls": [{**head, "function": {"name": name, "arguments": written[:4]}}]}))
            emit(_chunk({"tool_calls": [{"index": index, "function": {"arguments": written[4:]}}]}))
        emit(_chunk({}, reason))
        prompt, completion = len(json.dumps(body["messages"])[:40_000]) // 4, max(1, len(text) // 4 + 12 * len(calls))
        total = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        emit({**_chunk({}), "choices": [], "usage": total})

    def handle_chat_completions(self, body: bytes, callback: Callable[[bytes], bool]) -> None:
        """The same as llama.cpp's server core, which the `local` provider talks to."""
        self.run(json.loads(body), lambda chunk: callback(json.dumps(chunk, separators=(",", ":")).encode()))


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


Calls = list[tuple[str, dict[str, Any]]]


class _Mind:
    """One request, read and answered."""

    def __init__(self, model: Obedient, body: Mapping[str, Any]) -> None:
        self.model, self.body = model, body
        messages = body["messages"]
        self.told = "\n".join(_text(one) for one in messages if one["role"] == "system")
        self.last = messages[-1]
        self.result, self.scolded = self._results(messages)
        self.question = next(_text(one) for one in messages if one["role"] == "user")
        self.cities = [city for city in CITIES if city in self.question]

    def _results(self, messages: list[dict[str, Any]]) -> tuple[str, bool]:
        """What the functions called in the last turn gave, and whether that was a complaint."""
        given: list[str] = []
        for one in reversed(messages):
            text = _text(one)
            told = re.findall(r"(?:returned|The result of \w+ is):\s*(.*)", text) if one["role"] == "user" else []
            if one["role"] != "tool" and not told:
                break
            given = [*(told or [text]), *given]
        scolded = any(text.startswith("Error") for text in given)
        return " and ".join(given), scolded

    # ── what to say ──

    def answer(self) -> str | Calls:
        images = list(self._images())
        form = self.body.get("response_format") or {}
        schema = (form.get("json_schema") or {}).get("schema")
        if schema is not None:
            return json.dumps(self._value(schema, schema, ""))
        described = re.search(r"JSON Schema[^\n]*\n(\{.*\})", self.told)
        if described:
            schema = json.loads(described[1])
            return json.dumps(self._value(schema, schema, ""))
        choice = self.body.get("tool_choice")
        if self.body.get("tools") and choice != "none":
            functions = [tool["function"] for tool in self.body["tools"]]
            return self._calls(functions, choice) or self._say(images)
        functions = self._described()
        calls = self._calls(functions, "auto") if functions else []
        return _pythonic(calls) if calls else self._say(images)

    def _say(self, images: list[Seen]) -> str:
        if self.result:
            return f"It is {self.result}."
        if images:
            return f"{len(images)}: {'; '.join(map(str, images))}"
        if "seed" in self.question:
            return f"My seed is {self.body.get('seed')}."
        if "count" in self.question.lower():
            return "one two three four five six seven"
        return "The capital of Peru is Lima, on the coast of the Pacific." if "capital" in self.question else "Fine."

    def _described(self) -> list[dict[str, Any]]:
        """Functions that the system message describes, a line of JSON each."""
        functions = []
        for line in self.told.splitlines():
            if line.startswith('{"name"'):
                functions.append(json.loads(line))
        return functions

    # ── calls ──

    def _calls(self, functions: list[dict[str, Any]], choice: Any) -> Calls:
        """The calls to make; none when an answer in words is what is wanted."""
        must = re.search(r"nswer by calling (?:the tool )?(\w+)", self.told)
        named = choice["function"]["name"] if isinstance(choice, Mapping) else None
        if must and must[1] != "one":
            named = must[1]
        forced = named is not None or must is not None or choice in ("required", "any")
        if self.result and not self.scolded:
            return []
        about = [one for one in functions if any(word in self.question for word in one["name"].split("_")[1:])]
        if named is not None:
            about = [one for one in functions if one["name"] == named]
        if not about and not forced:
            return []
        function = (about or functions)[0]
        calls = [(str(function["name"]), self._arguments(function["parameters"], city)) for city in self.cities]
        if self.model.invents and not self.scolded:
            return [(f"look_up_{name.partition('_')[2]}", arguments) for name, arguments in calls]
        return calls

    def _arguments(self, schema: Mapping[str, Any], city: str) -> dict[str, Any]:
        given = self._value(schema, schema, city)
        if self.model.texts:
            given = {name: str(value) if isinstance(value, int) else value for name, value in given.items()}
        return dict(given)

    # ── JSON ──

    def _value(self, schema: Mapping[str, Any], root: Mapping[str, Any], city: str, name: str = "") -> Any:
        """What the question wants, as JSON that fits the schema."""
        if ref := schema.get("$ref"):
            target: Any = root
            for step in ref.removeprefix("#/").split("/"):
                target = target[step]
            return self._value(target, root, city, name)
        if "const" in schema:
            return schema["const"]
        if choices := schema.get("anyOf") or schema.get("oneOf"):
            return self._value(self._choose(choices), root, city, name)
        if words := schema.get("enum"):
            return next((word for word in words if str(word) in self.question), words[0])
        if "properties" in schema:
            properties = schema["properties"]
            return {
                key: self._value(part, root, city, key) for key, part in properties.items() if self._has(key, schema)
            }
        if name == "reply":
            return self._say([])
        if name == "city":
            return city or (self.cities or ["nowhere"])[0]
        if name == "days":
            found = re.search(r"(\d+) days", self.question)
            return int(found[1]) if found else 1
        return FACTS.get(name, {})

    def _has(self, name: str, schema: Mapping[str, Any]) -> bool:
        """Arguments that may be left out are given where the question says something about them."""
        return name in schema.get("required", ()) or f" {name}" in self.question or name == "unit"

    def _choose(self, choices: list[Mapping[str, Any]]) -> Mapping[str, Any]:
        """A call of the function that the question is about, or a reply."""
        names = {one["properties"]["name"]["const"]: one for one in choices if "name" in one.get("properties", {})}
        reply = next((one for one in choices if "reply" in one.get("properties", {})), None)
        about = [one for name, one in names.items() if any(word in self.question for word in name.split("_")[1:])]
        if reply is not None and (not about or self.result):
            return reply
        return (about or list(names.values()) or choices)[0]

    # ── images ──

    def _images(self) -> Iterator[Seen]:
        for message in self.body["messages"]:
            for part in message["content"] if isinstance(message.get("content"), list) else ():
                if part.get("type") == "image_url":
                    seen = _look(_bytes(part["image_url"]["url"]))
                    self.model.seen.append(seen)
                    yield seen


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _bytes(url: str) -> bytes:
    if url.startswith("data:"):
        return base64.b64decode(url.partition(",")[2])
    # The host's machine fetches it.
    request = urllib.request.Request(url, headers={"user-agent": "the-host"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return bytes(answer.read())


def _look(data: bytes) -> Seen:
    """Which plain colours are in the picture, left to right, then down."""
    picture = PIL.Image.open(io.BytesIO(data))
    mime = PIL.Image.MIME[picture.format or ""]
    width, height = picture.size
    small = picture.convert("RGB").resize((48, 48))
    places: dict[str, list[tuple[int, int]]] = {}
    for at, pixel in enumerate(small.tobytes()[i : i + 3] for i in range(0, 48 * 48 * 3, 3)):
        for colour, known in COLOURS.items():
            if all(abs(a - b) < 60 for a, b in zip(pixel, known, strict=True)):
                places.setdefault(colour, []).append(divmod(at, 48))
    spots = {colour: points for colour, points in places.items() if len(points) > 48}
    middles = sorted(
        (sum(y for y, _ in points) / len(points), sum(x for _, x in points) / len(points), colour)
        for colour, points in spots.items()
    )
    rows: list[list[tuple[float, float, str]]] = []
    for middle in middles:
        if not rows or middle[0] - rows[-1][-1][0] > 4:
            rows.append([])
        rows[-1].append(middle)
    found = [colour for row in rows for *_, colour in sorted(row, key=lambda middle: middle[1])]
    return Seen(mime, width, height, len(data), tuple(found))


def _pythonic(calls: Calls) -> str:
    """Llama 4's own form: https://github.com/meta-llama/llama-models/blob/main/models/llama4/prompt_format.md"""
    written = (f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})" for name, given in calls)
    return f"[{', '.join(written)}]"
