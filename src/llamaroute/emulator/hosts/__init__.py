"""The table of emulated hosts. A new host is one file with a `Host` subclass, and one line here."""

from __future__ import annotations

from .aws_credentials import AwsCredentials, AwsSts
from .azure import Azure, AzureModels, AzureServerless
from .azure_control import AzureArm
from .base import Call, Event, Host, Options
from .bedrock import Bedrock
from .cloudflare import Cloudflare, CloudflareGateway
from .databricks import Databricks
from .entra import Entra
from .google import Google
from .huggingface import Endpoint, Router
from .llamacpp import LlamaCpp
from .ollama import Ollama
from .openai import OpenAI
from .tgi import Tgi
from .vertex import Vertex
from .vertex_endpoint import VertexEndpoint
from .vllm import Vllm

__all__ = ["HOSTS", "Call", "Event", "Host", "Options"]

HOSTS: dict[str, type[Host]] = {
    host.name: host
    for host in (
        OpenAI,
        Cloudflare,
        CloudflareGateway,
        Router,
        Endpoint,
        Tgi,
        Vllm,
        LlamaCpp,
        Ollama,
        Bedrock,
        AwsSts,
        AwsCredentials,
        Vertex,
        VertexEndpoint,
        Google,
        Azure,
        AzureModels,
        AzureServerless,
        Databricks,
        Entra,
        AzureArm,
    )
}
