"""The file that `llamaroute config init` writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .toml_text import toml_table, toml_value

if TYPE_CHECKING:
    from ..spi import ProviderSpec

__all__ = ["starter"]

_HEAD = """\
#:schema llamaroute.schema.json
# For completion in editors: llamaroute config schema > llamaroute.schema.json
# To check this file:        llamaroute config check
#
# "${VAR}" is the variable's value, "${VAR:-x}" has a default. Where any string may stand in a provider's table, so may
# {file = "/run/secrets/x"} and {command = ["pass", "show", "x"]}. No secret needs to stand in this file.

version = 1
default = "chat"  # used when a call names no model: a route, provider:model, or a model
"""

_ROUTE = """\
[routes.chat]  # the first target answers, and the next one when it fails
targets = {targets}
# timeout = {{ connect = 5, first_token = 60, idle = 60, total = 600 }}  # seconds
# retry = {{ attempts = 3, base = 0.5, max = 20 }}
"""

_EXAMPLES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "openai-compatible": ("gpu-box", {"kind": "openai-compatible", "base_url": "http://10.0.0.5:8000/v1"}),
}
"""Kind -> name and table of one that cannot be told from the environment."""

_LOCAL_NOTE = "needs `pip install 'llamaroute[local]'` and once `llamaroute local pull`"


def starter(env: Mapping[str, str]) -> tuple[str, list[str]]:
    """The file's text, and the names of the providers that are active in it.

    A provider is active when the environment has what its vendor's own tools read; it is written with the names of
    those variables. Models in this process come last, as what is left when everything else fails.
    """
    from ..registry import builtin_specs

    active: dict[str, list[str]] = {}
    targets: list[str] = []
    inactive: list[list[str]] = []
    in_process: list[ProviderSpec] = []
    for spec in builtin_specs():
        if spec.transport == "local":
            in_process.append(spec)
        elif table := _found(spec, env):
            active[spec.name] = [f"# {_title(spec)}", *toml_table(("providers", spec.name), table)]
            targets.append(f"{spec.name}:{spec.default_model}" if spec.default_model else spec.name)
        else:
            inactive.append([_title(spec), *_example(spec)])
    for spec in in_process:
        table = {"model": spec.default_model}
        active[spec.name] = [f"# {_title(spec)}; {_LOCAL_NOTE}", *toml_table(("providers", spec.name), table)]
        targets.append(f"{spec.name}:{spec.default_model}")
    blocks = [_HEAD, _ROUTE.format(targets=toml_value(targets))]
    blocks += ["\n".join(lines) + "\n" for lines in active.values()]
    blocks += ["".join(f"# {line}\n" for line in lines) for lines in inactive]
    return "\n".join(blocks), list(active)


def _title(spec: ProviderSpec) -> str:
    return (spec.settings.__doc__ or spec.name).strip().splitlines()[0].rstrip(".")


def _found(spec: ProviderSpec, env: Mapping[str, str]) -> dict[str, Any] | None:
    """The table that the environment makes, with the variables' names in the place of their values."""
    if spec.from_env is None or spec.from_env(env) is None:
        return None
    return _named(spec, [name for name, value in env.items() if value])


def _named(spec: ProviderSpec, variables: list[str]) -> dict[str, Any] | None:
    # Asked once more with every value replaced by its name: no value can get into the file, by construction.
    return spec.from_env({name: f"${{{name}}}" for name in variables}) if spec.from_env else None


def _example(spec: ProviderSpec) -> list[str]:
    name, table = _EXAMPLES.get(spec.name) or (spec.name, _named(spec, list(spec.env)))
    return toml_table(("providers", name), table or {})
