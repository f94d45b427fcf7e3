"""The media layer, stepped by hand: files, DNS and HTTP are values sent into the plan."""

from __future__ import annotations

import base64
import importlib
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import PIL.Image
import pytest

from llamaroute import catalog
from llamaroute.errors import CapabilityError, ConfigError, ConnectionError, InputError, ProtocolError, TimeoutError
from llamaroute.layers.media import media
from llamaroute.media.sniff import sniff
from llamaroute.media.tiles import image_tokens
from llamaroute.pipeline.core import Call, Candidate, Ledger, Reply, Timeout
from llamaroute.pipeline.ops import Blocking, Head, Plan, Pull, Send, Sleep
from llamaroute.spi import ProviderSettings, Target
from llamaroute.types.capability import FEATURES, ImageRule, ModelRow
from llamaroute.types.messages import assistant, messages_from, user
from llamaroute.types.parts import Document, Image, ImageData, Text, Video
from llamaroute.types.request import ChatRequest
from llamaroute.types.response import Notice
from tests.media.made import pdf, photo, png_head, quarters, read, saved, video

GIF = b"GIF89a\3\0\2\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\3\0\2\0\0\2\2\x84\x5c\0;"
URL = "https://images.example/cat.gif?signature=SECRET"
SHOWN = r"image URL https://images\.example/cat\.gif"


@dataclass
class Settings:
    max_bytes: int = 1000
    timeout: float = 10.0
    redirects: int = 3
    allow_private: bool = False
    allow_files: bool = True
    max_pixels: int = 20_000_000
    max_tokens: int = 1300
    max_sent: int = 1_000_000
    merge: bool = True
    max_file_bytes: int = 1_000_000
    max_pages: int = 5
    dpi: float = 72.0


@dataclass
class World:
    """What the plan may see: files, names and pages; and what it asked for."""

    files: dict[str, bytes | Exception] = field(default_factory=dict)
    hosts: dict[str, list[str] | Exception] = field(default_factory=lambda: {"images.example": ["1.2.3.4"]})
    pages: dict[str, Any] = field(default_factory=dict)
    """URL -> chunks of a 200, or (status, headers, chunks), or an error."""
    unreachable: dict[str, Exception] = field(default_factory=dict)
    images: Settings = field(default_factory=Settings)
    seconds: float = 0.0
    """What every operation takes."""
    ops: list[Any] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    alone_calls: int = 0
    pulls: int = 0
    late: Exception | None = None
    """Raised instead of the result of a `Blocking`, as when its time has passed."""

    def read_file(self, path: str | os.PathLike[str], limit: int) -> bytes:
        self.reads.append(os.fspath(path))
        found = self.files.get(os.fspath(path), FileNotFoundError(2, "No such file or directory", path))
        if isinstance(found, Exception):
            raise found
        return found[: limit + 1]

    def resolve(self, host: str, port: int) -> list[str]:
        found = self.hosts.get(host, OSError(-2, "Name or service not known"))
        if isinstance(found, Exception):
            raise found
        return found

    def alone(self, work: Callable[[], Any]) -> Any:
        self.alone_calls += 1
        return work()

    def run(self, plan: Plan[Reply], ledger: Ledger) -> Reply:
        """A driver over this world."""
        chunks: list[Any] = []
        value: Any = None
        error: Exception | None = None
        try:
            while True:
                op = plan.throw(error) if error is not None else plan.send(value)
                self.ops.append(op)
                ledger.now += self.seconds
                value = error = None
                try:
                    match op:
                        case Blocking() if self.late is not None:
                            raise self.late
                        case Blocking(fn=fn):
                            value = fn()
                        case Send(request=request, address=address):
                            if address in self.unreachable:
                                raise self.unreachable[address]
                            page = self.pages.get(request.url, (404, {}, []))
                            if isinstance(page, Exception):
                                raise page
                            status, headers, chunks = page if isinstance(page, tuple) else (200, {}, page)
                            chunks = list(chunks)
                            value = Head(status, headers)
                        case Pull():
                            self.pulls += 1
                            value = chunks.pop(0) if chunks else b""
                            if isinstance(value, Exception):
                                raise value
                        case _:
                            raise AssertionError(op)
                except Exception as caught:
                    error = caught
        except StopIteration as end:
            reply: Reply = end.value
            return reply

    @property
    def sent(self) -> list[Send]:
        return [op for op in self.ops if isinstance(op, Send)]


def target(
    *,
    image_url: str = "emulate",
    rule: ImageRule = ImageRule(),  # noqa: B008
    features: Mapping[Any, Any] = MappingProxyType({}),
) -> Target:
    features = {**dict.fromkeys(FEATURES, "native"), "image_url": image_url, **features}
    row = ModelRow("llama-4-scout", "scout", features=features, image=rule)
    return Target("acme", "acme", "llama-4-scout", "scout", ProviderSettings(kind="acme"), row)


def call_of(*content: Any, world: World, at: Target | None = None, deadline: float | None = None) -> Call:
    candidate = Candidate(at or target(), None, None, Timeout(connect=5.0))  # type: ignore[arg-type]
    request = ChatRequest(messages_from(list(content)))
    return Call(request, False, (candidate,), candidate, deadline, Ledger(), candidate.timeout, io=world)


def load(world: World, *content: Any, at: Target | None = None, deadline: float | None = None) -> ChatRequest:
    """Run the layer; the request that the next layer got."""
    seen: list[Call] = []

    def handler(call: Call) -> Plan[Reply]:
        seen.append(call)
        return Reply(call.target)
        yield Sleep(0)  # type: ignore[unreachable]  # it makes this a plan

    call = call_of(*content, world=world, at=at, deadline=deadline)
    world.run(media(call, handler), call.ledger)
    assert len(seen) == 1
    return seen[0].request


def loaded(image: Image) -> bytes:
    data = image.loaded()
    assert data is not None
    assert base64.b64decode(data.base64) == data.data
    assert data.media_type == "image/gif"
    return data.data


# ---- from nearby


def test_without_images_nothing_happens() -> None:
    world = World()
    load(world, "Hi")
    assert world.ops == []


