"""Where the config file is, and what it says."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from os.path import isfile  # unlike Path's, False for what is in a folder one may not look into
from pathlib import Path
from typing import Any

from ..errors import ConfigError

__all__ = ["FILE_NAMES", "find_file", "others_file", "read_file", "search_folders"]

FILE_NAMES = ("llamaroute.toml", "llamaroute.yaml", "llamaroute.yml", "llamaroute.json")


def search_folders(env: Mapping[str, str], folder: Path) -> list[Path]:
    """Folders a config file is looked for in: `folder`, its parents, the user's config folder."""
    return [folder, *folder.parents, *_user_folder(env)]


def _user_folder(env: Mapping[str, str]) -> list[Path]:
    home = env.get("HOME") or env.get("USERPROFILE")
    if sys.platform == "win32":
        base = env.get("APPDATA")
    elif (base := env.get("XDG_CONFIG_HOME")) and Path(base).is_absolute():  # relative ones count as not set, says XDG
        pass
    elif sys.platform == "darwin":
        base = home and f"{home}/Library/Application Support"
    else:
        base = home and f"{home}/.config"
    return [Path(base) / "llamaroute"] if base else []


def find_file(folders: list[Path]) -> Path | None:
    """The config file of the first folder that has one.

    Raises:
        ConfigError: that folder has several.
    """
    for folder in folders:
        found = [path for name in FILE_NAMES if isfile(path := folder / name)]
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise ConfigError(f"{folder}: {names} side by side; keep one, or name it with LLAMAROUTE_CONFIG")
        if found:
            return found[0]
    return None


def others_file(path: Path) -> bool:
    """Whether the file belongs to another user (and not to the system's)."""
    if sys.platform == "win32":
        return False
    import os

    return path.stat().st_uid not in (os.getuid(), 0)


def read_file(path: Path) -> dict[str, Any]:
    """The file's content as a table.

    Raises:
        ConfigError: it cannot be read or parsed; says line and column.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise ConfigError(f"{path}: a config file ends in .toml, .yaml, .yml or .json", file=str(path))
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise ConfigError(f"{path}: {reason or 'not a valid path'}", file=str(path)) from None
    problem: str | None = None
    content: Any = None
    try:
        text = data.decode("utf-8-sig")
        if text.strip():
            content = parse(text)
        else:
            problem = "the file is empty; `llamaroute config init` writes one"
    except ConfigError as error:
        problem = str(error)
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        problem = f"not UTF-8 text (at line {line}, column {column})"
    except ValueError:
        problem = "holds a number or date that is out of range"
    except RecursionError:
        problem = "nested too deeply"
    # Raised out here, since a parser's error holds the text of the file, and with it its secrets, as its context.
    if problem:
        raise ConfigError(f"{path}: {problem}", file=str(path))
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: should be a table of keys at the top", file=str(path))
    return content


def _toml(text: str) -> Any:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{str(error)[:1].lower()}{str(error)[1:]}") from None


def _json(text: str) -> Any:
    import json

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for key, value in pairs:
            if key in table:
                raise ConfigError(f"key {key!r} stands twice in one object")
            table[key] = value
        return table

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{error.msg[:1].lower()}{error.msg[1:]} (at line {error.lineno}, column {error.colno})"
        ) from None


def _yaml(text: str) -> Any:
    from importlib import import_module

    try:
        yaml: Any = import_module("yaml")
    except ImportError:
        raise ConfigError("reading YAML needs PyYAML: pip install 'llamaroute[yaml]'") from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def flatten_mapping(self, node: Any) -> None:
            # Called for every mapping before `<<` is merged in: PyYAML itself takes the last of two equal keys.
            seen = set()
            for key, _ in node.value:
                if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        raise yaml.MarkedYAMLError(
                            problem=f"key {key.value!r} stands twice", problem_mark=key.start_mark
                        )
                    seen.add(key.value)
            super().flatten_mapping(node)

    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        # What PyYAML quotes may be a value, unless it is a piece of punctuation.
        problem = re.sub(r"'[^']{3,}'", "...", error.problem or "syntax error") if not _is_key(error) else error.problem
        raise ConfigError(f"{problem}{where}") from None
    except yaml.YAMLError:
        raise ConfigError("holds a character that YAML forbids") from None


def _is_key(error: Any) -> bool:
    return str(error.problem).endswith("stands twice")


_PARSERS = {".toml": _toml, ".json": _json, ".yaml": _yaml, ".yml": _yaml}
