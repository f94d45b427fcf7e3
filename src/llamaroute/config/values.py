"""Values that the file does not hold itself: `${VAR}`, `{file = "..."}` and `{command = [...]}`.

What they resolve to is never put into an error message.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

from ..errors import ConfigError
from .problems import KeyPath, Problem, nearest

__all__ = [
    "COMMAND_SECONDS",
    "SecretReader",
    "child_annotation",
    "expand_user",
    "interpolate",
    "members",
    "resolve_secrets",
    "resolve_variables",
]

COMMAND_SECONDS = 10.0
"""Seconds a secret's command may take."""
MAX_SECRET = 1 << 16
"""Bytes of a secret. A longer file is not one."""

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def interpolate(text: str, env: Mapping[str, str]) -> str:
    """`text` with every `${VAR}` and `${VAR:-default}` replaced; `$${` stands for a plain `${`.

    As in a shell, an empty variable counts as one that is not set where a default is given. Without a default it is
    an error too: an empty key or host is never what was meant (`${VAR:-}` allows it).

    Raises:
        ConfigError: a variable is missing, or a reference is malformed.
    """

    def value(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        if not match[2]:
            raise ConfigError("`${` without its `}`; a plain `${` is written `$${`")
        name, default_given, default = match[1].partition(":-")
        if not _NAME.fullmatch(name):
            raise ConfigError("`${...}` holds no variable's name (letters, digits, _); a plain `${` is written `$${`")
        if found := env.get(name):
            return found
        if default_given:
            return default
        if name in env:
            raise ConfigError(f"environment variable {name} is set but empty; write ${{{name}:-}} if it may be")
        close = nearest(name, env, cutoff=0.8)
        raise ConfigError(f"environment variable {name} is not set" + (f"; did you mean {close}?" if close else ""))

    return _REFERENCE.sub(value, text) if "${" in text else text


def resolve_variables(
    value: Any, env: Mapping[str, str], problems: list[Problem], whole: set[KeyPath], path: KeyPath = ()
) -> Any:
    """A copy of `value` with the variables in all its strings replaced. Keys are left alone.

    What cannot be resolved stays as it is and is added to `problems`; the places of strings that are one reference and
    nothing else are added to `whole`.
    """
    if isinstance(value, str):
        if _REFERENCE.fullmatch(value):
            whole.add(path)
        try:
            return interpolate(value, env)
        except ConfigError as error:
            problems.append(Problem(path, str(error), "variable"))
            return value
    if isinstance(value, Mapping):
        return {key: resolve_variables(item, env, problems, whole, (*path, _step(key))) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolve_variables(item, env, problems, whole, (*path, index)) for index, item in enumerate(value)]
    return value


def _step(key: Any) -> str | int:
    return key if isinstance(key, (str, int)) else str(key)


class SecretReader:
    """Reads secrets from files and commands.

    Args:
        folder: what relative paths are relative to, and where commands run.
        env: added to the process's own environment for commands.
        no_commands: why commands may not run, or None.

    Attributes:
        values: everything that was read, so that it can be kept out of messages.
        files: the files that were read.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], no_commands: str | None = None) -> None:
        self.folder = folder
        self.env = env
        self.no_commands = no_commands
        self.values: set[str] = set()
        self.files: list[Path] = []

    def read(self, table: Mapping[str, Any]) -> str:
        """The secret that `{file = ...}` or `{command = ...}` stands for.

        Raises:
            ConfigError: it cannot be had.
        """
        (source, argument), *_ = table.items()
        name, data = self._file(argument) if source == "file" else self._command(argument)
        if len(data) > MAX_SECRET:
            raise ConfigError(f"{name} has more than {MAX_SECRET} bytes, which is no secret")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = None
        if text is None:
            raise ConfigError(f"{name} is not UTF-8 text")
        text = text.rstrip("\r\n")
        if not text:
            raise ConfigError(f"{name} is empty")
        self.values.add(text)
        return text

    def _file(self, argument: Any) -> tuple[str, bytes]:
        if not isinstance(argument, str) or not argument:
            raise ConfigError("`file` should be a path")
        path = self.folder / expand_user(argument)
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SECRET + 1)
        except (OSError, ValueError) as error:
            raise ConfigError(f"secret file {path}: {_reason(error)}") from None
        self.files.append(path)
        return f"secret file {path}", data

    def _command(self, argument: Any) -> tuple[str, bytes]:
        import os
        import subprocess

        if (
            not isinstance(argument, Sequence)
            or isinstance(argument, (str, bytes))
            or not argument
            or not all(isinstance(word, str) for word in argument)
        ):
            raise ConfigError('`command` should be a list of strings, such as ["pass", "show", "x"]; there is no shell')
        name = f"command {argument[0]!r}"
        if self.no_commands:
            raise ConfigError(f"{name} is not run: {self.no_commands}")
        failure: str | None = None
        output = b""
        try:
            # The arguments and the output may be secret, so only the program's name is ever said.
            done = subprocess.run(
                list(argument),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=COMMAND_SECONDS,
                cwd=self.folder,
                env={**os.environ, **self.env},
                check=False,
            )
        except subprocess.TimeoutExpired:
            failure = f"did not end within {COMMAND_SECONDS:g} seconds"
        except (OSError, ValueError) as error:
            failure = _reason(error)
        else:
            output = done.stdout
            if done.returncode:
                failure = f"ended with status {done.returncode}; run it by hand to see why"
        if failure:
            raise ConfigError(f"{name}: {failure}")
        return f"output of {name}", output


def expand_user(path: str) -> Path:
    """The path with `~` replaced, if that means anything."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no home folder
        return Path(path)


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "not a valid path"


def members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a type, without `Annotated`."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(member for argument in get_args(annotation) for member in members(argument))
    return (annotation,)


def child_annotation(annotation: Any, key: str | int) -> Any:
    """The type of what stands under `key`, or Any where that is not known."""
    for member in members(annotation):
        origin, arguments = get_origin(member), get_args(member)
        if isinstance(member, type) and issubclass(member, BaseModel):
            if isinstance(key, str) and key in member.model_fields:
                return member.model_fields[key].annotation
        elif isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
            return arguments[1]
        elif isinstance(origin, type) and issubclass(origin, Sequence) and arguments and isinstance(key, int):
            return arguments[0]
    return Any


def _takes_table(annotation: Any) -> bool:
    for member in members(annotation):
        kind = get_origin(member) or member
        if kind in (Any, object) or (isinstance(kind, type) and issubclass(kind, (Mapping, BaseModel))):
            return True
    return False


def resolve_secrets(
    value: Any,
    annotation: Any,
    reader: SecretReader,
    problems: list[Problem],
    whole: set[KeyPath],
    path: KeyPath,
) -> Any:
    """A copy of a provider's table with its `{file = ...}` and `{command = ...}` replaced by what they stand for.

    Only where the table's class wants a string: `headers = {file = "x"}` is a header named `file`.
    """
    kinds = members(annotation)
    if isinstance(value, Mapping) and not _takes_table(annotation) and (str in kinds or SecretStr in kinds):
        if len(value) != 1 or not value.keys() & {"file", "command"}:
            problems.append(Problem(path, 'should be a string, {file = "..."} or {command = [...]}', "secret"))
            return value
        try:
            return reader.read(value)
        except ConfigError as error:
            problems.append(Problem(path, str(error), "secret"))
            return value

    def inner(item: Any, key: Any) -> Any:
        return resolve_secrets(item, child_annotation(annotation, key), reader, problems, whole, (*path, _step(key)))

    if isinstance(value, Mapping):
        return {key: inner(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [inner(item, index) for index, item in enumerate(value)]
    if value in ("true", "false") and str in kinds and bool in kinds and path in whole:
        # Pydantic makes other scalars from a variable's text, but here text is fine too: `verify = "${VERIFY}"` would
        # name a CA bundle called `false`.
        return value == "true"
    return value
