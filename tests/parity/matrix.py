"""What works on which host: the expected table, and how each of its cells is tried.

    python -m tests.parity.matrix --write      tries all cells, then writes the table into docs/parity.md

The hosts are emulated with every quirk on that a real one may show (`Column.variants`); the answers are an obedient
model's (`obedient.py`), which reads the requests as they arrive. `EXPECTED` was fixed first, from the table of what
hosts do.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import random
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple
from unittest import mock

import PIL.Image
import pydantic
from tests.parity.obedient import COLOURS, FACTS, Obedient

import llamaroute as lr
from llamaroute.emulator import Emulator
from llamaroute.emulator.hosts import HOSTS
from llamaroute.emulator.images import ImageSeen, image_tokens
from llamaroute.transport.local_engine import LocalEngine

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "parity.md"
TINY = ROOT / "examples" / "tiny_llama_4"
BEGIN, END = "<!-- written by tests/parity/matrix.py: begin -->", "<!-- end -->"

# ── what is expected ──

EXPECTED = """
cell             cloudflare cf-native azure az-models databricks vertex-mav vertex-scout bedrock hf vllm vllm-bare tgi llama.cpp local
text             N          N         N     N         N          N          N            N       N  N    N         N   N         N
stream           N          N         N     N         N          N          N            N       N  N    N         N   N         N
tools            N          N         Ep    Ep        N          N          Ep           N       N  N    Eg        N   N         Eg
tools-required   N          N         Epi   Epi       N          Ei         Epi          Ei      N  N    Eg        N   N         Eg
tools-named      N          N         Epi   Epi       N          Ei         Epi          Ei      N  N    Eg        N   N         Eg
tools-parallel   N          N         Ep    Ep        N          N          Ep           N       N  N    Ep        R   N         Ep
tools-streamed   Es         Es        Ep    Ep        N          Es         Ep           Es      N  N    Eg        N   N         Eg
tools-round-trip N          N         Ep    Ep        N          N          Ep           N       N  N    Eg        N   N         Eg
schema           N          N         Eo    Eo        N          Eo         Eo           Eo      N  N    N         N   N         N
schema-streamed  Es         Es        Eo    Eo        Es         Eo         Eo           Eo      N  N    N         N   N         N
image-path       N          N         N     N         N          N          N            N       N  N    N         N   N         N
image-url        Eu         Eu        Eu    Eu        Eu         Eu         Eu           Eu      N  N    N         N   N         Eu
images-several   N          N         Em    N         N          Em         Em           N       N  N    N         N   N         N
image-huge       Er         Er        Er    Er        Er         Er         Er           Er      Er Er   Er        Er  Er        Er
seed             N          N         N     N         R          N          N            R       N  N    N         N   N         N
stop             N          N         N     N         N          N          N            N       N  N    N         N   N         N
usage            N          N         N     N         N          N          N            N       N  N    N         N   N         N
"""  # noqa: E501
"""N native, E made up by the library (the letters say how), R refused before a byte leaves."""


class How(NamedTuple):
    """A letter behind E: the notice that tells of it (none for what changes nothing), and the word in the docs."""

    notice: str
    word: str


HOW: Mapping[str, How] = MappingProxyType({
    "p": How("tools_emulated", "prompt"),
    "g": How("tools_emulated", "schema"),
    "i": How("forced_tools_emulated", "told"),
    "s": How("stream_from_reply", "plain call"),
    "o": How("output_emulated", "prompt"),
    "u": How("", "fetched"),
    "m": How("images_merged", "sheet"),
    "r": How("image_resized", "reduced"),
})  # fmt: skip
TELLING = {how.notice for how in HOW.values() if how.notice} | {
    "tool_calls_from_text", "tool_call_repaired", "output_repaired", "empty_stream_repaired", "tool_call_malformed",
    "image_not_reduced",
}  # fmt: skip
"""Every notice of something that was made up or put right: a native cell has none of them."""


def expected() -> dict[tuple[str, str], str]:
    """(cell, column) -> what `EXPECTED` says."""
    head, *rows = (line.split() for line in EXPECTED.strip().splitlines())
    return {(row[0], name): value for row in rows for name, value in zip(head[1:], row[1:], strict=True)}


# ── the hosts ──


@dataclass(frozen=True)
class Variant:
    """Quirks that are on together. `notices` are those that they add to the cells which begin with the key."""

    quirks: tuple[str, ...] = ()
    notices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """A host and a model on it.

    host: in the emulator; empty for the engine in this process.   table: settings beside the emulator's own.
    left: quirks of the host that are in no variant, with the reason.   model: which the answers are from.
    """

    name: str
    title: str
    host: str
    model: str
    table: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[Variant, ...] = (Variant(),)
    left: Mapping[str, str] = field(default_factory=dict)
    answers: Callable[[str], Obedient] = lambda cell: Obedient()

    @property
    def target(self) -> str:
        return f"{self.name}:{self.model}"


_BETTER = "would make the host better than it is documented to be"
_REFUSES = "refuses every request"
_CONTROL = "concerns discovery, not answers"


def _weak(cell: str) -> Obedient:
    """Maverick at Databricks: names are invented, and numbers come as text."""
    return Obedient(invents=cell != "tools-streamed", texts=True)


def _azure(host: str, **more: str) -> tuple[tuple[Variant, ...], dict[str, str]]:
    on = (
        "filters", "stream-filters", "filter-flat", "blocked-without-message", "usage-on-finish", "flat-backend-errors",
        "long-prompt-429", "retry-after-ms-zero", "tools-refused",
    )  # fmt: skip
    first = tuple(f"{host}-{name}" for name in (*on, *more))
    off = tuple(f"no-{host}-{name}" for name in ("filters", "stream-filters", "usage-on-finish"))
    left = {f"{host}-{name}": _BETTER for name in ("tools", "formats", "many-images")}
    return (Variant(first), Variant(off)), left


_AZURE, _AZURE_LEFT = _azure("azure", **dict.fromkeys(("deployment-not-found", "strict-fields"), ""))
_MODELS, _MODELS_LEFT = _azure("azure-models", **{"stream-options-refused": ""})
_CLOUDFLARE = (
    Variant((
        "padding", "random-padding", "empty-stream-with-tools", "flat-tool-calls", "null-response", "response-object",
        "number-response", "incremental-usage", "stray-native-event", "usage-chunk", "role-chunk", "http-200-error",
        "scan-text",
    )),
    Variant(("native-openai-in-envelope", "null-usage", "stream-json", "no-padding")),
)  # fmt: skip
_CLOUDFLARE_LEFT = {"empty-choices": "an answer without choices has nothing in it: an error, and retried"}
_VERTEX = (
    "vertex-empty-without-max-tokens", "vertex-array-errors", "vertex-one-chunk-empty", "vertex-bare-tool-deltas",
    "vertex-strict-ranges", "vertex-strict-turns", "vertex-https-images-refused", "vertex-image-detail-refused",
    "vertex-response-format-refused", "vertex-scout-tools-as-text",
)  # fmt: skip
_VERTEX_LEFT = {"vertex-not-enabled": _REFUSES, "vertex-api-disabled": _REFUSES}
_WHOLE = ("tools", "tools-required", "tools-named", "tools-parallel", "tools-round-trip")
_LEAKS = dict.fromkeys((*_WHOLE, "tools-streamed"), "tool_calls_from_text")
_REPAIRS = dict.fromkeys(_WHOLE, "tool_call_repaired")
_SCOUT, _MAVERICK = "llama-4-scout", "llama-4-maverick"
_BARE = dict.fromkeys(("tools", "stream_tools", "forced_tools"), "emulate")

COLUMNS = (
    Column("cloudflare", "Cloudflare", "cloudflare", _SCOUT, variants=_CLOUDFLARE, left=_CLOUDFLARE_LEFT),
    Column(
        "cf-native", "Cloudflare, `api = \"native\"`", "cloudflare", _SCOUT, {"api": "native"},
        (_CLOUDFLARE[0], replace(_CLOUDFLARE[1], notices=dict.fromkeys(("stream", "usage"), "stream_from_reply"))),
        _CLOUDFLARE_LEFT,
    ),
    Column("azure", "Azure, Maverick", "azure", _MAVERICK, variants=_AZURE, left=_AZURE_LEFT),
    Column(
        "az-models", "Azure, `api = \"models\"`, Scout", "azure-models", _SCOUT,
        variants=(*_MODELS, Variant(("azure-models-lenient-extra", "azure-models-extra-forbidden"))), left=_MODELS_LEFT,
    ),
    Column(
        "databricks", "Databricks, Maverick", "databricks", _MAVERICK,
        variants=(
            Variant((
                "databricks-cumulative-usage", "databricks-null-usage", "databricks-role-on-every-chunk",
                "databricks-list-content", "databricks-roles-alternate", "databricks-limit-object",
            ), _REPAIRS),
        ),
        left=dict.fromkeys(("databricks-stream-options", "databricks-unknown-fields"), _BETTER), answers=_weak,
    ),
    Column(
        "vertex-mav", "Vertex AI, Maverick", "vertex", _MAVERICK,
        variants=(
            Variant((*_VERTEX, "vertex-role-in-every-delta")),
            Variant((*_VERTEX, "vertex-role-missing", "vertex-python-tags"), _LEAKS),
        ),
        left=_VERTEX_LEFT,
    ),
    Column(
        "vertex-scout", "Vertex AI, Scout", "vertex", _SCOUT,
        variants=(
            Variant((*_VERTEX, "vertex-role-in-every-delta")),
            Variant((*_VERTEX, "vertex-role-missing", "vertex-python-tags")),
        ),
        left=_VERTEX_LEFT,
    ),
    Column(
        "bedrock", "Bedrock, Maverick", "bedrock", _MAVERICK,
        variants=(
            Variant((
                "bedrock-llama-rules", "bedrock-unknown-members", "bedrock-padding", "bedrock-server-tool-usage",
                "bedrock-string-numbers", "bedrock-capital-message",
            )),
        ),
        left={
            "bedrock-stream-tools": _BETTER, "bedrock-on-demand": _BETTER, "bedrock-no-access": _REFUSES,
            "bedrock-clock-ahead": _REFUSES, "bedrock-control-denied": _CONTROL, "bedrock-legacy": _CONTROL,
        },
    ),
    Column(
        "hf", "Hugging Face", "huggingface", _SCOUT,
        variants=(Variant(("retry-after-on-200", "no-usage")), Variant(("no-retry-after-on-200",))),
        left={
            "together-500-after-tool": "a fault of one inference provider, for failover",
            "not-a-chat-model": _REFUSES, "token-without-inference": _REFUSES,
        },
    ),
    Column(
        "vllm", "vLLM with tool flags", "vllm", _SCOUT,
        left={"auto-tools-refused": "the next column"},
    ),
    Column(
        "vllm-bare", "vLLM without, `features` say so", "vllm", _SCOUT, {"features": _BARE},
        (Variant(("auto-tools-refused",)),),
    ),
    Column("tgi", "TGI", "tgi", "meta-llama/Llama-4-Scout-17B-16E-Instruct"),
    Column(
        "llama.cpp", "llama.cpp", "llamacpp", _SCOUT,
        left={"no-mmproj": "no images at all, which an account's `features` have to say"},
    ),
    Column("local", "local", "", "tiny-llama-4"),
)  # fmt: skip

# ── the cells ──


class City(pydantic.BaseModel):
    """What is asked for as JSON."""

    name: str
    people: int
    altitude: float
    rivers: list[str]


def _tool(name: str, what: str) -> lr.Tool:
    properties = {
        "city": {"type": "string", "description": "Name of the city"},
        "days": {"type": "integer", "description": "How many days"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    }
    return lr.Tool(name, what, {"type": "object", "properties": properties, "required": ["city"]})


TOOLS = (_tool("get_weather", "Weather in a city."), _tool("get_time", "Time of day in a city."))
RESULT = "18 C and sunny"


@dataclass
class Asked:
    """What a cell's check looks at."""

    cell: str
    reply: lr.ChatResponse[Any]
    model: Obedient
    events: list[Any]
    partials: list[Any]
    fetched: list[str]
    native: bool

    @property
    def pieces(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, lr.TextDelta)]


