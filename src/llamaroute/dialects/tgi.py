"""What Hugging Face's Text Generation Inference does differently in the OpenAI dialect.

https://github.com/huggingface/text-generation-inference (router/src), v3.3. For accounts whose table says
`dialect = "tgi"`; for all others these hooks change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import CapabilityError
from ..spi import ProviderSettings, Target
from ..types.capability import ModelRow, ParameterRule
from ..types.request import ChatRequest
from ..types.tools import JsonSchema
from .openai_request import SchemaFormat, openai_format

__all__ = ["adjust", "is_tgi", "refine", "schema_format"]


def _speaks(options: ProviderSettings) -> bool:
    return getattr(options, "dialect", None) == "tgi"


def is_tgi(target: Target) -> bool:
    """Whether a target is one. Its message is either {role, content} or {role, tool_calls}; content wins, also ""."""
    return _speaks(target.options)


def schema_format(target: Target) -> SchemaFormat:
    """How the target wants a JSON schema."""
    return tgi_format if is_tgi(target) else openai_format


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


def refine(row: ModelRow, options: ProviderSettings) -> ModelRow:
    """A row as TGI serves it, for accounts that speak to one."""
    if not _speaks(options):
        return row
    return row.evolve(parameters={**row.parameters, **_TGI_PARAMETERS})


def adjust(body: dict[str, Any], request: ChatRequest, target: Target) -> None:
    """TGI's departures in the parameters, for targets that are one."""
    if not is_tgi(target):
        return
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
