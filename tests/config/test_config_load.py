"""Where the configuration comes from, what is in force, and what is refused."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from llamaroute.config.load import load_config
from llamaroute.config.models import Config, RouteTarget
from llamaroute.providers.openai_compatible import OpenAICompatibleSettings
from llamaroute.spi import ProviderSettings
from llamaroute.types.settings import RetrySettings, TimeoutSettings

BOX = {"base_url": "http://x"}
TOML = '[providers.box]\nbase_url = "http://x"\n'


# -- finding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("llamaroute.toml", "\ufeff" + TOML),
        ("llamaroute.json", '{"$schema": "s.json", "providers": {"box": {"base_url": "http://x"}}}'),
        ("llamaroute.yaml", "providers:\n  box: &b {base_url: 'http://x'}\n  box2: {<<: *b, kind: box}\n"),
        ("llamaroute.yml", "providers: {box: {base_url: 'http://x'}}\n"),
    ],
)
def test_formats_and_parents(load, tmp_path, name, text) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    loaded = load(cwd=below)
    assert loaded.path == tmp_path / name
    assert loaded.origin == str(tmp_path / name)
    assert loaded.files == (tmp_path / name,)
    assert loaded.config.providers["box"].base_url == "http://x"


def test_order_of_places(load, tmp_path) -> None:
    home, project, named = tmp_path / "home/.config/llamaroute", tmp_path / "project", tmp_path / "named.toml"
    home.mkdir(parents=True)
    project.mkdir()
    for path in (home / "llamaroute.toml", project / "llamaroute.toml", named):
        path.write_text(TOML)
    env = {"HOME": str(tmp_path / "home"), "LLAMAROUTE_CONFIG": "../named.toml"}
    assert load(env=env, cwd=project).path == named
    env["LLAMAROUTE_CONFIG"] = ""
    assert load(env=env, cwd=project).path == project / "llamaroute.toml"
    (project / "llamaroute.toml").unlink()
    assert load(project / "../named.toml", env=env).path == named


@pytest.mark.parametrize(
    ("platform", "env", "folder"),
    [
        ("linux", {"HOME": "{}"}, ".config/llamaroute"),
        ("linux", {"HOME": "/no", "XDG_CONFIG_HOME": "{}/xdg"}, "xdg/llamaroute"),
        ("linux", {"HOME": "{}", "XDG_CONFIG_HOME": "relative"}, ".config/llamaroute"),
        ("darwin", {"HOME": "{}"}, "Library/Application Support/llamaroute"),
        ("win32", {"APPDATA": "{}/Roaming"}, "Roaming/llamaroute"),
    ],
)
def test_user_folder(load, tmp_path, monkeypatch, platform, env, folder) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "llamaroute.toml").write_text(TOML)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setattr("llamaroute.config.files.sys.platform", platform)
    found = load(env={key: value.format(tmp_path) for key, value in env.items()}, cwd=work)
    assert found.path == tmp_path / folder / "llamaroute.toml"


def test_two_files_side_by_side(fails, tmp_path) -> None:
    (tmp_path / "llamaroute.toml").write_text(TOML)
    (tmp_path / "llamaroute.json").write_text("{}")
    assert str(fails()) == (
        f"{tmp_path}: llamaroute.toml and llamaroute.json side by side; keep one, or name it with LLAMAROUTE_CONFIG"
    )


def test_without_a_file(load) -> None:
    # What comes from the environment is taken as it is: a token may well have a `${` in it.
    loaded = load(env={"CLOUD_ACCOUNT": "a", "CLOUD_KEY": "k${X}", "HUB": "h"})
    assert list(loaded.config.providers) == ["cloud", "hub"]
    assert loaded.config.providers["cloud"].api_key.get_secret_value() == "k${X}"
    assert (loaded.origin, loaded.path, loaded.files) == ("environment variables", None, ())


def test_without_anything(fails, tmp_path) -> None:
    error = fails(env={"HOME": "/home/me"}, kinds=lambda: ("aws", "cloud", "hub"))
    lines = str(error).splitlines()
    assert lines[:4] == [
        "no configuration",
        "looked for the file that LLAMAROUTE_CONFIG names (not set)",
        "for llamaroute.toml, llamaroute.yaml, llamaroute.yml, llamaroute.json in",
        f"  {tmp_path}",
    ]
    assert "  /home/me/.config/llamaroute" in lines or sys.platform != "linux"
    assert "  cloud: CLOUD_ACCOUNT, CLOUD_KEY" in lines
    assert lines[-1].startswith("`llamaroute config init`")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("c.toml", b"[a]\nb = \n", "invalid value (at line 2, column 5)"),
        ("c.toml", b"a = 1\na = 2\n", "cannot overwrite a value (at line 2, column 6)"),
        ("c.toml", b"a = " + b"[" * 5000, "nested too deeply"),
        ("c.json", b'{"a": 1,\n "b"}', "expecting ':' delimiter (at line 2, column 5)"),
        ("c.json", b'{"a": 1, "a": 2}', "key 'a' stands twice"),
        ("c.json", b"[1]", "should be a table of keys at the top"),
        ("c.json", b'{"a": ' + b"1" * 5000 + b"}", "number or date that is out of range"),
        ("c.yaml", b"a: b: c", "mapping values are not allowed here (at line 1, column 5)"),
        ("c.yaml", b"a: 1\na: 2", "key 'a' stands twice (at line 2, column 1)"),
        ("c.yaml", b"api_key: *sekret", "found undefined alias ... (at line 1, column 10)"),
        ("c.yaml", b"a: !!python/name:os.system x", "could not determine a constructor"),
        ("c.yaml", b"a: \x00", "a character that YAML forbids"),
        ("c.yaml", b"a: &a [*a]", "nested too deeply"),
        ("c.yaml", b"a: 2020-99-99", "number or date that is out of range"),
        ("c.toml", b"a = 1\nb = '\xe9'", "not UTF-8 text (at line 2, column 6)"),
        ("c.toml", b" \n", "the file is empty"),
        ("c.toml", b"# nothing yet\n", "providers: no provider is configured"),
        ("c.conf", b"a", "ends in .toml, .yaml, .yml or .json"),
    ],
)
def test_files_that_cannot_be_read(fails, tmp_path, name, content, says) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    error = fails(path)
    assert str(error).startswith(f"{path}: ")
    assert says in str(error)
    assert "sekret" not in str(error)
    assert error.file == str(path)


def test_no_file(fails, tmp_path) -> None:
    (tmp_path / "folder.toml").mkdir()
    assert "Is a directory" in str(fails("folder.toml"))
    assert "No such file" in str(fails("none.toml"))
    assert "not a valid path" in str(fails("a\0.toml"))
    assert "(LLAMAROUTE_CONFIG names it)" in str(fails(env={"LLAMAROUTE_CONFIG": "none.toml"}))
    assert "path is empty" in str(fails(""))


def test_yaml_needs_its_extra(fails, tmp_path, monkeypatch) -> None:
    (tmp_path / "c.yaml").write_text("a: 1")
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "pip install 'llamaroute[yaml]'" in str(fails("c.yaml"))


def test_a_folder_one_may_not_look_into(load, tmp_path, monkeypatch) -> None:
    (tmp_path / "llamaroute.toml").write_text(TOML)
    real = os.stat

    def stat(path, *args, **kwargs):
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr("os.stat", stat)
    assert load(cwd=tmp_path / "locked").path == tmp_path / "llamaroute.toml"


# -- profiles -----------------------------------------------------------------------------------------------------


PROFILES = {
    "default": "box",
    "providers": {"box": {**BOX, "api_key": {"file": "no-such-file"}, "timeout": {"idle": 3}}},
    "profiles": {
        "prod": {"default": "main",
                 "providers": {"box": {"api_key": {"command": ["echo", "k"]}, "timeout": {"total": 9}}},
                 "routes": {"main": {"targets": ["box:m"]}}},
        "dev": {"providers": {"box": {"api_key": "${NOT_SET}", "bogus": 1}}},
    },
}  # fmt: skip


@pytest.mark.parametrize("options", [{"profile": "prod"}, {"env": {"LLAMAROUTE_PROFILE": "prod"}}])
def test_profile(load, options) -> None:
    loaded = load(PROFILES, **options)
    table = loaded.config.providers["box"]
    assert table.timeout == TimeoutSettings(idle=3, total=9)
    assert table.api_key.get_secret_value() == "k"
    assert (loaded.config.default, loaded.profile, loaded.profiles) == ("main", "prod", ("prod", "dev"))


def test_profile_problems(fails, tmp_path) -> None:
    assert str(fails(PROFILES, profile="prd")) == "config: unknown profile 'prd'; did you mean 'prod'?"
    assert "the file has none" in str(fails({"providers": {"box": BOX}}, profile="prod"))
    assert str(fails(PROFILES, profile="dev", env={"LLAMAROUTE_PROFILE": "prod"})).startswith("config (profile dev): ")
    assert "cannot set this" in str(fails({**PROFILES, "profiles": {"a": {"version": 1}}}, profile="a"))
    assert "should be a table of tables" in str(fails({**PROFILES, "profiles": {"a": 1}}))
    assert "needs a config file" in str(fails(env={"LLAMAROUTE_PROFILE": "prod", "HUB": "x"}))
    assert "a Config has no profiles" in str(fails(Config(), profile="prod"))


# -- what is in force ---------------------------------------------------------------------------------------------


def test_short_and_long_forms(load) -> None:
    routes = {
        "a": {"targets": ["box:m", {"target": "box:n", "weight": 2}], "timeout": 5, "retry": 2},
        "b": {"targets": ["box"], "timeout": {"connect": 1}, "retry": {"attempts": 1, "base": 0.5, "max": 2}},
    }
    config = load({"version": 1, "providers": {"box": BOX}, "routes": routes}).config
    a, b = config.routes["a"], config.routes["b"]
    assert a.targets == (RouteTarget(target="box:m"), RouteTarget(target="box:n", weight=2))
    assert (a.timeout, a.retry) == (TimeoutSettings(total=5), RetrySettings(attempts=2))
    assert (b.timeout, b.retry) == (TimeoutSettings(connect=1), RetrySettings(attempts=1, base=0.5, max=2))
    assert (a.strategy, a.on_break) == ("failover", "fail")
    assert config.images.max_bytes == 20_000_000


def test_a_config_is_taken_as_it_is(load, fails, specs) -> None:
    config = Config(providers={"x": ProviderSettings(kind="hub")}, default="x:m")
    assert load(config).config is config
    assert str(fails(config.model_copy(update={"default": "y:m"}))) == (
        "config: default: 'y:m' names no configured provider; known: x"
    )
    made = Config.model_validate({"providers": {"cloud": {"account_id": "a"}}}, context={"specs": specs})
    assert type(made.providers["cloud"]).__name__ == "Cloud"


def test_dump_keeps_secrets_and_the_settings_own_keys(load) -> None:
    table = {
        "account_id": "a",
        "api_key": "sekret",
        "headers": {"Authorization": "sekret"},
        "proxy": "http://u:sekret@p",
    }
    config = load({"providers": {"cloud": table}}).config
    dump = json.loads(config.model_dump_json())["providers"]["cloud"]
    assert dump["account_id"] == "a"
    assert dump["headers"] == {"Authorization": "**********"}
    assert dump["proxy"] == "http://**********@p"
    assert "sekret" not in f"{config!r} {config} {config.model_dump()}"
    with pytest.raises(ValidationError) as caught:
        Config(providers={"huggingface": {"api_key": ["sekret"]}}, default=["sekret"])
    assert "sekret" not in str(caught.value)


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"provider": {}}, "provider: unknown key; did you mean 'providers'?"),
        ({"version": 2}, "version: should be 1"),
        ({"providers": {"box": {**BOX, "bas_url": 1}}}, "providers.box.bas_url: unknown key; did you mean 'base_url'?"),
        ({"providers": {"cloud": {}}}, "providers.cloud.account_id: is missing"),
        ({"providers": {"cloud": {"account_id": "a", "gateway": {"id": "g", "tokn": 1}}}},
         "providers.cloud.gateway.tokn: unknown key; did you mean 'token'?"),
        ({"providers": {"cloud": {"account_id": "a", "account": "b"}}},
         "providers.cloud.account: unknown key; did you mean 'account_id'?"),
        ({"providers": {"box": {**BOX, "verify": []}}},
         "providers.box.verify: should be a valid boolean or should be a valid string"),
        ({"providers": {"cloudd": {}}},
         "providers.cloudd: no provider kind 'cloudd'; did you mean 'cloud'? (known: box, cloud, hub); "
         "a table whose name is no kind needs the key `kind`"),
        ({"providers": {"x": {"kind": "clod"}}},
         "providers.x.kind: no provider kind 'clod'; did you mean 'cloud'? (known: box, cloud, hub)"),
        ({"providers": {"x": {"kind": "aws"}}},
         "providers.x.kind: boto3 is not installed; pip install 'llamaroute[aws]'"),
        ({"providers": {"box": 3}}, "providers.box: should be a table"),
        ({"providers": []}, "providers: should be a table"),
        ({"providers": {"a:b": {"kind": "hub"}}},
         'providers."a:b": a provider\'s name may not be empty or contain \':\''),
        ({"providers": {"box": {**BOX, "timeout": 0}}}, "providers.box.timeout: should be greater than 0"),
        ({"providers": {"box": {**BOX, "timeout": True}}},
         "providers.box.timeout: should be a value for `total`, or a table"),
        ({"providers": {"box": {**BOX, "timeout": {"conect": 1}}}},
         "providers.box.timeout.conect: unknown key; did you mean 'connect'?"),
        ({"providers": {"box": {**BOX, "timeout": float("inf")}}}, "providers.box.timeout: should be a finite number"),
        ({"providers": {"box": {**BOX, "retry": 0}}}, "providers.box.retry: should be greater than or equal to 1"),
        ({"providers": {"box": {**BOX, "retry": {"base": 3, "max": 2}}}},
         "providers.box.retry: `base` should not be more than `max`"),
        ({"providers": {"box": {**BOX, "features": {"tool": "native"}}}}, "providers.box.features.tool: "),
        ({"routes": {"r": {"targets": []}}}, "routes.r.targets: "),
        ({"routes": {"r": {}}}, "routes.r.targets: is missing"),
        ({"routes": {"r": {"targets": ["bx:m"]}}},
         "routes.r.targets[0]: 'bx:m' names no configured provider; did you mean 'box'?"),
        ({"routes": {"r": {"targets": ["box:m", {"target": "nowhere:m"}]}}},
         "routes.r.targets[1].target: 'nowhere:m' names no configured provider; known: box"),
        ({"routes": {"r": {"targets": ["box:"]}}}, "routes.r.targets[0]: 'box:' names no model"),
        ({"routes": {"r": {"targets": ["r"]}}}, "routes.r.targets[0]: 'r' is a route; "),
        ({"routes": {"r": {"targets": [{"target": "box:m", "wieght": 1}]}}},
         "routes.r.targets[0].wieght: unknown key; did you mean 'weight'?"),
        ({"routes": {"box": {"targets": ["box:m"]}}}, "routes.box: is also the name of a provider"),
        ({"routes": {"box:m": {"targets": ["box:n"]}}}, 'routes."box:m": would hide a model of a provider'),
        ({"default": "bx:m"}, "default: 'bx:m' names no configured provider; did you mean 'box'?"),
        ({"default": ""}, "default: '' names no model"),
        ({"default": "chta", "routes": {"chat": {"targets": ["box:m"]}}},
         "default: 'chta' is neither a route nor a provider; did you mean 'chat'?"),
        ({"models": {"m": {"ids": {"hubb": "x"}}}},
         "models.m.ids.hubb: neither a kind of provider nor a provider; did you mean 'hub'?"),
        ({"models": {"m": {"context_window": 0}}}, "models.m.context_window: should be greater than or equal to 1"),
        ({"images": {"redirects": -1}}, "images.redirects: should be greater than or equal to 0"),
        ({"limits": {"bix": {"concurrency": 1}}}, "limits.bix: names no configured provider; did you mean 'box'?"),
        ({"limits": {"box": {"concurrency": 0}}}, "limits.box.concurrency: should be greater than or equal to 1"),
        ({"limits": {"box": {"rpm": 5}}}, "limits.box.rpm: unknown key"),
        ({"state": {"url": "http://box"}}, "state.url: should be redis://host:port/number, rediss://... or unix:///path"),
        ({"state": {"urls": "redis://localhost"}}, "state.urls: unknown key; did you mean 'url'?"),
        ({"routes": {"r": {"targets": ["box:m"], "strategy": "cheep"}}}, "routes.r.strategy: should be 'failover', "
         "'weighted', 'round-robin', 'lowest-latency', 'cheapest' or 'least-busy'"),
    ],
)  # fmt: skip
def test_one_problem(fails, data, message) -> None:
    error = fails({"providers": {"box": BOX}, **data})
    assert str(error).splitlines()[0].startswith(f"config: {message}"), str(error)
    assert error.key == message.split(": ")[0]
    assert error.file is None


@pytest.mark.parametrize(
    "default",
    ["llama-4-scout", "us.meta.llama4-v1:0", "org/model:fast", "mine", "box", "box:any:thing", "my:own", "r"],
)
def test_defaults_that_may_mean_something(load, default) -> None:
    data = {
        "default": default,
        "providers": {"box": {**BOX, "models": {"mine": "my:own"}}},
        "routes": {"r": {"targets": ["box:m", "box", "llama-4-scout"]}, "llama-4-scout-x": {"targets": ["box:m"]}},
        "models": {"m": {"ids": {"hub": "org/m", "box": "m"}, "input_price": 0.1, "features": {"tools": "emulate"}}},
    }
    assert load(data).config.default == default


@pytest.mark.parametrize(
    ("table", "after", "max_extra"),
    [({}, "p95", 0.1), ({"after": "p50", "max_extra": 0}, "p50", 0), ({"after": 0.8}, 0.8, 0.1)],
)
def test_hedging(load, table, after, max_extra) -> None:
    data = {"providers": {"box": BOX}, "routes": {"r": {"targets": ["box:m"], "hedge": table}}}
    hedge = load(data).config.routes["r"].hedge
    assert (hedge.after, hedge.max_extra) == (after, max_extra)


@pytest.mark.parametrize("after", ["p49", "p100", "soon", 0, -1])
def test_hedging_after_what_is_no_time(fails, after) -> None:
    data = {"providers": {"box": BOX}, "routes": {"r": {"targets": ["box:m"], "hedge": {"after": after}}}}
    assert fails(data).key == "routes.r.hedge.after"


def test_the_server_s_url_may_be_a_secret(load, tmp_path) -> None:
    (tmp_path / "url").write_text("redis://:pass@localhost\n")
    config = load({"providers": {"box": BOX}, "state": {"url": {"file": str(tmp_path / "url")}}}).config
    assert config.state.url.get_secret_value() == "redis://:pass@localhost"
    assert "pass" not in repr(config) + config.model_dump_json()


def test_all_problems_at_once(fails, tmp_path) -> None:
    path = tmp_path / "llamaroute.toml"
    path.write_text(
        'default = "chat:x"\n[providers.box]\nbas_url = "x"\napi_key = "${KEY}"\n'
        '[routes.r]\ntargets = ["bax:m", "${T}"]\n[state]\nurl = "http://box"\n'
    )
    error = fails()
    assert str(error).splitlines() == [
        f"{path}: 7 problems",
        "  providers.box.api_key: environment variable KEY is not set",
        "  routes.r.targets[1]: environment variable T is not set",
        "  providers.box.base_url: is missing",
        "  providers.box.bas_url: unknown key; did you mean 'base_url'?",
        "  state.url: should be redis://host:port/number, rediss://... or unix:///path",
        "  routes.r.targets[0]: 'bax:m' names no configured provider; did you mean 'box'?",
        "  default: 'chat:x' names no configured provider; known: box",
    ]
    assert (error.file, error.key) == (str(path), "providers.box.api_key")


@pytest.mark.parametrize(
    "text", ["1: {}", "providers: {1: {kind: hub}}", "providers: {? [a, b] : {kind: hub}}", "routes: {null: 1}",
             "{providers: {hub: {2: 3}}, models: {2020-01-01: {ids: {1: 2}}}}"],
)  # fmt: skip
def test_keys_that_are_no_strings(fails, tmp_path: Path, text) -> None:
    (tmp_path / "c.yaml").write_text(text)
    fails("c.yaml")


def test_a_validator_s_words_hold_no_secret(fails) -> None:
    table = {"account_id": "quote", "api_key": "sekret-1", "headers": {"A": "sekret-2"}}
    assert "bad headers {'A': '**********'} and key **********" in str(fails({"providers": {"cloud": table}}))


def test_settings_objects_stand_for_tables():
    """What `llamaroute.interop` makes of an SDK's client, credential object included."""
    credential = object()
    settings = OpenAICompatibleSettings(
        kind="openai-compatible", base_url="http://host/v1", model="m"
    ).with_live_credential(credential)
    loaded = load_config({"providers": {"work": settings}, "default": "work:m"}, env={})
    assert loaded.config.providers["work"].live_credential is credential
    assert "object" not in repr(loaded.config.providers["work"])
    assert "credential" not in loaded.config.providers["work"].model_dump_json()
