"""Any server that speaks the OpenAI dialect: vLLM, SGLang, llama.cpp, Ollama, TGI, gateways.

TGI's departures are `dialects/tgi.py`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..dialects import tgi
from ..dialects.openai_chat import OpenAIChat
from ..spi import ProviderSettings, ProviderSpec, Target
from .urls import chat_completions_url

__all__ = ["SPEC", "OpenAICompatibleSettings"]


class OpenAICompatibleSettings(ProviderSettings):
    """A server that speaks OpenAI's chat completions."""

    base_url: str = Field(repr=False)
    """URL up to and including the version, such as `http://10.0.0.5:8000/v1`."""
    dialect: Literal["openai", "tgi"] = "openai"
    """`tgi` for Hugging Face's Text Generation Inference, `openai` for everything else."""


def _options(target: Target) -> OpenAICompatibleSettings:
    assert isinstance(target.options, OpenAICompatibleSettings)
    return target.options


def _url(target: Target) -> str:
    return chat_completions_url(_options(target).base_url)


SPEC = ProviderSpec(
    name="openai-compatible",
    adapter=OpenAIChat(url=_url, schema_format=tgi.schema_format, adjust=tgi.adjust, content_or_calls=tgi.is_tgi),
    auth="llamaroute.auth.base:optional_bearer",
    settings=OpenAICompatibleSettings,
    refine=tgi.refine,
)