def test_bytes_and_data_urls_need_no_operation() -> None:
    world = World()
    images = Image(GIF), Image(bytearray(GIF)), Image("data:image/png;base64," + base64.b64encode(GIF).decode())
    request = load(world, "What?", *images)
    assert [loaded(image) for image in images] == [GIF] * 3
    assert request.images == images
    assert world.ops == []


@pytest.mark.parametrize("path", ["cat.gif", Path("cat.gif")])
def test_files_are_read_in_a_blocking_operation(path: str | Path) -> None:
    world = World(files={"cat.gif": GIF})
    image = Image(path)
    load(world, image)
    assert loaded(image) == GIF
    assert [type(op) for op in world.ops] == [Blocking]
    assert world.ops[0].until == 10.0


def test_pil_images_are_written_in_a_blocking_operation() -> None:
    world = World()
    image = Image(importlib.import_module("PIL.Image").new("RGB", (2, 2)))
    load(world, image)
    assert image.loaded().media_type == "image/png"  # type: ignore[union-attr]
    assert [type(op) for op in world.ops] == [Blocking]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            FileNotFoundError(2, "No such file or directory"),
            r"^image 'a\.gif' cannot be read: No such file or directory$",
        ),
        (IsADirectoryError(21, "Is a directory"), "cannot be read: Is a directory"),
        (PermissionError(13, "Permission denied"), "cannot be read: Permission denied"),
        (ValueError("embedded null byte"), "cannot be read: embedded null byte"),
        (b"", r"image 'a\.gif' is empty"),
        (b"x" * 5000, r"^image 'a\.gif' is too large: \[images\] max_bytes is 1,000, it has more$"),
        (b"hello", "is not an image but looks like text"),
    ],
)
def test_bad_files(found: bytes | Exception, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(World(files={"a.gif": found}), Image("a.gif"))


def test_files_named_by_message_dicts_are_refused_unread() -> None:
    world = World(files={"/etc/passwd": GIF})
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "/etc/passwd"}}]}
    with pytest.raises(InputError, match=r"image '/etc/passwd': message dicts may not name local files"):
        load(world, message)
    assert world.reads == []


def test_message_dicts_may_hold_urls_and_data_urls() -> None:
    data_url = "data:;base64," + base64.b64encode(GIF).decode()
    urls = (data_url, URL)
    content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    request = load(World(pages={URL: [GIF]}), {"role": "user", "content": content})
    assert [loaded(image) for image in request.images] == [GIF, GIF]


def test_files_can_be_forbidden() -> None:
    world = World(files={"a.gif": GIF}, images=Settings(allow_files=False))
    with pytest.raises(InputError, match=r"local files are not allowed \(\[images\] allow_files is false\)"):
        load(world, Image("a.gif"))
    assert world.reads == []
    load(world, Image(GIF))


@pytest.mark.parametrize("source", ["ftp://a/key?X-Signature=SECRET", "file:///etc/passwd", "ftp://a/b"])
def test_other_schemes_are_no_paths(source: str) -> None:
    world = World()
    with pytest.raises(InputError, match=r"is not taken; give an http\(s\):// URL") as caught:
        load(world, Image(source))
    assert "SECRET" not in str(caught.value)
    assert world.reads == []


@pytest.mark.parametrize("source", ["gs://bucket/cat.png", "GS://bucket/cat.png"])
def test_a_host_reads_its_own_object_storage(source: str) -> None:
    world = World()
    at = target(rule=ImageRule(storage=("gs",)))
    assert load(world, Image(source), at=at).images[0].loaded() is None
    assert load(world, {"role": "user", "content": [{"type": "image_url", "image_url": source}]}, at=at).images
    assert (world.reads, world.sent) == ([], [])


@pytest.mark.parametrize(
    ("source", "storage"), [("s3://bucket/key?X-Amz-Signature=SECRET", ("gs",)), ("gs://bucket/cat.png", ())]
)
def test_object_storage_of_others_is_nobodys(source: str, storage: tuple[str, ...]) -> None:
    world = World()
    with pytest.raises(CapabilityError, match=r"cannot read image '(s3|gs)://bucket/") as caught:
        load(world, Image(source), at=target(rule=ImageRule(storage=storage)))
    assert "SECRET" not in str(caught.value)
    assert (world.reads, world.sent) == ([], [])


def test_a_long_text_taken_for_a_path_is_not_repeated() -> None:
    with pytest.raises(InputError) as caught:
        load(World(), Image("iVBORw0KGgo" + "A" * 5000))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("source", ["data:image/png;base64,*", b"", b"text"])
def test_bad_bytes(source: Any) -> None:
    with pytest.raises(InputError, match=r"the image's data URL|the image \(bytes\)"):
        load(World(), Image(source))


# ---- what was loaded is kept


def test_loaded_images_are_not_loaded_again() -> None:
    world = World(files={"a.gif": GIF}, pages={URL: [GIF]})
    images = Image("a.gif"), Image(URL)
    load(world, *images)
    first = [image.loaded() for image in images]
    count = len(world.ops)
    load(world, *images, at=target(image_url="refuse"))
    assert len(world.ops) == count
    assert [image.loaded() for image in images] == first


def test_one_image_twice_in_a_request_is_loaded_once() -> None:
    world = World(files={"a.gif": GIF})
    image = Image("a.gif")
    load(world, user(image), user("again", image))
    assert world.reads == ["a.gif"]


def test_a_failed_load_leaves_nothing_behind() -> None:
    image = Image(URL)
    with pytest.raises(InputError):
        load(World(pages={URL: [GIF, ConnectionError("broke", phase="idle")]}), image)
    assert image.loaded() is None


