"""One local HTTP server that speaks the hosts' wire formats, quirks and faults included: no account needed.

It is written from the hosts' documents and recordings and shares no code with the rest of the package, on purpose: a
mistake in how llamaroute reads a host must not be repeated by the server that it is tested against.
"""

from __future__ import annotations

from .answer import Headers, RecordedRequest
from .core import Emulator
from .hosts import HOSTS
from .images import ImageSeen
from .model import GgufModel, Model, ModelError, UpstreamModel
from .prompt import Prompt
from .script import Fault, Reply

__all__ = [
    "HOSTS",
    "Emulator",
    "Fault",
    "GgufModel",
    "Headers",
    "ImageSeen",
    "Model",
    "ModelError",
    "Prompt",
    "RecordedRequest",
    "Reply",
    "UpstreamModel",
]
