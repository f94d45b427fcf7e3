"""Kinds of providers: the library's own, and those that other packages register.

A package adds a kind with an entry point that resolves to a `ProviderSpec`:

    [project.entry-points."llamaroute.providers"]
    my-host = "my_package:SPEC"

The library's own kinds are a table here, so that no start of a program pays for reading the metadata of every
installed package; entry points are read when a kind is asked for that the table does not have.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache

from .errors import ConfigError
from .spi import SPI_VERSION, Auth, AuthSettings, ProviderSpec

__all__ = ["ENTRY_POINT_GROUP", "builtin_specs", "known_kinds", "make_auth", "provider_spec"]

ENTRY_POINT_GROUP = "llamaroute.providers"

_BUILTIN = {
    "cloudflare": "llamaroute.providers.cloudflare",
    "azure": "llamaroute.providers.azure",
    "databricks": "llamaroute.providers.databricks",
    "huggingface": "llamaroute.providers.huggingface",
    "openai-compatible": "llamaroute.providers.openai_compatible",
    "vertex": "llamaroute.providers.vertex",
    "bedrock": "llamaroute.providers.bedrock",
    "local": "llamaroute.providers.local",
}


def known_kinds() -> tuple[str, ...]:
    """Names of all kinds, the library's own and registered ones, sorted."""
    return tuple(sorted({*_BUILTIN, *_entry_points()}))


def builtin_specs() -> tuple[ProviderSpec, ...]:
    """The library's own kinds."""
    return tuple(provider_spec(kind) for kind in _BUILTIN)


@cache
def provider_spec(kind: str, *, account: str | None = None) -> ProviderSpec:
    """The spec of a kind.

    Args:
        kind: as written in the config file.
        account: the account's name, for the message.

    Raises:
        ConfigError: no such kind, or its package does not import or speaks another version of the contract.
    """
    key = f"providers.{account or kind}.kind"
    module = _BUILTIN.get(kind)
    if module is not None:
        spec: object = importlib.import_module(module).SPEC
    else:
        found = _entry_points().get(kind)
        if found is None:
            import difflib

            near = difflib.get_close_matches(kind, known_kinds(), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{key}: no provider kind {kind!r}{hint} (known: {', '.join(known_kinds())})", key=key)
        try:
            spec = found()
        except Exception as error:
            raise ConfigError(
                f"{key}: the package that registers {kind!r} failed to import: {error}", key=key
            ) from error
    if not isinstance(spec, ProviderSpec):
        raise ConfigError(f"{key}: {kind!r} is registered as {type(spec).__name__}, not as a ProviderSpec", key=key)
    if spec.spi_version != SPI_VERSION:
        raise ConfigError(
            f"{key}: {kind!r} was written for version {spec.spi_version} of the provider contract, "
            f"this is version {SPI_VERSION}; update its package",
            key=key,
        )
    return spec


def make_auth(spec: ProviderSpec, settings: AuthSettings) -> Auth:
    """The account's `Auth`, from what the spec names.

    Raises:
        ConfigError: credentials are missing, or an extra is.
    """
    factory = spec.auth
    try:
        if isinstance(factory, str):
            module, _, name = factory.partition(":")
            factory = getattr(importlib.import_module(module), name)
        assert callable(factory)
        return factory(settings)
    except ImportError as error:
        hint = f"; pip install 'llamaroute[{spec.extra}]'" if spec.extra else ""
        raise ConfigError(
            f"providers.{settings.provider}: {error.name or error} is not installed{hint}",
            key=f"providers.{settings.provider}.kind",
        ) from error


@cache
def _entry_points() -> dict[str, Callable[[], object]]:
    from importlib.metadata import entry_points

    return {point.name: point.load for point in entry_points(group=ENTRY_POINT_GROUP)}