def test_threads_share_an_image() -> None:
    image = Image("a.gif")
    threads = [threading.Thread(target=load, args=(World(files={"a.gif": GIF}), image)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded(image) == GIF


# ---- from far away


def test_a_url_step_by_step() -> None:
    world = World()
    image = Image(URL)
    reply = Reply(target())

    def handler(call: Call) -> Plan[Reply]:
        assert loaded(image) == GIF
        return reply
        yield Sleep(0)  # type: ignore[unreachable]  # it makes this a plan

    call = call_of(image, world=world)
    plan = media(call, handler)
    lookup = plan.send(None)
    assert isinstance(lookup, Blocking)
    assert lookup.fn() == ["1.2.3.4"]
    assert (lookup.until, lookup.phase) == (10.0, "connect")
    call.ledger.now = 1.0
    send = plan.send(["1.2.3.4"])
    assert isinstance(send, Send)
    assert (send.request.method, send.request.url, send.request.body) == ("GET", URL, b"")
    assert send.request.headers["accept-encoding"] == "identity"
    assert (send.target, send.address) == (None, "1.2.3.4")
    assert (send.connect, send.answer, send.total) == (5.0, 9.0, 10.0)
    pull = plan.send(Head(200, {"content-length": str(len(GIF)), "content-type": "text/plain"}))
    assert pull == Pull(10.0, "total")
    assert isinstance(plan.send(GIF[:5]), Pull)
    assert isinstance(plan.send(GIF[5:]), Pull)
    with pytest.raises(StopIteration) as end:
        plan.send(b"")
    assert end.value.value is reply


def test_a_host_that_fetches_gets_the_url() -> None:
    world = World(files={"a.gif": GIF})
    images = Image(URL), Image("a.gif"), Image(GIF)
    load(world, *images, at=target(image_url="native"))
    assert images[0].loaded() is None
    assert [loaded(image) for image in images[1:]] == [GIF, GIF]
    assert world.sent == []


def test_images_are_loaded_one_after_the_other() -> None:
    urls = [f"https://images.example/{i}.gif" for i in range(3)]
    world = World(pages={url: [GIF] for url in urls}, seconds=2.0)
    load(world, *(Image(url) for url in urls))
    assert [send.request.url for send in world.sent] == urls
    assert [send.total for send in world.sent] == [10.0, 18.0, 26.0]  # each has the whole `[images] timeout`


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ((404, {}, [b"gone"]), f"^{SHOWN} answers with status 404$"),
        ((403, {}, []), "answers with status 403"),
        ((500, {}, []), "answers with status 500"),
        ((304, {"location": "/x"}, []), "answers with status 304"),
        ((302, {}, []), "answers with status 302"),
        ((204, {}, []), "is empty"),
        ((200, {"content-length": "1001"}, [GIF]), r"too large: \[images\] max_bytes is 1,000, it has 1,001 bytes"),
        ((200, {"content-length": "9" * 18}, [GIF]), "too large"),
        ((200, {"content-length": "100"}, [GIF]), "was cut off: 35 of 100 bytes came"),
        ([b"x" * 600, b"x" * 600, b"x" * 600], r"too large: \[images\] max_bytes is 1,000, it has more"),
        ([b"<html>login</html>"], "looks like an HTML page"),
        ([b"\x1f\x8b\x08\0\0"], "looks like gzip-compressed data"),
        ([GIF, ConnectionError("reset by peer", phase="idle")], f"^{SHOWN} cannot be fetched: reset by peer$"),
        (ProtocolError("bad chunk"), "cannot be fetched: bad chunk"),
        (ConnectionError(f"GET {URL}: refused", phase="connect"), f"cannot be fetched: GET {URL[:30]}: refused"),
        (TimeoutError("slow", phase="connect"), "was not fetched: no connection in time"),
        (TimeoutError("slow", phase="first_token"), r"was not fetched within 10 seconds \(\[images\] timeout\)"),
        ([GIF[:3], TimeoutError("slow", phase="total")], r"was not fetched within 10 seconds"),
    ],
)
def test_bad_answers(page: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(World(pages={URL: page}), Image(URL))
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "headers", [{"content-length": "x"}, {"content-length": "-1"}, {"content-length": "35, 35"}, {}]
)
def test_odd_lengths_are_not_believed(headers: dict[str, str]) -> None:
    image = Image(URL)
    load(World(pages={URL: (200, headers, [GIF])}), image)
    assert loaded(image) == GIF


def test_a_declared_length_over_the_limit_is_refused_before_reading() -> None:
    world = World(pages={URL: (200, {"content-length": "5000"}, [GIF] * 99)})
    with pytest.raises(InputError):
        load(world, Image(URL))
    assert world.pulls == 0


def test_reading_stops_at_the_limit() -> None:
    world = World(pages={URL: [b"x" * 400] * 99})
    with pytest.raises(InputError):
        load(world, Image(URL))
    assert world.pulls == 3


def test_exactly_the_limit_is_taken() -> None:
    image = Image(URL)
    load(World(pages={URL: [GIF]}, images=Settings(max_bytes=len(GIF))), image)
    assert loaded(image) == GIF


# ---- addresses


@pytest.mark.parametrize(
    "addresses",
    [["10.0.0.1"], ["1.2.3.4", "127.0.0.1"], ["2606:4700::1", "::1"], ["::ffff:192.168.0.1"], ["fe80::1%eth0"]],
)
def test_no_address_of_the_host_may_be_private(addresses: list[str]) -> None:
    world = World(hosts={"images.example": addresses}, pages={URL: [GIF]})
    with pytest.raises(InputError, match=rf"{SHOWN} is not fetched: images.example is at .*allow_private is false"):
        load(world, Image(URL))
    assert world.sent == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.1", "[::1]", "169.254.169.254", "[fd00:ec2::254]", "0"]
)
def test_addresses_in_urls_are_checked_without_dns(host: str) -> None:
    world = World()
    with pytest.raises(InputError, match="is not fetched"):
        load(world, Image(f"http://{host}/latest/meta-data"))
    assert world.ops == []


def test_private_addresses_can_be_allowed() -> None:
    world = World(pages={"http://127.0.0.1:8000/a.gif": [GIF]}, images=Settings(allow_private=True))
    image = Image("http://2130706433:8000/a.gif")
    load(world, image)
    assert loaded(image) == GIF
    assert world.sent[0].address == "127.0.0.1"
    with pytest.raises(InputError, match=r"169\.254\.169\.254 is a cloud metadata address$"):
        load(world, Image("http://169.254.169.254/"))


