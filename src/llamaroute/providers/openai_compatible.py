"""Any server that speaks the OpenAI dialect: vLLM, SGLang, llama.cpp, Ollama, TGI, gateways.

TGI speaks it with departures: https://github.com/huggingface/text-generation-inference (router/src), v3.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from ..dialects.openai_chat import OpenAIChat
from ..dialects.openai_request import SchemaFormat, openai_format
from ..errors import CapabilityError
from ..spi import ProviderSettings, ProviderSpec, Target
from ..types.capability import ModelRow, ParameterRule
from ..types.request import ChatRequest
from ..types.tools import JsonSchema
from .urls import chat_completions_url

__all__ = ["SPEC", "OpenAICompatibleSettings", "adjust_for_tgi", "refine_for_tgi", "tgi_format"]


class OpenAICompatibleSettings(ProviderSettings):
    """A server that speaks OpenAI's chat completions."""

    base_url: str = Field(repr=False)
    """URL up to and including the version, such as `http://10.0.0.5:8000/v1`."""
    dialect: Literal["openai", "tgi"] = "openai"
    """`tgi` for Hugging Face's Text Generation Inference, `openai` for everything else."""


def tgi_format(schema: JsonSchema) -> Mapping[str, Any]:
    """`response_format` as TGI takes it; OpenAI's `json_schema` key is an error there."""
    return {"type": "json_object", "value": schema.schema}


_TGI_PARAMETERS = {
    "presence_penalty": ParameterRule(
        supported=False, note="TGI turns a presence penalty p into a repetition penalty of p + 2, whatever p is"
    ),
    "top_k": ParameterRule(supported=False, note="TGI's chat route ignores top_k"),
    "repetition_penalty": ParameterRule(supported=False, note="TGI's chat route ignores repetition_penalty"),
    "parallel_tool_calls": ParameterRule(supported=False, note="TGI makes at most one tool call"),
    "frequency_penalty": ParameterRule(minimum=-2, maximum=2),
    "seed": ParameterRule(minimum=0),
    "temperature": ParameterRule(minimum=0),
    "top_p": ParameterRule(minimum=0, maximum=1),
    "stop": ParameterRule(maximum=4, note="TGI takes at most 4 stop sequences"),
    "max_tokens": ParameterRule(minimum=1),
}


def refine_for_tgi(row: ModelRow) -> ModelRow:
    """A row as TGI serves it."""
    return row.evolve(parameters={**row.parameters, **_TGI_PARAMETERS})


def adjust_for_tgi(body: dict[str, Any], request: ChatRequest, target: Target) -> None:
    """TGI's departures in the parameters."""
    top_p = body.get("top_p")
    if top_p == 1:
        del body["top_p"]  # "off", which is TGI's default; sending it is a 422
    elif top_p is not None and not 0 < top_p < 1:
        raise CapabilityError(
            f"{target.name}: TGI takes top_p strictly between 0 and 1, not {top_p}",
            missing={target.name: f"top_p={top_p}"},
        )
    if request.tools and request.output is not None:
        raise CapabilityError(
            f"{target.name}: TGI takes either tools or a JSON schema in one request, not both",
            missing={target.name: "tools together with output="},
        )


def _options(target: Target) -> OpenAICompatibleSettings:
    assert isinstance(target.options, OpenAICompatibleSettings)
    return target.options


def _url(target: Target) -> str:
    return chat_completions_url(_options(target).base_url)


def _is_tgi(target: Target) -> bool:
    # Its message is either {role, content} or {role, tool_calls}; content wins, even an empty one.
    return _options(target).dialect == "tgi"


def _schema_format(target: Target) -> SchemaFormat:
    return tgi_format if _options(target).dialect == "tgi" else openai_format


def _adjust(body: dict[str, Any], request: ChatRequest, target: Target) -> None:
    if _options(target).dialect == "tgi":
        adjust_for_tgi(body, request, target)


def _refine(row: ModelRow, options: OpenAICompatibleSettings) -> ModelRow:
    return refine_for_tgi(row) if options.dialect == "tgi" else row


SPEC = ProviderSpec(
    name="openai-compatible",
    adapter=OpenAIChat(url=_url, schema_format=_schema_format, adjust=_adjust, content_or_calls=_is_tgi),
    auth="llamaroute.auth.base:optional_bearer",
    settings=OpenAICompatibleSettings,
    refine=_refine,
)
