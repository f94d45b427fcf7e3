"""Large images, many images, documents and videos through whole clients to the emulated hosts."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import llamaroute as lr
from llamaroute.emulator import Emulator
from llamaroute.media.sniff import sniff
from llamaroute.media.tiles import image_tokens
from tests.media.made import pdf, photo, quarters, saved, video


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def sent(emulator: Emulator) -> list[bytes]:
    """The bytes of the images that arrived."""
    content = emulator.requests[-1].json["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return [base64.b64decode(url.partition(",")[2]) for url in urls]


def test_a_photograph(emulator: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(saved(photo(4000, 3000), "JPEG", quality=95))
    with lr.Client({"providers": emulator.providers("cloudflare")}) as client:
        answer = client.chat(["What is this?", lr.Image(path)])
    assert [notice.code for notice in answer.warnings] == ["image_resized"]
    (data,) = sent(emulator)
    found = sniff(data)
    assert found is not None
    assert (found.width, found.height) == (896, 672)
    assert image_tokens(896, 672) == 1017
    assert len(emulator.requests[-1].body) <= 1_000_000 + 1000


@pytest.mark.parametrize(("part", "code"), [("document", "document_pages"), ("video", "video_frames")])
def test_documents_and_videos_alone(emulator: Emulator, tmp_path: Path, part: str, code: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(pdf((250, 0, 0), (0, 250, 0)) if part == "document" else video(20))
    item = lr.Document(path) if part == "document" else lr.Video(path, frames=2)
    with lr.Client({"providers": emulator.providers("cloudflare")}) as client:
        whole = client.chat(["What is this?", item])
        with client.stream(["What is this?", item]) as stream:
            streamed = "".join(stream.text())
    assert [notice.code for notice in whole.warnings] == [code]
    assert whole.text.startswith("I see 2 images")
    assert streamed == whole.text
    assert len(sent(emulator)) == 2


def test_more_images_than_the_host_takes(emulator: Emulator) -> None:
    images = [lr.Image(saved(quarters(300 + number, 200), "PNG")) for number in range(5)]

    async def main() -> Any:
        async with lr.AsyncClient({"providers": emulator.providers("vertex")}) as client:
            return await client.chat(["Compare", *images], model="llama-4-maverick")

    answer = asyncio.run(main())
    assert [notice.code for notice in answer.warnings] == ["images_merged"]
    assert len(sent(emulator)) == 3


def test_a_host_without_images_gets_no_pages(emulator: Emulator) -> None:
    table = emulator.providers("cloudflare")["cloudflare"]
    config = {"providers": {"blind": {**table, "features": {"images": "refuse"}}}}
    with lr.Client(config) as client, pytest.raises(lr.CapabilityError, match="cannot serve images"):
        client.chat(["What is this?", lr.Document("none.pdf")])
    assert emulator.requests == []