@pytest.mark.parametrize(
    ("host", "found", "message"),
    [
        (
            "nowhere.example",
            OSError(-2, "Name or service not known"),
            "nowhere.example is not found: Name or service not",
        ),
        ("nowhere.example", UnicodeError("label too long"), "is not found: label too long"),
        ("nowhere.example", [], "is not found"),
        ("nowhere.example", ["gibberish"], "not an IP address"),
    ],
)
def test_names_that_lead_nowhere(host: str, found: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(World(hosts={host: found}), Image(f"https://{host}/"))


@pytest.mark.parametrize("url", ["https://user:SECRET@images.example/", "http://", "https://images.example:99999/"])
def test_bad_urls_cause_no_operation(url: str) -> None:
    world = World()
    with pytest.raises(InputError) as caught:
        load(world, Image(url))
    assert world.ops == []
    assert "SECRET" not in str(caught.value)


def test_another_address_is_tried_when_there_is_no_way_to_the_first() -> None:
    world = World(
        hosts={"images.example": ["2606:4700::1", "2606:4700::2", "1.2.3.4", "1.2.3.5"]},
        pages={URL: [GIF]},
        unreachable={
            "2606:4700::1": ConnectionError("no route", phase="connect"),
            "2606:4700::2": TimeoutError("silence", phase="connect"),
        },
    )
    image = Image(URL)
    load(world, image)
    assert loaded(image) == GIF
    assert [(send.address, send.connect) for send in world.sent] == [
        ("2606:4700::1", pytest.approx(10 / 3)),
        ("2606:4700::2", 5.0),
        ("1.2.3.4", 5.0),
    ]


def test_three_addresses_are_enough() -> None:
    addresses = ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]
    world = World(
        hosts={"images.example": addresses},
        unreachable={address: ConnectionError(f"{address} refused", phase="connect") for address in addresses},
    )
    with pytest.raises(InputError, match=r"1\.1\.1\.3 refused"):
        load(world, Image(URL))
    assert len(world.sent) == 3


def test_what_breaks_after_the_connection_is_not_tried_elsewhere() -> None:
    world = World(
        hosts={"images.example": ["1.1.1.1", "1.1.1.2"]},
        unreachable={"1.1.1.1": ConnectionError("reset", phase="first_token")},
    )
    with pytest.raises(InputError, match="reset"):
        load(world, Image(URL))
    assert len(world.sent) == 1


# ---- redirects


def chain(count: int) -> dict[str, Any]:
    """`count` redirects, then an image."""
    pages: dict[str, Any] = {
        f"https://images.example/{i}": (302, {"location": f"/{i + 1}"}, [b"moved"]) for i in range(count)
    }
    return {**pages, f"https://images.example/{count}": [GIF]}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_and_checked_anew(status: int) -> None:
    world = World(
        hosts={"images.example": ["1.2.3.4"], "cdn.example": ["5.6.7.8"]},
        pages={URL: (status, {"location": "//cdn.example/x?y"}, []), "https://cdn.example/x?y": [GIF]},
    )
    image = Image(URL)
    load(world, image)
    assert loaded(image) == GIF
    assert [(send.request.url, send.address) for send in world.sent] == [
        (URL, "1.2.3.4"),
        ("https://cdn.example/x?y", "5.6.7.8"),
    ]
    assert world.pulls == 2  # the redirect's own body is not read


def test_as_many_redirects_as_configured() -> None:
    load(World(pages=chain(3)), Image("https://images.example/0"))
    world = World(pages=chain(4))
    with pytest.raises(InputError, match=r"redirects more than 3 times \(\[images\] redirects\)"):
        load(world, Image("https://images.example/0"))
    assert len(world.sent) == 4
    with pytest.raises(InputError, match="more than 0 times"):
        load(World(pages=chain(1), images=Settings(redirects=0)), Image("https://images.example/0"))


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1/", "http://169.254.169.254/", "http://intern.example/", "file:///etc/passwd", "https://a:b@c/",
     "http://0x7f.1/"],
)  # fmt: skip
def test_redirects_into_the_own_network(location: str) -> None:
    world = World(
        hosts={"images.example": ["1.2.3.4"], "intern.example": ["10.1.1.1"]},
        pages={URL: (302, {"location": location}, []), location: [GIF]},
    )
    with pytest.raises(InputError, match=r"not fetched|redirects") as caught:
        load(world, Image(URL))
    assert len(world.sent) == 1
    assert "SECRET" not in str(caught.value)


def test_a_name_that_changes_its_address_between_hops() -> None:
    world = World(hosts={"images.example": ["1.2.3.4"]}, pages={URL: (302, {"location": "/b"}, [])})
    call = call_of(Image(URL), world=world)
    plan = media(call, lambda _: pytest.fail("not reached"))
    plan.send(None)
    assert isinstance(plan.send(["1.2.3.4"]), Send)
    assert isinstance(plan.send(Head(302, {"location": "/b"})), Blocking)
    with pytest.raises(InputError, match=r"is at 10\.0\.0\.1"):
        plan.send(["10.0.0.1"])


def test_errors_after_a_redirect_name_both() -> None:
    world = World(pages={URL: (302, {"location": "/gone?token=SECRET"}, [])})
    with pytest.raises(
        InputError, match=rf"^{SHOWN} \(redirected to https://images.example/gone\) answers with status 404$"
    ):
        load(world, Image(URL))


# ---- time


def test_the_images_timeout_spans_all_hops() -> None:
    world = World(pages=chain(3), seconds=2.0)
    load(world, Image("https://images.example/0"), deadline=None)
    assert {send.total for send in world.sent} == {10.0}
    assert [send.answer for send in world.sent] == [8.0, 4.0, 0.0, 0.0]


def test_the_calls_end_counts_when_it_comes_first() -> None:
    world = World(pages={URL: [GIF]})
    load(world, Image(URL), deadline=3.0)
    assert world.sent[0].total == 3.0
    assert (world.sent[0].connect, world.sent[0].answer) == (3.0, 3.0)


