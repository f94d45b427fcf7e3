"""One API for Meta's Llama 4 on every host: chat, images, tools and JSON that behave the same everywhere.

    import llamaroute as lr

    client = lr.Client()                                  # finds llamaroute.toml
    print(client.chat("Why is the sky blue?").text)

Names are imported when first used: `import llamaroute` loads no provider, no HTTP library and no TLS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import AsyncClient, Client
    from .config.models import Config
    from .conversation import AsyncConversation, AsyncConversationStream, Conversation, ConversationStream
    from .errors import (
        AllTargetsFailedError,
        AuthenticationError,
        CapabilityError,
        ConfigError,
        ConnectionError,
        ContentFilterError,
        ContextLengthError,
        InputError,
        InvalidRequestError,
        LlamarouteError,
        ModelRetiredError,
        NotFoundError,
        OutputValidationError,
        OverloadedError,
        PayloadTooLargeError,
        PermissionDeniedError,
        PolicyError,
        ProtocolError,
        ProviderError,
        QuotaExhaustedError,
        RateLimitError,
        ServerError,
        StreamInterruptedError,
        TimeoutError,
        ToolError,
    )
    from .layers.retry import RetryPolicy
    from .pipeline.core import Timeout
    from .streams import AsyncStream, Stream
    from .tokens import TokenCount
    from .tools.streams import AsyncRunStream, RunStream
    from .types.discovery import Discovered, Discovery, DiscoveryProblem
    from .types.events import (
        Continued,
        FailedOver,
        Finished,
        ReasoningDelta,
        Restarted,
        Retrying,
        RunEvent,
        Started,
        StreamEvent,
        TextDelta,
        ToolCallDelta,
        ToolCallDone,
        ToolCallStarted,
        ToolResult,
        UsageReported,
    )
    from .types.messages import Message, assistant, system, tool_result, user
    from .types.parts import Document, Image, Text, ToolCall, Video
    from .types.plan import Plan, PlannedTarget, Step
    from .types.response import Attempt, AttemptError, ChatResponse, Cost, Notice, Timing, TokenLogprob, Usage
    from .types.routing import TargetHealth
    from .types.run import RunResult
    from .types.tools import JsonSchema, Tool

__version__ = "0.1.0"

_HOME = {
    "client": ("AsyncClient", "Client"),
    "config.models": ("Config",),
    "conversation": ("AsyncConversation", "AsyncConversationStream", "Conversation", "ConversationStream"),
    "errors": (
        "AllTargetsFailedError",
        "AuthenticationError",
        "CapabilityError",
        "ConfigError",
        "ConnectionError",
        "ContentFilterError",
        "ContextLengthError",
        "InputError",
        "InvalidRequestError",
        "LlamarouteError",
        "ModelRetiredError",
        "NotFoundError",
        "OutputValidationError",
        "OverloadedError",
        "PayloadTooLargeError",
        "PermissionDeniedError",
        "PolicyError",
        "ProtocolError",
        "ProviderError",
        "QuotaExhaustedError",
        "RateLimitError",
        "ServerError",
        "StreamInterruptedError",
        "TimeoutError",
        "ToolError",
    ),
    "layers.retry": ("RetryPolicy",),
    "pipeline.core": ("Timeout",),
    "streams": ("AsyncStream", "Stream"),
    "tokens": ("TokenCount",),
    "tools.streams": ("AsyncRunStream", "RunStream"),
    "types.discovery": ("Discovered", "Discovery", "DiscoveryProblem"),
    "types.events": (
        "Continued",
        "FailedOver",
        "Finished",
        "ReasoningDelta",
        "Restarted",
        "Retrying",
        "RunEvent",
        "Started",
        "StreamEvent",
        "TextDelta",
        "ToolCallDelta",
        "ToolCallDone",
        "ToolCallStarted",
        "ToolResult",
        "UsageReported",
    ),
    "types.messages": ("Message", "assistant", "system", "tool_result", "user"),
    "types.parts": ("Document", "Image", "Text", "ToolCall", "Video"),
    "types.plan": ("Plan", "PlannedTarget", "Step"),
    "types.response": ("Attempt", "AttemptError", "ChatResponse", "Cost", "Notice", "Timing", "TokenLogprob", "Usage"),
    "types.routing": ("TargetHealth",),
    "types.run": ("RunResult",),
    "types.tools": ("JsonSchema", "Tool"),
}
_PUBLIC_MODULES = ("catalog", "emulator", "errors", "testing")
"""Reached as attributes too, `lr.catalog.facts(...)`, without an import of their own."""

_MODULES = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "AllTargetsFailedError",
    "AsyncClient",
    "AsyncConversation",
    "AsyncConversationStream",
    "AsyncRunStream",
    "AsyncStream",
    "Attempt",
    "AttemptError",
    "AuthenticationError",
    "CapabilityError",
    "ChatResponse",
    "Client",
    "Config",
    "ConfigError",
    "ConnectionError",
    "ContentFilterError",
    "ContextLengthError",
    "Continued",
    "Conversation",
    "ConversationStream",
    "Cost",
    "Discovered",
    "Discovery",
    "DiscoveryProblem",
    "Document",
    "FailedOver",
    "Finished",
    "Image",
    "InputError",
    "InvalidRequestError",
    "JsonSchema",
    "LlamarouteError",
    "Message",
    "ModelRetiredError",
    "NotFoundError",
    "Notice",
    "OutputValidationError",
    "OverloadedError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "Plan",
    "PlannedTarget",
    "PolicyError",
    "ProtocolError",
    "ProviderError",
    "QuotaExhaustedError",
    "RateLimitError",
    "ReasoningDelta",
    "Restarted",
    "RetryPolicy",
    "Retrying",
    "RunEvent",
    "RunResult",
    "RunStream",
    "ServerError",
    "Started",
    "Step",
    "Stream",
    "StreamEvent",
    "StreamInterruptedError",
    "TargetHealth",
    "Text",
    "TextDelta",
    "TimeoutError",
    "Timeout",
    "Timing",
    "TokenCount",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallDone",
    "ToolCallStarted",
    "ToolError",
    "ToolResult",
    "Usage",
    "UsageReported",
    "Video",
    "__version__",
    "assistant",
    "system",
    "tool_result",
    "user",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _PUBLIC_MODULES:
        return import_module(f".{name}", __name__)
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'llamaroute' has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
