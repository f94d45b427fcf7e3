"""The tokenizer against Meta's own, and what happens where it is not there."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaroute import tokenizer as module
from llamaroute.errors import ConfigError
from llamaroute.tokenizer import PATTERN, SPECIAL, VARIABLE, Tokenizer, find, load

from .corpus import LANGUAGES, own

PIECES = st.one_of(
    st.text(),
    st.text(" \t\n\r\u00a0\u2028", max_size=30),
    st.text("aZ1'/.-\n é漢", max_size=60),
    st.sampled_from(["<|eot|>", "<|header_start|>", "<|no_such_mark|>", "<|", "it's I'LL", "\r\n\r\n", "\ud7ff😀"]),
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)


def metas(meta: Any, text: str) -> int:
    """Meta's count, with the format's marks read as marks."""
    return len(meta.model.encode(text, allowed_special="all"))


def test_text_is_cut_as_meta_cuts_it(meta: Any):
    assert meta.O200K_PATTERN == PATTERN


def test_each_mark_is_one_token(tokenizer: Tokenizer, meta: Any):
    assert len(meta.special_tokens) == 2048
    assert [mark for mark in meta.special_tokens if tokenizer(mark) != 1] == []
    assert [mark for mark in meta.special_tokens if SPECIAL.fullmatch(mark) is None] == []


@settings(deadline=None, max_examples=400)
@given(text=TEXTS)
def test_counts_are_metas(tokenizer: Tokenizer, meta: Any, text: str):
    assert tokenizer(text) == metas(meta, text)


@pytest.mark.parametrize("name", LANGUAGES)
def test_languages(tokenizer: Tokenizer, meta: Any, name: str):
    assert tokenizer(LANGUAGES[name]) == metas(meta, LANGUAGES[name])


def test_long_texts_are_cut_where_it_changes_nothing(tokenizer: Tokenizer, meta: Any):
    text = "\n\n".join(own().values())
    assert len(text) > 10 * module._CHUNK
    assert tokenizer._plain(text) == len(meta.model.encode_ordinary(text))


@pytest.mark.parametrize("unit", [" ", "\n", "=-", "漢字", "x", "a1b"])
def test_what_has_no_seam_is_off_by_a_token_per_cut(tokenizer: Tokenizer, meta: Any, unit: str):
    """Runs of a million blanks overflow the stack of the regex engine; Meta's own cuts them too, elsewhere."""
    text = unit * (300_000 // len(unit))
    exact = meta.encode(text, bos=False, eos=False)
    cuts = len(text) // module._CHUNK + len(text) // 25_000
    assert abs(tokenizer(text) - len(exact)) <= cuts + 1


def test_it_is_loaded_once_for_all_threads(tokenizer: Tokenizer):
    found: list[Tokenizer | None] = []
    threads = [threading.Thread(target=lambda: found.append(load({}))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each is tokenizer for each in found] == [True] * 4


def test_threads_count_alike(tokenizer: Tokenizer):
    text = LANGUAGES["English"] * 2000
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(tokenizer(text))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [tokenizer(text)] * 4


# -- where it is, and where it is not ---------------------------------------------------------------------------------


def test_the_package_is_found_without_importing_it():
    path = find({})
    assert path is not None
    assert path.parts[-3:] == ("llama_models", "llama4", "tokenizer.model")


def test_the_variable_goes_before_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    original = find({})
    assert original is not None
    copy = tmp_path / "mine.model"
    copy.write_bytes(original.read_bytes())
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert find({}) is None
    assert load({}) is None
    loaded = load({VARIABLE: str(copy)})
    assert loaded is not None
    assert loaded("Hello world, how are you?") == 7


def test_another_file_is_refused(tmp_path: Path):
    other = tmp_path / "tokenizer.model"
    other.write_bytes(b"SGk= 0\n")
    with pytest.raises(ConfigError, match=r"is not the tokenizer of Llama 4 \(sha256 .*; name the file") as caught:
        load({VARIABLE: str(other)})
    assert caught.value.key == VARIABLE


def test_a_missing_file_is_told(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"LLAMAROUTE_TOKENIZER: cannot read .*nowhere: No such file"):
        load({VARIABLE: str(tmp_path / "nowhere")})


def test_another_version_of_the_package_counts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tokenizer.model").write_bytes(b"SGk= 0\n")
    monkeypatch.setattr(module, "find", lambda env: tmp_path / "tokenizer.model")
    assert load({}) is None


def test_without_tiktoken(monkeypatch: pytest.MonkeyPatch):
    path = find({})
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    monkeypatch.setattr(module, "_loaded", {})
    assert load({}) is None
    with pytest.raises(ConfigError, match=r"takes tiktoken: pip install 'llamaroute\[tokenizer\]'"):
        load({VARIABLE: str(path)})
