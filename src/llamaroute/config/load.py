"""Finding, reading and checking the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from ..errors import ConfigError
from ..types.dataclass import dataclass
from .check import cross_check, settings_class, validation_problems
from .files import FILE_NAMES, find_file, others_file, read_file, search_folders
from .models import Config, StateSettings, registry_specs
from .problems import KeyPath, Problem, config_error, did_you_mean
from .values import SecretReader, child_annotation, expand_user, members, resolve_secrets, resolve_variables

if TYPE_CHECKING:
    from ..spi import ProviderSettings, ProviderSpec

__all__ = ["LoadedConfig", "load_config"]

ENVIRONMENT = "environment variables"
GIVEN = "config"


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration and where it came from.

    Attributes:
        config: the configuration in force.
        origin: for messages: the file's path, `environment variables`, or `config` when it was passed as an object.
        path: the file, or None.
        profile: the profile merged in, or None.
        profiles: names of all profiles the file has.
        files: every file it was made from (the config file, then secret files), for watching.
    """

    config: Config
    origin: str
    path: Path | None = None
    profile: str | None = None
    profiles: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def load_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None,
    *,
    profile: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    specs: Callable[[str], ProviderSpec] | None = None,
    kinds: Callable[[], Iterable[str]] | None = None,
) -> LoadedConfig:
    """Find, read, resolve and check the configuration.

    Args:
        source: a file, a table, or a ready `Config` (taken as it is, only its names are checked). None looks for a
            file: `LLAMAROUTE_CONFIG`, then llamaroute.toml, .yaml, .yml or .json in `cwd` and its parents, then in the
            user's config folder; without any, providers are made from the variables the vendors' own tools read.
        profile: name of the profile merged over the rest. Default: `LLAMAROUTE_PROFILE`, else none.
        env: the environment. Default: the process's.
        cwd: folder that the search begins in and relative paths start from. Default: the working folder.
        specs: kind -> its spec. Default: the registry.
        kinds: all kinds. Default: the registry's; when there is no file, only the library's own.

    Raises:
        ConfigError: no configuration, or something is wrong with it; lists every problem with its key.
    """
    env = os.environ if env is None else env
    # Not resolved: the parents of a folder are those the user sees, also behind a symbolic link.
    try:
        folder = Path(os.path.abspath(cwd or os.curdir))
    except OSError:
        raise ConfigError("the working folder does not exist any more") from None
    specs = specs or registry_specs
    all_kinds = kinds or _registry_kinds
    if isinstance(source, Config):
        if profile:
            raise ConfigError(f"profile {profile!r}: a Config has no profiles")
        if problems := list(cross_check(source, all_kinds)):
            raise config_error(problems, label=GIVEN, file=None)
        return LoadedConfig(source, GIVEN)
    if isinstance(source, Mapping):
        wanted = profile or (env.get("LLAMAROUTE_PROFILE") if source.get("profiles") else None)
        return _build(source, wanted, None, SecretReader(folder, env), specs, all_kinds)

    wanted = profile or env.get("LLAMAROUTE_PROFILE") or None
    named = env.get("LLAMAROUTE_CONFIG") if source is None else os.fspath(source)
    if source is not None and not named:
        raise ConfigError("the config file's path is empty")
    if named:
        path = Path(os.path.abspath(folder / expand_user(named)))
        if source is None and not path.exists():
            raise ConfigError(f"{path}: no such file (LLAMAROUTE_CONFIG names it)", file=str(path))
        reader = SecretReader(path.parent, env)
    elif found := find_file(folders := search_folders(env, folder)):
        path = found
        # A file that was only come across, in a parent folder perhaps, must not run another user's commands.
        reason = "the file belongs to another user; name it with LLAMAROUTE_CONFIG to trust it"
        reader = SecretReader(path.parent, env, reason if others_file(path) else None)
    else:
        return _from_environment(env, folders, wanted, specs, kinds or _builtin_kinds)
    return _build(read_file(path), wanted, path, reader, specs, all_kinds)


def _registry_kinds() -> Iterable[str]:
    from ..registry import known_kinds

    return known_kinds()


def _builtin_kinds() -> Iterable[str]:
    from ..registry import builtin_specs

    return [spec.name for spec in builtin_specs()]


def _build(
    raw: Mapping[str, Any],
    profile: str | None,
    path: Path | None,
    reader: SecretReader,
    specs: Callable[[str], ProviderSpec],
    kinds: Callable[[], Iterable[str]],
) -> LoadedConfig:
    file = str(path) if path else None
    label = file or GIVEN
    try:
        data = _with_profile(raw, profile)
        problems: list[Problem] = []
        whole: set[KeyPath] = set()
        data = resolve_variables(data, reader.env, problems, whole)
        if isinstance(providers := data.get("providers"), Mapping):
            tables: dict[str, Any] = {}
            for name, table in providers.items():
                settings = settings_class(name, table, specs)
                table = resolve_secrets(table, settings, reader, problems, whole, ("providers", name))
                tables[name] = _beside(path, table, settings)
            data["providers"] = tables
        if "state" in data:
            data["state"] = resolve_secrets(data["state"], StateSettings, reader, problems, whole, ("state",))
    except ConfigError as error:
        raise ConfigError(f"{label}: {error}", file=file, key=error.key) from None
    except RecursionError:
        raise ConfigError(f"{label}: nested too deeply", file=file) from None
    config, found = _validate(data, reader, specs, kinds, problems)
    if config is None:
        raise config_error(found, label=f"{label} (profile {profile})" if profile else label, file=file)
    profiles = raw.get("profiles") or {}
    return LoadedConfig(config, label, path, profile, tuple(profiles), ((path,) if path else ()) + tuple(reader.files))


