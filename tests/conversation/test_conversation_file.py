"""Conversations that are saved, and those that are loaded."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pil

import llamaroute as lr
from llamaroute.emulator import Emulator, Reply
from tests.client.api import Api

from .talk import config, load, said, talk


def png(colour: str = "red") -> bytes:
    data = io.BytesIO()
    Pil.new("RGB", (20, 10), colour).save(data, "PNG")
    return data.getvalue()


def weather(city: str) -> str:
    """Weather of a city."""
    return f"Sun over {city}"


async def test_it_goes_on_where_it_was_saved(api: Api, emu: Emulator, tmp_path: Path):
    emu.replies(
        Reply(tool_calls=[("weather", {"city": "Cusco"})], usage=(10, 3)), Reply("Sunny.", usage=(20, 4)), "Bye"
    )
    path = tmp_path / "talk.json"
    async with api.client(config(emu)) as client:
        chat = talk(client, system="Be brief.", temperature=0.5, tools=[weather], headers={"x-key": "secret"})
        await chat.run("Weather in Cusco? 😀")
        chat.save(path)
    text = path.read_text("utf-8")
    assert "secret" not in text
    async with api.client(config(emu)) as client:
        again = load(api, client, path, tools=[weather], headers=None)
        assert again.messages == chat.messages
        assert (again.system, again.usage.total_tokens, again.usage.raw) == ("Be brief.", 37, None)
        assert again.cost == chat.cost
        await again.send("Thanks")
    last = emu.requests[-1].json
    assert last["temperature"] == 0.5
    assert [role for role, _ in said(last["messages"])] == ["system", "user", "assistant", "tool", "assistant", "user"]
    again.save(path)
    assert len(json.loads(path.read_text("utf-8"))["messages"]) == 6


async def test_what_could_not_be_saved_has_to_be_given(api: Api, emu: Emulator, tmp_path: Path):
    path = tmp_path / "talk.json"
    async with api.client(config(emu)) as client:
        talk(client, tools=[weather], headers={"x-a": "b"}, retry=lr.RetryPolicy(attempts=2), seed=3).save(path)
        assert json.loads(path.read_text("utf-8"))["needs"] == ["tools", "headers", "retry"]
        with pytest.raises(lr.InputError, match=r"tools=, retry= could not be saved; give it to load\(\), or None"):
            load(api, client, path, headers={"x-a": "c"})
        loaded = load(api, client, path, headers=None, tools=None, retry=None, seed=4)
        await loaded.send("Hi")
    assert emu.requests[0].json["seed"] == 4
    assert "tools" not in emu.requests[0].json


PICTURE = png()


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, lr.Image]:
    (tmp_path / "a.png").write_bytes(PICTURE)
    loaded = lr.Image("https://example.com/loaded.png")
    from llamaroute.types.parts import ImageData

    loaded.load(ImageData.of("image/png", PICTURE))
    return {
        "path": lr.Image(tmp_path / "a.png", detail="low"),
        "text path": lr.Image(str(tmp_path / "a.png")),
        "bytes": lr.Image(PICTURE),
        "data url": lr.Image(f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"),
        "pil": lr.Image(Pil.open(io.BytesIO(PICTURE))),
        "url": lr.Image("https://example.com/a.png", detail="high"),
        "loaded url": loaded,
        "storage": lr.Image("gs://bucket/a.png"),
    }


KEPT = {
    "inline": {
        "path": "base64", "text path": "base64", "bytes": "base64", "data url": "url", "pil": "base64", "url": "url",
        "loaded url": "base64", "storage": "url",
    },
    "reference": {
        "path": "path", "text path": "path", "bytes": "base64", "data url": "url", "pil": "base64", "url": "url",
        "loaded url": "url", "storage": "url",
    },
}  # fmt: skip


@pytest.mark.parametrize("how", KEPT)
@pytest.mark.parametrize("which", KEPT["inline"])
def test_images(emu: Emulator, tmp_path: Path, pictures: dict[str, lr.Image], how: Any, which: str):
    image = pictures[which]
    path = tmp_path / "talk.json"
    with lr.Client(config(emu), env={}) as client:
        client.conversation(messages=["Look:", image]).save(path, images=how)
        saved = json.loads(path.read_text("utf-8"))["messages"][0]["parts"][1]
        assert saved["type"] == "image"
        assert set(saved) - {"type", "detail", "media_type"} == {KEPT[how][which]}
        again = lr.Conversation.load(path, client).messages[0].images[0]
    assert again.detail == image.detail
    if KEPT[how][which] == "base64":
        data = again.loaded()
        assert data is not None
        assert data.media_type == "image/png"
        assert Pil.open(io.BytesIO(data.data)).size == (20, 10)
    else:
        assert again.kind == ("path" if KEPT[how][which] == "path" else image.kind)
        assert str(again.source) == str(image.source)


def test_a_loaded_image_is_sent(emu: Emulator, tmp_path: Path, pictures: dict[str, lr.Image]):
    path = tmp_path / "talk.json"
    with lr.Client(config(emu), env={}) as client:
        client.conversation(messages=["Look:", pictures["path"]]).save(path)
        (tmp_path / "a.png").unlink()
        reply = lr.Conversation.load(path, client).send("What was it?")
    assert "image/png, 20x10" in reply.text


def test_a_file_that_is_gone_cannot_be_saved(emu: Emulator, tmp_path: Path):
    path = tmp_path / "talk.json"
    with lr.Client(config(emu), env={}) as client:
        chat = client.conversation(messages=["Look:", lr.Image(tmp_path / "gone.png")])
        with pytest.raises(
            lr.InputError, match=r"cannot save the image .*gone.png.*: No such file.*images='reference'"
        ):
            chat.save(path)
        assert not path.exists()
        chat.save(path, images="reference")
        with pytest.raises(lr.InputError, match="images= takes 'inline' or 'reference', not 'all'"):
            chat.save(path, images="all")  # type: ignore[arg-type]


def test_documents_and_videos(emu: Emulator, tmp_path: Path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4 short")
    path = tmp_path / "talk.json"
    parts = [lr.Document(tmp_path / "a.pdf", pages=[2, 1]), lr.Document(b"%PDF"), lr.Video("a.mp4", frames=3)]
    with lr.Client(config(emu), env={}) as client:
        chat = client.conversation(messages=["Look:", *parts])
        chat.save(path)
        _, one, two, three = lr.Conversation.load(path, client).messages[0].parts
        assert one == lr.Document(b"%PDF-1.4 short", pages=[2, 1])
        assert two == lr.Document(b"%PDF")
        assert three == lr.Video("a.mp4", frames=3)
        chat.save(path, images="reference")
        _, one, _, _ = lr.Conversation.load(path, client).messages[0].parts
    assert one == lr.Document(str(tmp_path / "a.pdf"), pages=[2, 1])


GOOD = {
    "format": "llamaroute.conversation", "version": 1, "options": {}, "needs": [], "messages": [], "usage": [],
    "cost": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no saved conversation"),
        ("[]", "has no format 'llamaroute.conversation'"),
        ('{"format": "other"}', "has no format"),
        (json.dumps({**GOOD, "version": 2}), "of version 2; this llamaroute reads version 1"),
        (json.dumps({**GOOD, "messages": None}), "is a damaged conversation"),
        (json.dumps({**GOOD, "messages": [{"role": "king", "parts": []}]}), "damaged conversation: .*no role 'king'"),
        (json.dumps({**GOOD, "messages": [{"role": "user", "parts": [{"type": "smell"}]}]}), "of type 'smell'"),
        (
            json.dumps({**GOOD, "messages": [{"role": "user", "parts": [{"type": "document", "base64": "*"}]}]}),
            "base64 is damaged",
        ),
        (json.dumps({**GOOD, "cost": [{"usd": "many", "estimated": False}]}), "damaged conversation"),
        (json.dumps({**GOOD, "options": {"temprature": 1}}), "no argument temprature="),
    ],
    ids=range(10),
)
def test_other_files_are_refused(emu: Emulator, tmp_path: Path, content: str, said: str):
    path = tmp_path / "talk.json"
    path.write_text(content, "utf-8")
    with lr.Client(config(emu), env={}) as client, pytest.raises(lr.InputError, match=said):
        lr.Conversation.load(path, client)


def test_no_file_and_no_folder(emu: Emulator, tmp_path: Path):
    with lr.Client(config(emu), env={}) as client:
        with pytest.raises(lr.InputError, match=r"cannot load the conversation .*: No such file"):
            lr.Conversation.load(tmp_path / "no.json", client)
        with pytest.raises(lr.InputError, match=r"cannot save the conversation as .*: No such file"):
            client.conversation().save(tmp_path / "no" / "talk.json")


def test_a_failed_save_leaves_the_old_file(emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "talk.json"
    with lr.Client(config(emu), env={}) as client:
        chat = client.conversation(messages=["Hi"])
        chat.save(path)
        before = path.read_bytes()
        monkeypatch.setattr("os.replace", lambda a, b: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(lr.InputError, match="No space left on device"):
            client.conversation(messages=["Other"]).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["talk.json"]