def test_the_calls_end_stays_a_timeout() -> None:
    late = TimeoutError("the call's time is over", phase="total")
    with pytest.raises(TimeoutError) as caught:
        load(World(pages={URL: late}), Image(URL), deadline=3.0)
    assert caught.value is late
    with pytest.raises(TimeoutError):
        load(World(files={"a": GIF}, late=late), Image("a"), deadline=3.0)
    with pytest.raises(InputError, match=r"within 10 seconds \(\[images\] timeout\)"):
        load(World(pages={URL: late}), Image(URL), deadline=30.0)
    with pytest.raises(TimeoutError):
        load(World(pages={URL: TimeoutError("no", phase="connect")}, seconds=2.0), Image(URL), deadline=3.0)


def test_a_file_that_takes_too_long() -> None:
    world = World(files={"a.gif": GIF}, late=TimeoutError("late", phase="total"))
    with pytest.raises(InputError, match=r"image 'a\.gif' was not read within 10 seconds"):
        load(world, Image("a.gif"))


# ---- what the target takes


# ---- what the target takes

LARGE = Settings(max_bytes=50_000_000, max_file_bytes=50_000_000)


def seen(world: World, *content: Any, at: Target | None = None) -> tuple[ChatRequest, list[Notice]]:
    """What the next layer got, and what the caller is told."""
    call = call_of(*content, world=world, at=at)
    requests: list[ChatRequest] = []

    def handler(inner: Call) -> Plan[Reply]:
        requests.append(inner.request)
        return Reply(inner.target)
        yield Sleep(0)  # type: ignore[unreachable]  # it makes this a plan

    world.run(media(call, handler), call.ledger)
    return requests[0], call.ledger.notices


def data_of(image: Image) -> ImageData:
    data = image.loaded()
    assert data is not None
    assert base64.b64decode(data.base64) == data.data
    found = sniff(data.data)
    assert found is not None
    assert found.media_type == data.media_type
    return data


def size_of(image: Image) -> tuple[int, int]:
    found = sniff(data_of(image).data)
    assert found is not None
    assert found.width is not None
    assert found.height is not None
    return found.width, found.height


def moving(form: str) -> bytes:
    frames = [PIL.Image.new("RGB", (30, 20), shade) for shade in ("red", "blue")]
    return saved(frames[0], form, save_all=True, append_images=frames[1:], duration=100)


def codes(notices: list[Notice]) -> list[str]:
    assert all(notice.feature == "images" for notice in notices)
    return [notice.code for notice in notices]


@pytest.fixture(scope="module")
def photograph() -> bytes:
    return saved(photo(4000, 3000), "JPEG", quality=95)


ROWS = [
    (kind, row)
    for kind in ("azure", "bedrock", "cloudflare", "databricks", "huggingface", "vertex")
    for row in catalog.rows(kind)
    if row.features.get("images") != "refuse"
]


@pytest.mark.parametrize(("kind", "row"), ROWS, ids=[f"{kind}-{row.model_id}" for kind, row in ROWS])
def test_what_a_photograph_costs_on_every_host(kind: str, row: ModelRow, photograph: bytes) -> None:
    at = Target(kind, kind, row.model, row.model_id, ProviderSettings(kind=kind), row)
    image = Image("cat.jpg")
    request, notices = seen(World(files={"cat.jpg": photograph}, images=LARGE), image, at=at)
    (sent,) = request.images
    assert image_tokens(*size_of(sent)) <= 1300
    assert len(data_of(sent).base64) <= 1_000_000
    assert len(data_of(sent).base64) < len(photograph) // 4
    assert notices == [
        Notice("image_resized", "image 'cat.jpg' was reduced from 4000 x 3000 to 896 x 672 pixels", "images")
    ]
    closely, _ = seen(World(files={"cat.jpg": photograph}, images=LARGE), Image("cat.jpg", detail="high"), at=at)
    assert size_of(closely.images[0]) == (1344, 1008)
    assert image_tokens(1344, 1008) == image_tokens(4000, 3000) == 1887


def test_every_host_is_there() -> None:
    assert {kind for kind, _ in ROWS} == {"azure", "bedrock", "cloudflare", "databricks", "huggingface", "vertex"}


@pytest.mark.parametrize(
    ("detail", "size"), [(None, (896, 672)), ("auto", (896, 672)), ("low", (336, 252)), ("high", (1344, 1008))]
)
def test_detail(detail: Any, size: tuple[int, int], photograph: bytes) -> None:
    image = Image("a", detail=detail)
    request, _ = seen(World(files={"a": photograph}, images=LARGE), image)
    assert size_of(request.images[0]) == size
    assert request.images[0].detail == detail
    assert data_of(image).data == photograph  # the caller's own image stays as it is


@pytest.mark.parametrize(
    ("changes", "size"),
    [({"max_tokens": 147}, (336, 252)), ({"max_tokens": 5000}, (1344, 1008)), ({"max_sent": 30_000}, None)],
)
def test_budgets_are_settings(changes: dict[str, int], size: tuple[int, int] | None, photograph: bytes) -> None:
    world = World(files={"a": photograph}, images=replace(LARGE, **changes))
    request, _ = seen(world, Image("a"))
    assert size is None or size_of(request.images[0]) == size
    assert len(data_of(request.images[0]).base64) <= changes.get("max_sent", 1_000_000)


def test_what_fits_is_not_touched() -> None:
    world = World(files={"a": saved(quarters(1008, 672), "JPEG")}, images=LARGE)
    image = Image("a")
    request, notices = seen(world, image)
    assert request.images[0] is image
    assert data_of(image).data == world.files["a"]
    assert notices == []
    assert len(world.ops) == 1  # it was read


def test_changing_is_done_in_a_blocking_operation() -> None:
    world = World(images=LARGE)
    request = load(world, Image(saved(quarters(2000, 1000), "PNG")), deadline=99.0)
    assert [(type(op), op.until) for op in world.ops] == [(Blocking, 99.0)]
    assert size_of(request.images[0]) == (1008, 504)


