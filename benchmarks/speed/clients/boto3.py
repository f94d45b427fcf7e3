"""boto3's Bedrock client: Converse and ConverseStream. It has no async."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config

from .common import AWS_KEYS, AWS_MODEL, AWS_REGION, MAX_TOKENS, TEMPERATURE

_OPTIONS: dict[str, Any] = {
    "modelId": AWS_MODEL,
    "inferenceConfig": {"maxTokens": MAX_TOKENS, "temperature": TEMPERATURE},
}


def _messages(prompt: str, image: bytes | None = None) -> list[Any]:
    content: list[Any] = [{"text": prompt}]
    if image is not None:
        content.append({"image": {"format": "png", "source": {"bytes": image}}})
    return [{"role": "user", "content": content}]


class Sync:
    def __init__(self, base: str) -> None:
        self.client = boto3.client(
            "bedrock-runtime",
            region_name=AWS_REGION,
            endpoint_url=base,
            aws_access_key_id=AWS_KEYS[0],
            aws_secret_access_key=AWS_KEYS[1],
            config=Config(retries={"mode": "standard"}),
        )

    @staticmethod
    def image(png: bytes) -> bytes:
        return png

    new_image = image

    def call(self, prompt: str, image: bytes | None = None) -> str:
        answer = self.client.converse(messages=_messages(prompt, image), **_OPTIONS)
        return str(answer["output"]["message"]["content"][0]["text"])

    def stream(self, prompt: str) -> Iterator[str]:
        for event in self.client.converse_stream(messages=_messages(prompt), **_OPTIONS)["stream"]:
            if found := event.get("contentBlockDelta"):
                yield found["delta"]["text"]
