"""A GGUF model in this process, through llama.cpp: no account, no server, no network.

    [providers.local]
    model = "smollm2"          # or a path to any GGUF, Llama 4 Scout among them, with mmproj = "..." for images

The wire is OpenAI's; `transport/local.py` is its other end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import quote

from pydantic import Field
from pydantic_core import from_json

from ..dialects.openai_chat import OpenAIChat
from ..errors import CapabilityError, ProtocolError
from ..spi import ProviderSettings, ProviderSpec, Target, WireRequest, WireResponse
from ..types.capability import Feature, ModelRow, ParameterRule, Support
from ..types.dataclass import dataclass
from ..types.request import ChatRequest

__all__ = ["DEFAULT_MODEL", "SPEC", "LocalAdapter", "LocalSettings"]

DEFAULT_MODEL: Final = "smollm2"


class LocalSettings(ProviderSettings):
    """A model in this process."""

    path_keys: ClassVar[tuple[str, ...]] = ("model", "mmproj", "chat_template")

    model: str | None = DEFAULT_MODEL
    """A known name (`smollm2`; fetched once with `llamaroute local pull`), or the path of a GGUF file."""
    mmproj: str | None = None
    """Path of the GGUF with the model's vision tower. Without it the model takes no images."""
    context: Annotated[int, Field(ge=64)] = 4096
    """Tokens of one request, prompt and answer together, at least 64. Memory grows with it."""
    parallel: Annotated[int, Field(ge=1, le=64)] = 1
    """Requests served at the same time, 1 to 64; more wait their turn. Each has its own context."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads. Default: the usable cores but one, so that the rest of the program is not starved."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Used when a call gives none, 0 to 2. Default: 0.2 for `smollm2`, which its authors recommend, and else 0.6, which
    Meta publishes with Llama 4. (The engine's own is 0.8.)"""
    chat_template: str | None = None
    """Path of a Jinja chat template that replaces the model's own."""

    def default_timeout(self) -> Mapping[str, float]:
        """A CPU may take minutes to read a long prompt, and nobody else's time is wasted by waiting."""
        return {"first_token": 300.0, "idle": 120.0, "total": 1800.0}

    def served_names(self) -> tuple[str, ...]:
        """What a request may call the model: its name or path, and the ids it has in `models`."""
        model = self.model or DEFAULT_MODEL
        return tuple(dict.fromkeys((model, *self.models.values())))


@dataclass(frozen=True, slots=True)
class LocalAdapter(OpenAIChat):
    """OpenAI's dialect, and exact token counts."""

    def count_request(self, request: ChatRequest, target: Target) -> WireRequest:
        """See `spi.TokenCounter`."""
        return replace(self.build_request(request, target, stream=False), url=_url(target, "count"))

    def parse_count(self, response: WireResponse, target: Target) -> int:
        """See `spi.TokenCounter`."""
        try:
            value = from_json(response.body)
        except ValueError:
            value = None
        if not isinstance(value, dict) or not isinstance(value.get("input_tokens"), int):
            raise ProtocolError(f"{target.name}: the engine gave no token count", raw=value)
        count: int = value["input_tokens"]
        return count


def _url(target: Target, path: str = "v1/chat/completions") -> str:
    return f"local://{quote(target.provider, safe='')}/{path}"


def _adjust(body: dict[str, Any], request: ChatRequest, target: Target) -> None:
    if request.images and target.row.features.get("images") == "refuse":
        raise CapabilityError(
            f"{target.name} takes no images: set providers.{target.provider}.mmproj to the model's vision tower",
            missing={target.name: "images"},
        )
    if "repetition_penalty" in body:
        body["repeat_penalty"] = body.pop("repetition_penalty")  # llama.cpp's own name for it


# Tools: the model's own template would drop them in silence, or let prose come before a call. A schema cannot.
_FEATURES: Mapping[Feature, Support] = {
    "tools": "emulate",
    "stream_tools": "emulate",
    "forced_tools": "emulate",
    "images": "refuse",
    "image_url": "emulate",
}
_PARAMETERS: Mapping[str, ParameterRule] = {
    "max_tokens": ParameterRule(minimum=1),
    "temperature": ParameterRule(minimum=0),
    "top_p": ParameterRule(minimum=0, maximum=1),
    "top_k": ParameterRule(minimum=0),
}


def _refine(row: ModelRow, options: LocalSettings) -> ModelRow:
    """The row of whatever model is configured: what counts is the engine, and whether there is a vision tower."""
    features: dict[Feature, Support] = {**row.features, **_FEATURES}
    if options.mmproj:
        features["images"] = "native"
    if row.model == row.model_id and row.model.endswith(".gguf"):
        row = row.evolve(model=PurePath(row.model).stem)  # a file's name is enough of a name
    parameters = {**_PARAMETERS, **row.parameters}
    return row.evolve(features=features, parameters=parameters, context_window=options.context, window_sure=True)


SPEC = ProviderSpec(
    name="local",
    adapter=LocalAdapter(url=_url, adjust=_adjust),
    auth="llamaroute.auth.base:no_auth",
    settings=LocalSettings,
    refine=_refine,
    default_model=DEFAULT_MODEL,
    transport="local",
    extra="local",
)