def test_an_image_is_changed_once_for_all_who_take_the_same() -> None:
    world = World(images=LARGE)
    image = Image(saved(photo(1500, 1000), "PNG"))
    first, notices = seen(world, image)
    assert len(world.ops) == 1
    again, told = seen(world, image)
    assert len(world.ops) == 1
    assert data_of(again.images[0]) is data_of(first.images[0])
    assert told == notices
    assert codes(told) == ["image_resized"]
    other, _ = seen(world, image, at=target(rule=ImageRule(max_bytes=20_000)))
    assert len(world.ops) == 2
    assert len(data_of(other.images[0]).data) <= 20_000
    seen(world, image, at=target(rule=ImageRule(max_bytes=20_000)))
    assert len(world.ops) == 2
    # Other bytes are another picture.
    image.load(ImageData.of("image/png", saved(photo(1600, 1000), "PNG")))
    seen(world, image)
    assert len(world.ops) == 3


def test_urls_left_to_the_host_are_left_alone() -> None:
    world = World()
    request, notices = seen(world, Image(URL), at=target(image_url="native", rule=ImageRule(max_bytes=1)))
    assert world.ops == []
    assert notices == []
    assert request.images[0].loaded() is None


@pytest.mark.parametrize(
    ("data", "rule", "code", "message"),
    [
        (
            saved(quarters(), "BMP"),
            ImageRule(),
            "image_converted",
            "the image (bytes) was sent as image/png instead of image/bmp",
        ),
        (
            saved(quarters(), "GIF"),
            ImageRule(media_types=("image/jpeg",)),
            "image_converted",
            "the image (bytes) was sent as image/jpeg instead of image/gif",
        ),
        (
            saved(photo(400, 400), "JPEG", quality=95, subsampling=0),
            ImageRule(max_bytes=25_000),
            "image_compressed",
            r"the image (bytes) was compressed from [\d,]+ to [\d,]+ bytes",
        ),
        (
            saved(quarters(400, 300), "PNG"),
            ImageRule(max_pixels=30_000),
            "image_resized",
            "the image (bytes) was reduced from 400 x 300 to 200 x 150 pixels",
        ),
        (
            moving("GIF"),
            ImageRule(),
            "image_first_frame",
            "the image (bytes) is animated; only its first frame was sent",
        ),
    ],
)
def test_what_is_lost_is_told(data: bytes, rule: ImageRule, code: str, message: str) -> None:
    _, notices = seen(World(images=LARGE), Image(data), at=target(rule=rule))
    found = {notice.code: notice.message for notice in notices}
    assert re.fullmatch(message.replace("(bytes)", r"\(bytes\)"), found[code]), found


def test_turning_loses_nothing() -> None:
    exif = PIL.Image.Exif()
    exif[274] = 6
    request, notices = seen(World(images=LARGE), Image(saved(quarters(64, 32), "PNG", exif=exif)))
    assert size_of(request.images[0]) == (32, 64)
    assert notices == []


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (ImageRule(max_bytes=30), r"^acme:llama-4-scout: it takes images of at most 30 bytes.*\(image 'a\.gif'\)$"),
        (ImageRule(media_types=("image/x-odd",)), r"it takes image/x-odd, and PNG, JPEG and WebP are what is written"),
    ],
)
def test_what_cannot_be_made_to_fit(rule: ImageRule, message: str) -> None:
    with pytest.raises(CapabilityError, match=message) as caught:
        load(World(files={"a.gif": saved(quarters(3, 2), "GIF")}), Image("a.gif"), at=target(rule=rule))
    assert list(caught.value.missing) == ["acme:llama-4-scout"]


def test_limits_hold_for_loaded_images_too() -> None:
    image = Image(saved(quarters(3, 2), "GIF"))
    load(World(), image)
    with pytest.raises(CapabilityError):
        load(World(), image, at=target(rule=ImageRule(max_bytes=30)))
    load(World(), image, at=target(rule=ImageRule(max_count=1, max_bytes=1000)))


def test_bombs_cause_no_operation() -> None:
    world = World(images=LARGE)
    with pytest.raises(InputError, match=r"^the image \(bytes\) has 9,000 x 9,000 pixels, and \[images\] max_pixels"):
        load(world, Image(png_head(9000, 9000)))
    assert world.ops == []


