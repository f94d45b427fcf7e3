"""llamaroute on Amazon Bedrock, with keys that sign each request."""

from __future__ import annotations

from typing import Any

import llamaroute as lr

from . import llamaroute
from .common import AWS_KEYS, AWS_MODEL, AWS_REGION


def _config(base: str) -> dict[str, Any]:
    table = {
        "kind": "bedrock",
        "base_url": base,
        "region": AWS_REGION,
        "access_key_id": AWS_KEYS[0],
        "secret_access_key": AWS_KEYS[1],
        "model": AWS_MODEL,
    }
    return {"providers": {"canned": table}}


class Sync(llamaroute.Sync):
    def __init__(self, base: str) -> None:
        self.client = lr.Client(_config(base))


class Async(llamaroute.Async):
    def __init__(self, base: str) -> None:
        self.client = lr.AsyncClient(_config(base))
