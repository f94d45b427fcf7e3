"""What the engine in this process can load: the account's own model."""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import ConfigError
from ..local_models import find
from ..pipeline.ops import Plan
from .base import Survey

__all__ = ["discover"]


def discover(survey: Survey) -> Plan[None]:
    """Look for the model's file, and for the engine."""
    options = survey.account.options
    name = options.model or survey.account.spec.default_model or ""

    def look() -> str:
        if find_spec("xllamacpp") is None:
            raise ConfigError(f"{survey.key}: the engine is not installed; pip install 'llamaroute[local]'")
        return str(find(name, key=f"{survey.key}.model"))

    path = yield from survey.blocking(look, "the model", may="")
    survey.add(name, callable=path is not None, note=path or "")