def test_broken_images_are_named() -> None:
    data = saved(photo(1500, 1000), "JPEG")
    with pytest.raises(InputError, match=r"^image 'a\.jpg' cannot be decoded, it is broken or cut off: "):
        load(World(files={"a.jpg": data[: len(data) // 2]}, images=LARGE), Image("a.jpg"))


def test_a_change_that_takes_too_long() -> None:
    late = TimeoutError("late", phase="total")
    with pytest.raises(TimeoutError) as caught:
        load(World(late=late, images=LARGE), Image(saved(quarters(2000, 1000), "PNG")), deadline=1.0)
    assert caught.value is late


# ---- without Pillow


@pytest.fixture
def no_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)


@pytest.mark.usefixtures("no_pillow")
def test_without_pillow_an_image_goes_as_it_is() -> None:
    data = png_head(3000, 2000)
    image = Image(data)
    request, notices = seen(World(images=LARGE), image)
    assert request.images[0] is image
    assert data_of(image).data == data
    assert notices == [
        Notice(
            "image_not_reduced",
            "the image (bytes) was sent as it is, although it has 3,000 x 2,000 pixels: "
            "it cannot be changed without Pillow (pip install 'llamaroute[images]')",
            "images",
        )
    ]
    assert seen(World(images=LARGE), image)[1] == notices
    assert seen(World(images=LARGE), Image(png_head(300, 200)))[1] == []


@pytest.mark.usefixtures("no_pillow")
@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (ImageRule(max_bytes=30), "it takes images of at most 30 bytes, not 35"),
        (ImageRule(media_types=("image/png",)), "it takes image/png, not image/gif"),
        (ImageRule(max_pixels=5), "it takes images of at most 5 pixels, not 3 x 2"),
    ],
)
def test_without_pillow_what_the_host_forbids_is_refused(rule: ImageRule, why: str) -> None:
    with pytest.raises(CapabilityError) as caught:
        load(World(files={"a.gif": GIF}), Image("a.gif"), at=target(rule=rule))
    assert str(caught.value) == (
        f"acme:llama-4-scout: {why}, and image 'a.gif' cannot be changed without Pillow: "
        "pip install 'llamaroute[images]'"
    )


# ---- more images than the target takes

ONE = ImageRule(max_count=1)


def coloured(count: int) -> list[Image]:
    return [Image(saved(PIL.Image.new("RGB", (64, 48), (20 * number, 99, 0)), "PNG")) for number in range(count)]


def text_of(request: ChatRequest) -> str:
    """Text as it stands, `<>` for each image."""
    return "|".join(
        "".join(part.text if isinstance(part, Text) else "<>" for part in message.parts) for message in request.messages
    )


def test_images_are_merged_where_the_target_takes_one() -> None:
    world = World(images=LARGE)
    images = coloured(3)
    request, notices = seen(world, "Compare", images[0], "with", images[1], "and", images[2], at=target(rule=ONE))
    assert text_of(request) == (
        "Compare<>\n[Images 1 to 3, each below its number]\n\n[Image 1]\nwith\n[Image 2]\nand\n[Image 3]\n"
    )
    message = "acme:llama-4-scout takes at most 1 image in a request; 3 images were merged into 1, with their numbers"
    assert notices == [Notice("images_merged", message, "images")]
    assert [type(op) for op in world.ops] == [Blocking]
    assert size_of(request.images[0]) in {(672, 336), (336, 336), (1008, 336), (336, 672), (336, 1008)}
    assert [image.loaded() is not None for image in images] == [True] * 3
    again, _ = seen(world, "Compare", *images, at=target(rule=ONE))
    assert len(world.ops) == 1
    assert data_of(again.images[0]) is data_of(request.images[0])
    fewer, _ = seen(world, *images[:2], at=target(rule=ONE))
    assert "[Images 1 to 2," in text_of(fewer)
    assert len(world.ops) == 2
    swapped, _ = seen(world, images[0], images[2], at=target(rule=ONE))
    assert data_of(swapped.images[0]) != data_of(fewer.images[0])
    assert len(world.ops) == 3


def test_several_sheets_and_a_single_one() -> None:
    images = coloured(4)
    request, notices = seen(World(images=LARGE), *images, at=target(rule=ImageRule(max_count=3)))
    assert text_of(request) == (
        "<>\n[Images 1 to 2, each below its number]\n\n[Image 1]\n\n[Image 2]\n\n[Image 3]\n<>\n[Image 4]\n<>"
    )
    assert request.images[1:] == tuple(images[2:])
    assert codes(notices) == ["images_merged"]
    assert "3 images in a request; 4 images were merged into 3" in notices[0].message


def test_a_sheet_of_images_from_several_messages() -> None:
    first, second = coloured(2)
    request, _ = seen(
        World(images=LARGE), user("a", first), assistant("b"), user("c", second, first), at=target(rule=ONE)
    )
    assert text_of(request) == (
        "a<>\n[Images 1 to 3, each below its number]\n\n[Image 1]\n|b|c\n[Image 2]\n\n[Image 3]\n"
    )


def test_what_is_fetched_for_a_sheet_is_fetched_even_for_a_host_that_fetches() -> None:
    world = World(pages={URL: [saved(quarters(), "PNG")]})
    request, _ = seen(world, Image(URL), *coloured(1), at=target(image_url="native", rule=ONE))
    assert [send.request.url for send in world.sent] == [URL]
    assert len(request.images) == 1


def test_a_sheet_may_cost_what_its_images_may_and_is_not_reduced_again() -> None:
    images = [Image(saved(photo(1000, 1000, seed), "JPEG")) for seed in range(4)]
    request, notices = seen(World(images=LARGE), *images, at=target(rule=ONE))
    assert image_tokens(*size_of(request.images[0])) > 1300
    assert len(data_of(request.images[0]).base64) <= 1_000_000
    assert codes(notices) == ["images_merged"]


def test_single_images_beside_sheets_are_made_to_fit() -> None:
    images = [*coloured(2), Image(saved(quarters(3000, 2000), "PNG"))]
    request, notices = seen(World(images=LARGE), *images, at=target(rule=ImageRule(max_count=2)))
    assert size_of(request.images[1]) == (1008, 672)
    assert codes(notices) == ["images_merged", "image_resized"]


@pytest.mark.parametrize(
    ("rule", "images", "changes", "message"),
    [
        (ImageRule(max_count=0), 1, {}, "at most 0 images in a request, this one has 1$"),
        (ONE, 2, {"merge": False}, r"at most 1 image in a request, this one has 2, and \[images\] merge is false$"),
        (ONE, 17, {}, "this one has 17, and at most 16 are merged into one$"),
        (ImageRule(max_count=2), 33, {}, "this one has 33, and at most 16 are merged into one$"),
        (ImageRule(max_count=1, storage=("gs",)), "gs://bucket/a.png", {}, "cannot be merged .*only the host can read"),
    ],
)
def test_what_is_not_merged(rule: ImageRule, images: int | str, changes: dict[str, Any], message: str) -> None:
    world = World(files={"a": GIF}, images=replace(LARGE, **changes))
    given = [Image("a"), Image(images)] if isinstance(images, str) else [Image("a") for _ in range(images)]
    with pytest.raises(CapabilityError, match=rf"^acme:llama-4-scout: it takes .*{message}") as caught:
        load(world, *given, at=target(rule=rule))
    assert list(caught.value.missing) == ["acme:llama-4-scout"]
    assert world.ops == []


@pytest.mark.usefixtures("no_pillow")
def test_without_pillow_nothing_is_merged() -> None:
    with pytest.raises(
        CapabilityError, match=r"they cannot be merged without Pillow: pip install 'llamaroute\[images\]'$"
    ):
        load(World(), Image(GIF), Image(GIF), at=target(rule=ONE))


# ---- documents and videos

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)


def colour(image: Image) -> tuple[int, ...]:
    pixel = read(data_of(image).data).convert("RGB").getpixel((5, 5))
    assert isinstance(pixel, tuple)
    return tuple(round(channel / 50) * 50 for channel in pixel)


