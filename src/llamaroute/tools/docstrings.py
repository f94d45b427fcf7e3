"""What a docstring says about parameters, in Google's, NumPy's or Sphinx's style; and the rest of it.

Written here rather than taken from a package, because the rest is what a model reads to decide when to call a tool:
docstring-parser 0.18 drops every section it does not know, and what stands below one, such as a "Note: only for Peru"
after "Args:".

https://google.github.io/styleguide/pyguide.html#doc-function-args
https://numpydoc.readthedocs.io/en/latest/format.html#parameters
https://www.sphinx-doc.org/en/master/usage/domains/python.html#info-field-lists
"""

from __future__ import annotations

import inspect
import re

__all__ = ["read_docstring"]

_SECTION = r"args|arguments|parameters|params|attributes|keyword args|keyword arguments|other parameters"
_GOOGLE = re.compile(rf"(?i)({_SECTION}):\s*")
_NUMPY = re.compile(rf"(?i)({_SECTION})\s*")
_RULE = re.compile(r"-{3,}\s*")
_GOOGLE_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\(.*?\))?\s*:(?:\s+|$)(.*)")
_NUMPY_ENTRY = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?")
_FIELD = re.compile(r"[:@](param|parameter|arg|argument|key|keyword|type)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)")


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The docstring without what it says about parameters, and that: name -> text."""
    lines = inspect.cleandoc(text).splitlines()
    if len(lines) > 1 and _GOOGLE.fullmatch(lines[0]) and lines[1][:1].strip():
        # Nothing stands above the section, so Python took its indentation for the docstring's own.
        lines[1:] = [f"    {line}" for line in lines[1:]]
    rest: list[str] = []
    found: dict[str, str] = {}
    at = 0
    while at < len(lines):
        line = lines[at]
        entries: dict[str, str] = {}
        end = at
        if _GOOGLE.fullmatch(line):
            end = _indented(lines, at + 1)
            entries = _google(lines[at + 1 : end])
        elif _NUMPY.fullmatch(line) and at + 1 < len(lines) and _RULE.fullmatch(lines[at + 1]):
            end, entries = _numpy(lines, at + 2)
        elif field := _FIELD.fullmatch(line):
            end = _indented(lines, at + 1)
            entries = {} if field[1] == "type" else {field[2]: _joined([field[3], *lines[at + 1 : end]])}
            if field[1] == "type":
                at = end
                continue
        if not entries:  # a heading with something else below it is left as it is
            rest.append(line)
            at += 1
            continue
        for name, said in entries.items():
            found.setdefault(name, said)
        at = end
    return re.sub(r"\n{3,}", "\n\n", "\n".join(rest)).strip(), found


def _indented(lines: list[str], start: int) -> int:
    """Where the indented block from `start` ends; blank lines at its end do not belong to it."""
    end = start
    for index in range(start, len(lines)):
        if lines[index].strip():
            if not lines[index][0].isspace():
                break
            end = index + 1
    return end


def _google(block: list[str]) -> dict[str, str]:
    indent = next((len(line) - len(line.lstrip()) for line in block if line.strip()), 0)
    entries: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in block:
        entry = _GOOGLE_ENTRY.fullmatch(line.strip()) if len(line) - len(line.lstrip()) == indent else None
        if entry is not None:
            current = entries.setdefault(entry[1], [])
            current.append(entry[2])
        elif current is not None:
            current.append(line)
        elif line.strip():
            return {}
    return {name: _joined(said) for name, said in entries.items()}


def _numpy(lines: list[str], start: int) -> tuple[int, dict[str, str]]:
    entries: dict[str, str] = {}
    at = start
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
            continue
        entry = _NUMPY_ENTRY.fullmatch(line)
        if entry is None or (at + 1 < len(lines) and _RULE.fullmatch(lines[at + 1])):
            break
        end = _indented(lines, at + 1)
        for name in entry[1].split(","):
            entries[name.strip().lstrip("*")] = _joined(lines[at + 1 : end])
        at = end
    return at, entries


def _joined(lines: list[str]) -> str:
    """Lines that were broken for width as one; paragraphs stay apart."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(line.strip() for line in lines))
    return "\n".join(text for paragraph in paragraphs if (text := " ".join(paragraph.split())))