@dataclass(frozen=True)
class Cell:
    """One thing that people ask for. `then` makes a second request of the first one's answer, and that is looked at."""

    name: str
    title: str
    input: Callable[[World], Any]
    check: Callable[[Asked], None]
    options: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False
    then: Callable[[Any, lr.ChatResponse[Any]], Any] | None = None


def _text(asked: Asked) -> None:
    assert asked.reply.text == "The capital of Peru is Lima, on the coast of the Pacific."
    assert asked.reply.finish_reason == "stop"


def _stream(asked: Asked) -> None:
    _text(asked)
    assert "".join(asked.pieces) == asked.reply.text
    assert len(asked.pieces) > 1


def _calls(*wanted: tuple[str, dict[str, Any]]) -> Callable[[Asked], None]:
    def check(asked: Asked) -> None:
        calls = asked.reply.tool_calls
        assert [(call.name, dict(call.arguments)) for call in calls] == list(wanted)
        assert [call.error for call in calls] == [None] * len(wanted)
        assert len({call.id for call in calls}) == len(wanted)
        assert asked.reply.finish_reason == "tool_calls"
        assert not asked.reply.text.strip()
        if asked.events:
            done = [event.call for event in asked.events if isinstance(event, lr.ToolCallDone)]
            assert done == list(calls)

    return check


