"""What the tests of every cloud read of an answer."""

from __future__ import annotations

from typing import Any


def codes(response: Any) -> list[str]:
    """Without what the catalogue says of the model's end: that depends on the day."""
    return [notice.code for notice in response.warnings if notice.code != "model_ending"]


async def streamed(client: Any, *args: Any, **options: Any) -> Any:
    """The answer of a stream, after its end."""
    async with client.stream(*args, **options) as stream:
        text = "".join([piece async for piece in stream.text()])
    assert text == stream.response.text
    return stream.response