def _beside(file: Path | None, table: Any, settings: type[ProviderSettings] | None) -> Any:
    """A provider's table with its relative paths made to start from the config file's folder.

    A bare word stays as it is: `model = "smollm2"` is a name.
    """
    if file is None or settings is None or not isinstance(table, dict):
        return table
    for key in settings.path_keys:
        value = table.get(key)
        if isinstance(value, str) and (os.sep in value or "/" in value or Path(value).suffix):
            table[key] = str(file.parent / expand_user(value))
    return table


def _validate(
    data: Mapping[str, Any],
    reader: SecretReader,
    specs: Callable[[str], ProviderSpec],
    kinds: Callable[[], Iterable[str]],
    unresolved: list[Problem],
) -> tuple[Config | None, list[Problem]]:
    problems = list(unresolved)
    config = None
    try:
        config = Config.model_validate(data, context={"specs": specs})
    except ValidationError as error:
        problems += validation_problems(error, data, specs, _secrets(data, reader, specs))
    problems += cross_check(data, kinds)
    # What could not be resolved does not fit its place either: that is no second problem.
    broken = {problem.path for problem in unresolved}
    problems = [p for p in problems if p in unresolved or p.kind == "extra_forbidden" or not _below(p.path, broken)]
    return (None if problems else config), problems


def _below(path: KeyPath, broken: set[KeyPath]) -> bool:
    return any(path[: len(other)] == other for other in broken)


def _secrets(data: Mapping[str, Any], reader: SecretReader, specs: Callable[[str], ProviderSpec]) -> list[str]:
    """Values that no message may hold, longest first: a validator of a settings class may quote what it was given."""
    found = set(reader.values)

    def collect(value: Any, annotation: Any, secret: bool) -> None:
        secret = secret or SecretStr in members(annotation)
        if isinstance(value, str) and (secret or ("://" in value and "@" in value)):
            found.add(value)
        elif isinstance(value, (Mapping, list)):
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            for key, item in items:
                collect(item, child_annotation(annotation, key), secret or key == "headers")

    providers = data.get("providers")
    for name, table in providers.items() if isinstance(providers, Mapping) else ():
        collect(table, settings_class(name, table, specs), False)
    collect(data.get("state"), StateSettings, False)
    return sorted((value for value in found if value), key=len, reverse=True)


def _with_profile(raw: Mapping[str, Any], profile: str | None) -> dict[str, Any]:
    """The file's own table, with a profile merged in. The profiles themselves are gone: they are not in force."""
    # An editor's own key in JSON and YAML, for completion.
    data = {key: value for key, value in raw.items() if key not in ("profiles", "$schema")}
    profiles = raw.get("profiles") or {}
    if not isinstance(profiles, Mapping) or not all(isinstance(table, Mapping) for table in profiles.values()):
        raise ConfigError("profiles: should be a table of tables", key="profiles")
    if profile is None:
        return data
    if profile not in profiles:
        hint = did_you_mean(profile, map(str, profiles)) or "; the file has none"
        raise ConfigError(f"unknown profile {profile!r}{hint}", key="profiles")
    table = profiles[profile]
    for key in ("profiles", "version"):
        if key in table:
            raise ConfigError(f"profiles.{profile}.{key}: a profile cannot set this", key=f"profiles.{profile}.{key}")
    return _merged(data, table)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        # One way to a secret replaces another: merged, they would be a table that says both.
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not _is_secret(value):
            result[key] = _merged(old, value)
        else:
            result[key] = value
    return result


def _is_secret(table: Mapping[str, Any]) -> bool:
    return len(table) == 1 and bool(table.keys() & {"file", "command"})


def _from_environment(
    env: Mapping[str, str],
    folders: list[Path],
    profile: str | None,
    specs: Callable[[str], ProviderSpec],
    kinds: Callable[[], Iterable[str]],
) -> LoadedConfig:
    if profile:
        where = "\n".join(_looked_for(folders))
        raise ConfigError(f"profile {profile!r} needs a config file, and none was found\n{where}")
    providers: dict[str, Any] = {}
    variables: list[str] = []
    for kind in kinds():
        try:
            spec = specs(kind)
        except ConfigError as error:  # its package is not installed
            variables.append(f"  {kind}: {error}")
            continue
        table = spec.from_env(env) if spec.from_env else None
        if table is not None:
            providers[kind] = {**table, "kind": kind}
        elif spec.env:
            variables.append(f"  {kind}: {', '.join(spec.env)}")
    if not providers:
        lines = ["no configuration", *_looked_for(folders), "and for the variables of", *variables]
        raise ConfigError("\n".join([*lines, "`llamaroute config init` writes a file to begin with"]))
    # Taken as they are: a token may well have a `${` in it.
    config, problems = _validate({"providers": providers}, SecretReader(folders[0], env), specs, kinds, [])
    if config is None:
        raise config_error(problems, label=ENVIRONMENT, file=None)
    return LoadedConfig(config, ENVIRONMENT)


def _looked_for(folders: list[Path]) -> Iterator[str]:
    yield "looked for the file that LLAMAROUTE_CONFIG names (not set)"
    yield f"for {', '.join(FILE_NAMES)} in"
    yield from (f"  {folder}" for folder in folders)
