"""Hugging Face: the router to many inference providers, and dedicated endpoints.

Router: https://huggingface.co/docs/inference-providers/index
Endpoints: https://huggingface.co/docs/inference-endpoints/index (TGI, vLLM, SGLang or llama.cpp inside)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from ..dialects import tgi
from ..dialects.openai_chat import OpenAIChat
from ..spi import HeaderText, ProviderSettings, ProviderSpec, Target
from ..types.capability import ModelRow
from ..types.request import ChatRequest
from .urls import chat_completions_url, join_url

__all__ = ["SPEC", "HuggingFaceSettings"]

ROUTER = "https://router.huggingface.co/v1"


class HuggingFaceSettings(ProviderSettings):
    """Hugging Face: the router by default, a dedicated endpoint with `url`."""

    url: str | None = Field(default=None, repr=False)
    """URL of a dedicated endpoint, such as `https://abc.us-east-1.aws.endpoints.huggingface.cloud`."""
    inference_provider: str | None = None
    """Router only: provider (`nscale`) or policy (`fastest`, `cheapest`, `preferred`) to add to the model's id."""
    bill_to: HeaderText | None = None
    """Organisation or resource group that pays (`X-HF-Bill-To`)."""
    dialect: Literal["openai", "tgi"] = "openai"
    """What runs inside a dedicated endpoint: `tgi`, or `openai` for vLLM, SGLang and llama.cpp."""
    scale_up_timeout: int = Field(default=300, ge=0, le=3600)
    """Dedicated endpoints only: seconds the proxy holds a request while an endpoint that was scaled to zero starts;
    0 lets it answer 503 at once. `timeout.first_token` grows by as much unless it is set."""

    def default_timeout(self) -> Mapping[str, float]:
        """An endpoint that starts from zero keeps its first caller waiting."""
        return {"first_token": 60.0 + self.scale_up_timeout} if self.url and self.scale_up_timeout else {}


def _options(target: Target) -> HuggingFaceSettings:
    assert isinstance(target.options, HuggingFaceSettings)
    return target.options


def _url(target: Target) -> str:
    options = _options(target)
    if options.url:
        # Hugging Face's own client completes a URL without a version by /v1/chat/completions.
        bare = urlsplit(options.url).path.rstrip("/")
        versioned = bare.endswith(("/v1", "/chat/completions"))
        return chat_completions_url(options.url if versioned else join_url(options.url, "v1"))
    return chat_completions_url(options.base_url or ROUTER)


def _headers(request: ChatRequest, target: Target) -> Mapping[str, str]:
    options = _options(target)
    headers = {}
    if options.bill_to:
        headers["x-hf-bill-to"] = options.bill_to
    if options.url and options.scale_up_timeout:
        # https://huggingface.co/docs/inference-endpoints/autoscaling#scaling-to-0
        headers["x-scale-up-timeout"] = str(options.scale_up_timeout)
    return headers


def _refine(row: ModelRow, options: HuggingFaceSettings) -> ModelRow:
    row = tgi.refine(row, options)
    if options.url is None and options.inference_provider and ":" not in row.model_id:
        return row.evolve(model_id=f"{row.model_id}:{options.inference_provider}")
    return row


def _from_env(env: Mapping[str, str]) -> dict[str, Any] | None:
    if env.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None
    token = env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN")
    return {"api_key": token} if token else None


SPEC = ProviderSpec(
    name="huggingface",
    adapter=OpenAIChat(
        url=_url, schema_format=tgi.schema_format, headers=_headers, adjust=tgi.adjust, content_or_calls=tgi.is_tgi
    ),
    auth="llamaroute.auth.base:huggingface",
    settings=HuggingFaceSettings,
    from_env=_from_env,
    refine=_refine,
    default_model="llama-4-scout",
    env=("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
)
