"""Llama 4's own tokenizer, for exact counts: `pip install 'llamaroute[tokenizer]'`.

The vocabulary is Meta's file `tokenizer.model`, which the package `llama-models` carries under the Llama 4 Community
License; `tiktoken` runs it. Nothing of it is part of this library. `LLAMAROUTE_TOKENIZER` names another copy of the
file, for those who install tiktoken alone. Whatever copy it is, its SHA-256 is checked, so that a count called exact
is.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from .errors import ConfigError

__all__ = ["VARIABLE", "Tokenizer", "find", "load"]

VARIABLE: Final = "LLAMAROUTE_TOKENIZER"
"""Environment variable with the path of Llama 4's `tokenizer.model`."""

PACKAGE: Final = "llama_models"
MEMBER: Final = ("llama4", "tokenizer.model")
SHA256: Final = "d0bdbaf59b0762c8c807617e2d8ea51420eb1b1de266df2495be755c8e0ed6ed"

_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN: Final = "|".join(
    (
        rf"{_LEAD}{_UPPER}*{_LOWER}+{_SHORT}",
        rf"{_LEAD}{_UPPER}+{_LOWER}*{_SHORT}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
"""How text is cut before it is encoded: words, up to three digits, punctuation, white space.

https://github.com/meta-llama/llama-models/blob/main/models/llama4/tokenizer.py (2025-04-05)
"""

_RESERVED = r"(?:text_post_train_|vision_|reasoning_)?reserved_special_token_\d{1,4}"
_MARKS = (
    "begin_of_text|end_of_text|fim_prefix|fim_middle|fim_suffix|header_start|header_end|eom|eot|step|python_start|"
    "python_end|finetune_right_pad|image_start|image_end|tile_x_separator|tile_y_separator|image|patch|"
    "reasoning_thinking_start|reasoning_thinking_end"
)
SPECIAL: Final = re.compile(rf"<\|(?:{_MARKS}|{_RESERVED})\|>")
"""What is one token of its own wherever it stands, as servers read a rendered prompt."""

_CHUNK = 50_000
"""Characters encoded at once: runs of more than some 100,000 blanks overflow the stack of tiktoken's regex engine."""
_LOOK = 5_000
"""Characters in which a place is looked for where the text can be cut without changing a token: before a blank that
stands behind a letter or digit, for no piece goes on from one to the other. Where there is none, a token is cut."""
_WORD = re.compile(r"[A-Za-z0-9]")


class Tokenizer:
    """Counts the tokens of a text. Safe to share between threads."""

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding

    def __call__(self, text: str) -> int:
        """Tokens of `text`; the format's marks (`<|eot|>`) count as one each."""
        if "<|" not in text:
            return self._plain(text)
        total = at = 0
        for mark in SPECIAL.finditer(text):
            total += self._plain(text[at : mark.start()]) + 1
            at = mark.end()
        return total + self._plain(text[at:])

    def _plain(self, text: str) -> int:
        total = at = 0
        while at < len(text):
            end = at + _CHUNK
            if end < len(text):
                low, seam = end - _LOOK, end
                while seam > low and not (text[seam] in " \n" and _WORD.match(text, seam - 1)):
                    seam -= 1
                end = seam if seam > low else end
            total += len(self._encoding.encode_ordinary(text[at:end]))
            at = end
        return total


_lock = threading.Lock()
_loaded: dict[Path, Tokenizer] = {}


def find(env: Mapping[str, str]) -> Path | None:
    """Where the vocabulary is: what `LLAMAROUTE_TOKENIZER` names, or in the installed package; None if nowhere."""
    if own := env.get(VARIABLE):
        return Path(own).expanduser()
    spec = find_spec(PACKAGE)  # found, not imported
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder).joinpath(*MEMBER)
        if path.is_file():
            return path
    return None


def load(env: Mapping[str, str]) -> Tokenizer | None:
    """The tokenizer, loaded once for the process (0.3 s, 80 MB); None when the extra is not installed.

    Raises:
        ConfigError: `LLAMAROUTE_TOKENIZER` names no readable file, another file, or tiktoken is missing beside it.
    """
    path = find(env)
    if path is None:
        return None
    with _lock:
        if path not in _loaded:
            made = _make(path, named=bool(env.get(VARIABLE)))
            if made is None:
                return None
            _loaded[path] = made
        return _loaded[path]


def _make(path: Path, *, named: bool) -> Tokenizer | None:
    try:
        import tiktoken
    except ImportError:
        if not named:
            return None
        raise ConfigError(
            f"{VARIABLE} is set, and running the tokenizer takes tiktoken: pip install 'llamaroute[tokenizer]' "
            "(or tiktoken alone)",
            key=VARIABLE,
        ) from None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{VARIABLE}: cannot read {path}: {error.strerror or error}", key=VARIABLE) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        if not named:
            return None  # another version of the package: its counts might be others, so none are called exact
        raise ConfigError(
            f"{VARIABLE}: {path} is not the tokenizer of Llama 4 (sha256 {digest}, not {SHA256}); name the file "
            "tokenizer.model of Llama 4, or install 'llamaroute[tokenizer]'",
            key=VARIABLE,
        )
    ranks = {base64.b64decode(piece): int(rank) for piece, rank in map(bytes.split, data.splitlines())}
    return Tokenizer(tiktoken.Encoding("tokenizer", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={}))