def _round_trip(asked: Asked) -> None:
    assert asked.reply.text == f"It is {RESULT}."
    assert not asked.reply.tool_calls


def _schema(asked: Asked) -> None:
    assert asked.reply.output == City(**FACTS)
    prompted = any(notice.code == "output_emulated" for notice in asked.reply.warnings)
    assert asked.reply.output_mode == ("prompt" if prompted else "native")


def _schema_streamed(asked: Asked) -> None:
    _schema(asked)
    assert City.model_validate_json("".join(asked.pieces)) == City(**FACTS)
    assert len(asked.pieces) > 1
    assert any(partial and "rivers" not in partial for partial in asked.partials)


def _image(asked: Asked) -> None:
    assert asked.reply.text == "1: red 64x48"


def _image_url(asked: Asked) -> None:
    """Either the host's machine fetches it, or this one does: never both."""
    _image(asked)
    assert asked.fetched == (["the-host"] if asked.native else ["llamaroute"])


def _several(asked: Asked) -> None:
    colours = [colour for seen in asked.model.seen for colour in seen.colours]
    assert colours == list(COLOURS)
    assert len(asked.model.seen) == 4 if asked.native else len(asked.model.seen) < 4
    assert all(colour in asked.reply.text for colour in COLOURS)


def _huge(asked: Asked) -> None:
    (seen,) = asked.model.seen
    assert seen.colours == ("red",)
    assert abs(seen.width * 3 - seen.height * 4) <= 4
    assert seen.width > 600
    assert image_tokens(ImageSeen(seen.mime, seen.width, seen.height)) <= 1300
    assert seen.size * 4 / 3 <= 1_000_000