@pytest.mark.parametrize("source", ["a.pdf", Path("a.pdf"), pdf(RED, GREEN, BLUE)])
def test_the_pages_of_a_document_are_sent_as_images(source: Any) -> None:
    world = World(files={"a.pdf": pdf(RED, GREEN, BLUE)}, images=LARGE)
    document = Document(source)
    request, notices = seen(world, "Read", document, "and tell")
    assert text_of(request) == "Read<><><>and tell"
    assert [colour(image) for image in request.images] == [RED, GREEN, BLUE]
    assert {image.detail for image in request.images} == {"high"}
    what = "the document (bytes)" if isinstance(source, bytes) else "document 'a.pdf'"
    assert notices == [Notice("document_pages", f"{what} was sent as 3 images, one a page", "images")]
    assert [type(op) for op in world.ops] == [Blocking]
    assert world.alone_calls == 1
    again, told = seen(world, document)
    assert len(world.ops) == 1
    assert again.images == request.images
    assert told == notices


def test_chosen_pages_at_their_detail() -> None:
    world = World(images=replace(LARGE, dpi=600.0))
    data = pdf(RED, GREEN, BLUE)
    request, notices = seen(world, Document(data, pages=range(2, 4)), Document(data, pages=[1], detail="low"))
    assert [colour(image) for image in request.images] == [GREEN, BLUE, RED]
    assert [size_of(image) for image in request.images] == [(1008, 1511), (1008, 1511), (224, 336)]
    assert codes(notices) == ["document_pages", "document_pages"]
    cheap, _ = seen(world, Document(data, detail=None))
    assert all(image_tokens(*size_of(image)) <= 1300 for image in cheap.images)


def test_pages_count_as_images() -> None:
    request, notices = seen(World(images=LARGE), Document(pdf(RED, GREEN)), *coloured(1), at=target(rule=ONE))
    assert text_of(request) == ("<>\n[Images 1 to 3, each below its number]\n\n[Image 1]\n\n[Image 2]\n\n[Image 3]\n")
    assert codes(notices) == ["document_pages", "images_merged"]


def test_pages_are_made_what_the_host_takes() -> None:
    at = target(rule=ImageRule(media_types=("image/webp",)))
    request, _ = seen(World(images=LARGE), Document(pdf(RED)), at=at)
    assert data_of(request.images[0]).media_type == "image/webp"


@pytest.mark.parametrize("source", ["a.mp4", Path("a.mp4")])
def test_the_frames_of_a_video_are_sent_as_images(source: Any) -> None:
    world = World(files={"a.mp4": video(40)}, images=LARGE)
    clip = Video(source, frames=4)
    request, notices = seen(world, "Watch", clip)
    assert text_of(request) == "Watch<><><><>"
    lights = [read(data_of(image).data).convert("L").getpixel((9, 9)) for image in request.images]
    assert lights == sorted(lights)
    message = "video 'a.mp4' was sent as 4 images: its frames at 0.5, 1.5, 2.5, 3.5 seconds"
    assert notices == [Notice("video_frames", message, "images")]
    assert [type(op) for op in world.ops] == [Blocking]
    again, told = seen(world, clip)
    assert (len(world.ops), again.images, told) == (1, request.images, notices)


def test_a_document_that_stands_twice_is_read_once() -> None:
    world = World(files={"a.pdf": pdf(RED)}, images=LARGE)
    document = Document("a.pdf")
    request, notices = seen(world, user(document, "and"), user(document))
    assert text_of(request) == "<>and|<>"
    assert world.reads == ["a.pdf"]
    assert len(notices) == 1


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        (Document("none.pdf"), {}, r"^document 'none\.pdf' cannot be read: No such file or directory$"),
        (Video("none.mp4"), {}, r"^video 'none\.mp4' cannot be read: No such file or directory$"),
        (Document("a.txt"), {}, r"^document 'a\.txt' is not a PDF but looks like text$"),
        (Video("a.txt"), {}, r"^video 'a\.txt' is not a video but looks like text; MP4, "),
        (Video("a.txt", frames=0), {}, r"^video 'a\.txt': frames must be a number from 1 to 100, not 0$"),
        (
            Document("a.txt"),
            {"allow_files": False},
            r"^document 'a\.txt': local files are not allowed \(\[images\] allow",
        ),
        (
            Video("a.txt"),
            {"allow_files": False},
            r"^video 'a\.txt': local files are not allowed \(\[images\] allow_files",
        ),
        (Document("a.txt"), {"max_file_bytes": 4}, r"too large: \[images\] max_file_bytes is 4, it has more$"),
        (Document(b"12345"), {"max_file_bytes": 4}, r"too large: \[images\] max_file_bytes is 4, it has 5 bytes$"),
        (Document(pdf(RED, RED)), {"max_pages": 1}, r"has 2 pages to show, and \[images\] max_pages is 1"),
        (
            Document("https://u:SECRET@images.example/a.pdf?SECRET"),
            {},
            r"^document 'https://images\.example/a\.pdf': only paths and bytes are taken, no URLs$",
        ),
        (Video("data:video/mp4;base64,AAAA"), {}, r"^video \(a data URL\): only paths and bytes are taken, no URLs$"),
        (Document(5), {}, r"^the document \(bytes\): a path or bytes are taken, not int$"),  # type: ignore[arg-type]
    ],
)
def test_documents_and_videos_that_cannot_be_shown(part: Any, changes: dict[str, Any], message: str) -> None:
    world = World(files={"a.txt": b"hello"}, images=replace(LARGE, **changes))
    with pytest.raises(InputError, match=message) as caught:
        load(world, part)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "at", [target(rule=ImageRule(max_count=0)), target(features={"images": "refuse"})], ids=["none", "refused"]
)
def test_a_target_without_images_gets_no_documents(at: Target) -> None:
    world = World(files={"a.pdf": pdf(RED)})
    with pytest.raises(CapabilityError, match=r"^acme:llama-4-scout takes no images, and so no documents and videos$"):
        load(world, Document("a.pdf"), at=at)
    assert world.ops == []


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, part, extra in (("pypdfium2", Document(b"%PDF-"), "documents"), ("av", Video("a.mp4"), "video")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ConfigError, match=rf"pip install 'llamaroute\[{extra}\]'"):
            load(World(files={"a.mp4": b"x"}), part)
