"""Small provider kinds, and `load_config` with a controlled environment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, SecretStr, field_validator

from llamaroute.config.load import LoadedConfig, load_config
from llamaroute.errors import ConfigError
from llamaroute.spi import ProviderSettings, ProviderSpec


class Gateway(BaseModel, extra="forbid"):
    id: str
    token: SecretStr | None = None


class Cloud(ProviderSettings):
    account_id: str
    api: Literal["openai", "native"] = "openai"
    gateway: Gateway | None = None
    tags: dict[str, str | int | bool] = {}
    port: int = 443

    @field_validator("account_id")
    @classmethod
    def _checked(cls, value: str, info: Any) -> str:
        if value == "quote":
            raise ValueError(f"bad headers {info.data['headers']} and key {info.data['api_key'].get_secret_value()}")
        return value


class Box(ProviderSettings):
    base_url: str


def cloud_from_env(env: Any) -> dict[str, Any] | None:
    return {"account_id": env["CLOUD_ACCOUNT"], "api_key": env.get("CLOUD_KEY")} if "CLOUD_ACCOUNT" in env else None


ANY: Any = None
SPECS = {
    "cloud": ProviderSpec(
        "cloud", ANY, ANY, settings=Cloud, from_env=cloud_from_env, env=("CLOUD_ACCOUNT", "CLOUD_KEY")
    ),
    "box": ProviderSpec("box", ANY, ANY, settings=Box),
    "hub": ProviderSpec("hub", ANY, ANY, from_env=lambda env: {"api_key": env["HUB"]} if "HUB" in env else None),
}


def fake_specs(kind: str) -> ProviderSpec:
    if kind == "aws":
        raise ConfigError(
            "providers.aws.kind: boto3 is not installed; pip install 'llamaroute[aws]'", key="providers.aws.kind"
        )
    if kind not in SPECS:
        near = "; did you mean 'cloud'?" if kind.startswith("clo") else ""
        raise ConfigError(f"providers.{kind}.kind: no provider kind {kind!r}{near} (known: box, cloud, hub)",
                          key=f"providers.{kind}.kind")  # fmt: skip
    return SPECS[kind]


@pytest.fixture(scope="session")
def specs() -> Any:
    return fake_specs


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., LoadedConfig]:
    """`load_config` in an empty folder without any variable."""

    def call(source: Any = None, **options: Any) -> LoadedConfig:
        settings: dict[str, Any] = {
            "env": {},
            "cwd": tmp_path,
            "specs": fake_specs,
            "kinds": lambda: ("box", "cloud", "hub"),
        }
        return load_config(source, **(settings | options))

    return call


@pytest.fixture
def fails(load: Callable[..., LoadedConfig]) -> Callable[..., ConfigError]:
    """The error of a `load` that must fail; it carries no foreign exception, which might hold a secret."""

    def call(source: Any = None, **options: Any) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            load(source, **options)
        error = caught.value
        assert error.__cause__ is None
        assert (
            error.__context__ is None
            or type(error.__context__) is ValueError
            or isinstance(error.__context__, (ConfigError, OSError, RecursionError))
        )
        return error

    return call