def _seed(asked: Asked) -> None:
    assert asked.reply.text == "My seed is 7."


def _stop(asked: Asked) -> None:
    assert asked.reply.text.rstrip() == "one two three four"
    assert asked.reply.finish_reason == "stop"


def _usage(asked: Asked) -> None:
    usage = asked.reply.usage
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0
    assert usage.total_tokens >= usage.input_tokens + usage.output_tokens


def _said(text: str) -> Callable[[World], Any]:
    return lambda world: text


WEATHER = "What is the weather in Paris for the next 3 days, in celsius?"
PARIS = {"city": "Paris", "days": 3, "unit": "celsius"}
TALK = "I am going to Paris for 3 days, and think in celsius."
_PARIS = ("get_weather", PARIS)


def _back(question: Any, reply: lr.ChatResponse[Any]) -> Any:
    return [lr.user(question), reply.message, *(lr.tool_result(call, RESULT) for call in reply.tool_calls)]


CELLS = (
    Cell("text", "text", _said("What is the capital of Peru?"), _text),
    Cell("stream", "stream", _said("What is the capital of Peru?"), _stream, stream=True),
    Cell("tools", "tools", _said(WEATHER), _calls(_PARIS), {"tools": TOOLS}),
    Cell(
        "tools-required", "a call is required", _said(TALK), _calls(_PARIS),
        {"tools": TOOLS, "tool_choice": "required"},
    ),
    Cell(
        "tools-named", "a named call", _said(TALK), _calls(("get_time", PARIS)),
        {"tools": TOOLS, "tool_choice": "get_time"},
    ),
    Cell(
        "tools-parallel", "several calls at once", _said("What is the weather in Paris and Rome, in celsius?"),
        _calls(*(("get_weather", {"city": city, "unit": "celsius"}) for city in ("Paris", "Rome"))),
        {"tools": TOOLS, "parallel_tool_calls": True},
    ),
    Cell("tools-streamed", "tools in a stream", _said(WEATHER), _calls(_PARIS), {"tools": TOOLS}, stream=True),
    Cell("tools-round-trip", "the results of calls", _said(WEATHER), _round_trip, {"tools": TOOLS}, then=_back),
    Cell("schema", "JSON schema", _said("Tell me about Cusco."), _schema, {"output": City}),
    Cell(
        "schema-streamed", "JSON schema in a stream", _said("Tell me about Cusco."), _schema_streamed,
        {"output": City}, stream=True,
    ),
    Cell("image-path", "image from a file", lambda world: ["What is it?", lr.Image(world.file)], _image),
    Cell("image-url", "image by URL", lambda world: ["What is it?", lr.Image(f"{world.site}/red.png")], _image_url),
    Cell(
        "images-several", "four images",
        lambda world: ["What are they?", *(lr.Image(picture(colour)) for colour in COLOURS)], _several,
    ),
    Cell("image-huge", "a photo of 4000 x 3000", lambda world: ["What is it?", world.photo], _huge),
    Cell("seed", "seed", _said("Which seed have you got?"), _seed, {"seed": 7}),
    Cell("stop", "stop", _said("Count to seven."), _stop, {"stop": ["five"]}),
    Cell("usage", "usage (plain and streamed)", _said("What is the capital of Peru?"), _usage, stream=True),
)  # fmt: skip

