"""What callers write as `input` -> messages, and what messages are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaroute.errors import InputError
from llamaroute.types.messages import Message, assistant, messages_from, system, tool_result, user
from llamaroute.types.parts import Document, Image, ImageData, Text, ToolCall, Video

PICTURE = Image("cat.jpg")
CALL = ToolCall("c1", "f", {"a": 1}, '{"a": 1}')
DATA = "data:image/gif;base64,R0lGODlhAQABAAAAACw="


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Hi", [user("Hi")]),
        (Text("Hi"), [user("Hi")]),
        (PICTURE, [user(PICTURE)]),
        (Document("a.pdf"), [user(Document("a.pdf"))]),
        (user("Hi"), [user("Hi")]),
        (["Hi"], [user("Hi")]),
        (("Hi", PICTURE), [user("Hi", PICTURE)]),
        (["a", "b"], [Message("user", (Text("a"), Text("b")))]),
        (["a", assistant("b"), "c", PICTURE], [user("a"), assistant("b"), user("c", PICTURE)]),
        ([system("s"), "a"], [system("s"), user("a")]),
        ([user("a"), user("b")], [user("a"), user("b")]),
        ("", [user("")]),
        ({"role": "user", "content": "Hi"}, [user("Hi")]),
        ([{"role": "system", "content": "s"}, {"role": "user", "content": "Hi"}], [system("s"), user("Hi")]),
        ([{"role": "developer", "content": "s"}, "Hi"], [system("s"), user("Hi")]),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}, [user("a", "b")]),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": DATA}}]}, [user(Image(DATA))]),
        ({"role": "user", "content": [{"type": "image_url", "image_url": DATA}]}, [user(Image(DATA))]),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": DATA, "detail": "low"}}]},
            [user(Image(DATA, detail="low"))],
        ),
        ({"role": "user", "content": ["a", PICTURE]}, [user("a", PICTURE)]),
        (
            [
                "Hi",
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "18"},
            ],
            [user("Hi"), assistant(CALL), Message("tool", (Text("18"),), tool_call_id="c1")],
        ),
        (
            [
                "Hi",
                {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}]},
            ],
            [user("Hi"), assistant(ToolCall("c1", "f", {"a": 1}))],
        ),
        ({"role": "user", "content": "Hi", "name": "Ada"}, [Message("user", (Text("Hi"),), name="Ada")]),
    ],
)
def test_input(value: Any, expected: list[Message]):
    assert messages_from(value) == tuple(expected)


def test_a_system_text_stands_before_everything():
    assert messages_from(["Hi"], system_text="Be brief.") == (system("Be brief."), user("Hi"))
    assert messages_from([system("a"), "Hi"], system_text="b")[0] == system("b")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "NoneType"),
        (5, "int"),
        ([5], r"input\[0\]"),
        (["a", None], r"input\[1\]"),
        ([["a"]], r"input\[0\]"),
        ([], "no message"),
        ([system("s")], "no message"),
        (b"bytes", "bytes|int"),
        (bytearray(b"x"), "bytearray|int"),
        ({"a"}, "set"),
        ({"content": "x"}, "role"),
        ({"role": "bot", "content": "x"}, "role"),
        ({"role": ["user"], "content": "x"}, "role"),
        ({"role": "user", "content": 5}, "content"),
        ({"role": "user", "content": [5]}, r"content\[0\]"),
        ({"role": "user", "content": [{"type": "audio"}]}, "audio"),
        ({"role": "user", "content": [{"type": "text"}]}, "text"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "image_url"),
        ({"role": "user", "content": {"type": "text", "text": "x"}}, "content"),
        ({"role": "tool", "content": "x"}, "tool_call_id"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "function.name"),
        ({"role": "assistant", "tool_calls": ["f"]}, "function.name"),
        ({"role": "assistant", "tool_calls": 5}, "tool_calls"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 5}}]}, "arguments"),
        ({"role": "user", "content": b"bytes"}, "content"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": DATA, "detail": 5}}]}, "detail"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_input_says_where(value: Any, said: str):
    with pytest.raises(InputError, match=said):
        messages_from(value)


def test_arguments_of_a_call_that_are_no_json_are_kept():
    value = ["x", {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{oops"}}]}]
    (call,) = messages_from(value)[1].tool_calls
    assert (call.arguments, call.raw_arguments) == ({}, "{oops")
    assert call.error is not None


def test_images_of_dicts_are_marked_for_they_may_not_name_files():
    content = [{"type": "image_url", "image_url": {"url": "/etc/passwd"}}]
    assert messages_from({"role": "user", "content": content})[0].images[0].from_dict
    assert not messages_from(Image("cat.jpg"))[0].images[0].from_dict


@pytest.mark.parametrize("wrong", [5, None, ["a"], {"role": "user"}])
def test_messages_are_made_of_parts(wrong: Any):
    for make in (user, assistant, system):
        with pytest.raises(InputError):
            make(wrong)


@pytest.mark.parametrize(
    ("call", "content", "expected"),
    [
        (CALL, "18", Message("tool", (Text("18"),), "c1", "f")),
        ("c9", "18", Message("tool", (Text("18"),), "c9", None)),
        (CALL, ["18", PICTURE], Message("tool", (Text("18"), PICTURE), "c1", "f")),
        (CALL, PICTURE, Message("tool", (PICTURE,), "c1", "f")),
    ],
)
def test_tool_results(call: Any, content: Any, expected: Message):
    assert tool_result(call, content) == expected


texts = st.text(max_size=10)
items = st.one_of(
    texts,
    st.builds(Text, texts),
    texts.map(user),
    texts.map(assistant),
    st.builds(lambda text: {"role": "user", "content": text}, texts),
)


@given(st.lists(items, min_size=1, max_size=8))
def test_no_text_is_lost_and_the_order_is_kept(value: list[Any]):
    messages = messages_from(value)

    def text_of(item: Any) -> str:
        return item if isinstance(item, str) else item["content"] if isinstance(item, dict) else item.text

    assert "".join(message.text for message in messages) == "".join(map(text_of, value))
    assert all(message.parts or message.role != "user" for message in messages)
    loose = [isinstance(item, str | Text) for item in value]
    runs = sum(now and not before for before, now in zip([False, *loose], loose, strict=False))
    assert len(messages) == runs + loose.count(False), "neighbours that are loose form one message"


KEYS = [
    "role", "content", "type", "text", "image_url", "url", "tool_calls", "function", "name", "arguments", "id",
    "tool_call_id", "detail",
]  # fmt: skip
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | texts | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=4),
    max_leaves=10,
)
messages_like = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"])},
    optional={"content": json_like, "tool_calls": json_like, "tool_call_id": json_like, "name": json_like},
)


@given(st.one_of(json_like, messages_like, st.lists(messages_like, max_size=3)))
def test_anything_is_messages_or_an_input_error(value: Any):
    try:
        messages = messages_from(value)
    except InputError:
        return
    assert messages
    assert all(isinstance(message, Message) for message in messages)
    for message in messages:
        assert message.tool_call_id is None or isinstance(message.tool_call_id, str)
        assert message.name is None or isinstance(message.name, str)


# -- images -----------------------------------------------------------------------------------------------------------


class Picture:
    """As much of a PIL image as counts."""

    mode = "RGB"

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        raise AssertionError("nothing is read before it is sent")


@pytest.mark.parametrize(
    ("source", "kind", "shown"),
    [
        ("cat.jpg", "path", "Image('cat.jpg')"),
        (Path("cat.jpg"), "path", "Image('cat.jpg')"),
        ("https://h.example/cat.jpg", "url", "Image('https://h.example/cat.jpg')"),
        ("HTTP://h.example/cat.jpg", "url", "Image('HTTP://h.example/cat.jpg')"),
        ("gs://bucket/cat.jpg", "storage", "Image('gs://bucket/cat.jpg')"),
        ("S3://bucket/cat.jpg", "storage", "Image('S3://bucket/cat.jpg')"),
        (DATA, "data-url", "Image(<data-url>)"),
        ("DATA:image/gif;base64,R0", "data-url", "Image(<data-url>)"),
        (b"GIF89a", "bytes", "Image(<6 bytes>)"),
        (bytearray(b"GIF89a"), "bytes", "Image(<6 bytes>)"),
        (Picture(), "pil", "Image(<pil>)"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else None,
)
def test_images_know_where_they_are_from(source: Any, kind: str, shown: str):
    image = Image(source)
    assert image.kind == kind
    assert repr(image) == shown
    assert image.loaded() is None


def test_an_image_shows_its_detail():
    assert repr(Image("a.png", detail="low")) == "Image('a.png', detail='low')"


@pytest.mark.parametrize("wrong", [5, None, ["a"], {"url": "x"}, object()])
def test_what_is_no_image(wrong: Any):
    with pytest.raises(InputError, match="Image"):
        Image(wrong)


SAME = Picture()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Image("a.png"), Image("a.png"), True),
        (Image("a.png"), Image("b.png"), False),
        (Image("a.png"), Image("a.png", detail="low"), False),
        (Image(b"x"), Image(bytearray(b"x")), True),
        (Image(Path("a.png")), Image(Path("a.png")), True),
        (Image(SAME), Image(SAME), True),
        (Image(Picture()), Image(Picture()), False),
    ],
)
def test_equal_images(one: Image, other: Image, same: bool):
    assert (one == other) is same
    if same:
        assert hash(one) == hash(other)
        assert len({one, other}) == 1


def test_an_image_is_nothing_else():
    assert Image("a.png") != "a.png"


def test_loading_does_not_change_what_an_image_is():
    image = Image("a.png")
    data = image.load(ImageData.of("image/png", b"x"))
    assert image.loaded() is data
    assert data.base64 == b"eA=="
    assert image == Image("a.png")


def test_videos_and_documents_are_plain_values():
    assert Video("a.mp4") == Video("a.mp4", frames=8)
    assert Document(b"x") != Document(b"y")