NO_KNOB: Mapping[tuple[str, str], str] = MappingProxyType({("tools-parallel", "databricks"): "parallel_tool_calls"})
"""Arguments that a host does not know and the cell does without: Databricks makes several calls unasked."""


def picture(colour: str, size: tuple[int, int] = (64, 48)) -> bytes:
    """A plain PNG."""
    out = io.BytesIO()
    PIL.Image.new("RGB", size, COLOURS[colour]).save(out, "PNG")
    return out.getvalue()


@functools.cache
def photo() -> lr.Image:
    """A red photo with a camera's noise; one object, so that it is reduced once for all hosts of one rule."""
    noise = random.Random(4).randbytes(1000 * 750)
    grain = PIL.Image.frombytes("L", (1000, 750), noise).resize((4000, 3000)).point(lambda value: value // 6)
    red = PIL.Image.new("L", grain.size, COLOURS["red"][0])
    out = io.BytesIO()
    PIL.Image.merge("RGB", (red, grain, grain)).save(out, "JPEG", quality=92)
    return lr.Image(out.getvalue())


# ── trying them ──


@dataclass
class World:
    """What is outside of the client: a web site and a file."""

    site: str
    file: Path
    visitors: list[str]

    @property
    def photo(self) -> lr.Image:
        return photo()


@contextlib.contextmanager
def world() -> Iterator[World]:
    """A site with one picture, which writes down who asked for it, and a file with the same."""
    visitors: list[str] = []

    class Site(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            visitors.append(str(self.headers["user-agent"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture("red"))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "red.png"
        file.write_bytes(picture("red"))
        try:
            yield World(f"http://127.0.0.1:{server.server_address[1]}", file, visitors)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@dataclass
class Found:
    """What a cell turned out to be."""

    letter: Literal["N", "E", "R"]
    notices: frozenset[str] = frozenset()
    error: lr.CapabilityError | None = None
    sent: int = 0


@contextlib.contextmanager
def answering(column: Column, variant: Variant, model: Any) -> Iterator[tuple[dict[str, Any], Emulator]]:
    """A configuration with the column's account and one that can do everything, and the emulator behind both."""
    engine = mock.patch.object(LocalEngine, "_start", return_value=model)
    with Emulator(model=model, quirks=variant.quirks) as emulator, engine:
        providers: dict[str, Any] = {"able": {**emulator.providers("vllm")["vllm"], "model": _MAVERICK}}
        if column.host:
            providers[column.name] = {**emulator.providers(column.host)[column.host], **column.table}
        else:
            files = {"model": str(TINY / "tiny-llama-4.gguf"), "mmproj": str(TINY / "mmproj-tiny-llama-4.gguf")}
            providers[column.name] = {"kind": "local", **files}
        yield {"providers": providers, "images": {"allow_private": True}, "default": column.target}, emulator


def arguments(cell: Cell, column: Column) -> dict[str, Any]:
    """A call's keyword arguments."""
    left_out = NO_KNOB.get((cell.name, column.name))
    return {name: value for name, value in cell.options.items() if name != left_out}


def look(cell: Cell, asked: Asked, first: lr.ChatResponse[Any] | None) -> Found:
    """Whether the answer is right, and how it came about."""
    told = {notice.code for reply in (first, asked.reply) if reply for notice in reply.warnings} & TELLING
    asked.native = not told and asked.native
    cell.check(asked)
    return Found("N" if asked.native else "E", frozenset(told))


def attempt(cell: Cell, column: Column, variant: Variant, around: World) -> Found:
    """Try one cell with the blocking client."""
    model = column.answers(cell.name)
    around.visitors.clear()
    with answering(column, variant, model) as (config, emulator), lr.Client(config) as client:
        said, options = cell.input(around), arguments(cell, column)
        first = None
        try:
            if cell.then is not None:
                first = client.chat(said, **options)
                said = cell.then(said, first)
                model.seen.clear()
            reply, events, partials = _read(client, said, options, stream=cell.stream)
        except lr.CapabilityError as error:
            return Found("R", error=error, sent=len(emulator.requests))
        asked = Asked(cell.name, reply, model, events, partials, list(around.visitors), native=_as_is(cell, around))
        if cell.name == "usage":
            look(cell, Asked(cell.name, client.chat(said, **options), model, [], [], [], native=True), None)
        return look(cell, asked, first)


async def attempt_async(cell: Cell, column: Column, variant: Variant, around: World) -> Found:
    """The same with `AsyncClient`."""
    model = column.answers(cell.name)
    around.visitors.clear()
    with answering(column, variant, model) as (config, emulator):
        async with lr.AsyncClient(config) as client:
            said, options = cell.input(around), arguments(cell, column)
            first = None
            try:
                if cell.then is not None:
                    first = await client.chat(said, **options)
                    said = cell.then(said, first)
                    model.seen.clear()
                events: list[Any] = []
                partials: list[Any] = []
                if cell.stream:
                    async with client.stream(said, **options) as stream:
                        async for event in stream:
                            events.append(event)
                            partials.append(stream.partial)
                    reply = stream.response
                else:
                    reply = await client.chat(said, **options)
            except lr.CapabilityError as error:
                return Found("R", error=error, sent=len(emulator.requests))
            fetched = list(around.visitors)
            return look(cell, Asked(cell.name, reply, model, events, partials, fetched, _as_is(cell, around)), first)


def _as_is(cell: Cell, around: World) -> bool:
    """Whether nothing was done that no notice tells of: an image that is fetched here loses nothing."""
    return cell.name != "image-url" or "llamaroute" not in around.visitors


def _read(
    client: lr.Client, said: Any, options: dict[str, Any], *, stream: bool
) -> tuple[lr.ChatResponse[Any], list[Any], list[Any]]:
    if not stream:
        return client.chat(said, **options), [], []
    events: list[Any] = []
    partials: list[Any] = []
    with client.stream(said, **options) as opened:
        for event in opened:
            events.append(event)
            partials.append(opened.partial)
    return opened.response, events, partials


def misfit(cell: Cell, column: Column, variant: Variant, found: Found) -> str:
    """What is not as expected; empty when all is."""
    wanted = expected()[cell.name, column.name]
    letter, means = wanted[0], wanted[1:]
    codes = {HOW[mean].notice for mean in means} - {""}
    extra = variant.notices.get(cell.name)
    if letter == "R":
        if found.letter != "R" or found.error is None:
            return f"{wanted} expected, {found.letter} found"
        if found.sent or column.target not in found.error.missing or f"able:{_MAVERICK}" not in found.error.could_serve:
            return f"refused, but {found.sent} requests, {found.error.missing}, {found.error.could_serve}"
        return "" if f"able:{_MAVERICK}" in str(found.error) else f"the message names nobody: {found.error}"
    if found.letter == "R":
        return f"{wanted} expected, refused: {found.error}"
    if extra is not None:
        codes.add(extra)
    if found.notices != codes:
        return f"notices {sorted(found.notices)}, not {sorted(codes)}"
    native = letter == "N" and extra is None
    return "" if (found.letter == "N") is native else f"{wanted} expected, {found.letter} found"


def trials() -> Iterator[tuple[Cell, Column, Variant, str]]:
    """All there is to try, with a name."""
    for column in COLUMNS:
        for number, variant in enumerate(column.variants):
            for cell in CELLS:
                yield cell, column, variant, f"{column.name}-{number}-{cell.name}"


# ── the docs ──


def table() -> str:
    """The part of docs/parity.md between the marks."""
    wanted = expected()
    shown = {"N": "yes", "R": "**refused**"}

    def of(cell: Cell, column: Column) -> str:
        value = wanted[cell.name, column.name]
        words = dict.fromkeys(HOW[letter].word for letter in value[1:])
        return shown.get(value) or ", ".join(words)

    lines = [f"| | {' | '.join(column.title for column in COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
    lines += [f"| {cell.title} | {' | '.join(of(cell, column) for column in COLUMNS)} |" for cell in CELLS]
    lines += ["", "Quirks of the emulated hosts that were on; variants are tried one after the other:", ""]
    lines += ["| column | on | left out |", "|---|---|---|"]
    for column in COLUMNS:
        on = "; ".join(", ".join(f"`{name}`" for name in variant.quirks) or "the usual" for variant in column.variants)
        left = "; ".join(f"`{name}`: {why}" for name, why in column.left.items())
        lines.append(f"| {column.title} | {on if column.host else '(no emulator)'} | {left} |")
    return "\n".join(lines)


def documented() -> str:
    """docs/parity.md as it should be."""
    text = DOCS.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def quirks_of(column: Column) -> tuple[set[str], set[str]]:
    """The quirks in the column's variants or left out, and those that its host knows."""
    tried = {name for variant in column.variants for name in variant.quirks} - {""}
    known = set(HOSTS[column.host].known_quirks) if column.host else set()
    return {name for name in tried if name in known} | set(column.left), known


def main(arguments: Sequence[str]) -> int:
    """Try everything; with `--write`, write the table."""
    wrong = 0
    with world() as around:
        for cell, column, variant, name in trials():
            try:
                why = misfit(cell, column, variant, attempt(cell, column, variant, around))
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
            if why:
                wrong += 1
                sys.stdout.write(f"{name}: {why[:600]}\n")
    sys.stdout.write(f"{wrong} of {sum(1 for _ in trials())} not as expected\n")
    if "--write" in arguments and not wrong:
        DOCS.write_text(documented(), "utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
