"""`${VAR}`, `{file = ...}`, `{command = ...}`."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaroute.config.load import load_config
from llamaroute.config.values import interpolate
from llamaroute.errors import ConfigError

ENV = {"HOST": "h", "PORT": "80", "EMPTY": "", "DOLLAR": "a${HOST}b", "API_TOKEN": "sekret-token"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("${HOST}", "h"),
        ("http://${HOST}:${PORT}/x", "http://h:80/x"),
        ("${NONE:-fallback}", "fallback"),
        ("${EMPTY:-fallback}", "fallback"),
        ("${NONE:-}", ""),
        ("${HOST:-fallback}", "h"),
        ("${NONE:-a:-b}", "a:-b"),
        ("$${HOST}", "${HOST}"),
        ("$HOST $$ {HOST} $", "$HOST $$ {HOST} $"),
        ("${DOLLAR}", "a${HOST}b"),
    ],
)
def test_interpolate(text: str, value: str) -> None:
    assert interpolate(text, ENV) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("${NONE}", "NONE is not set"),
        ("${API_TOKEM}", "API_TOKEM is not set; did you mean API_TOKEN?"),
        ("${EMPTY}", "EMPTY is set but empty; write ${EMPTY:-}"),
        ("${", "without its `}`"),
        ("${HOST", "without its `}`"),
        ("${}", "no variable's name"),
        ("${a b}", "no variable's name"),
        ("${1}", "no variable's name"),
    ],
)
def test_interpolate_refuses(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        interpolate(text, ENV)
    assert says in str(caught.value)
    assert "sekret" not in str(caught.value)


pieces = st.sampled_from(["$", "${", "}", "$${", ":-", "HOST", "NONE", "EMPTY", "x", "\n", "${HOST}", "é"])


@given(st.lists(pieces).map("".join) | st.text())
def test_interpolate_never_breaks(text: str) -> None:
    with suppress(ConfigError):
        assert isinstance(interpolate(text, ENV), str)


@given(st.text().filter(lambda text: "$" not in text))
def test_interpolate_leaves_text_alone(text: str) -> None:
    assert interpolate(text, ENV) == text


@given(st.text())
def test_escaped_text_comes_back(text: str) -> None:
    # A `$` right before `${` would itself read as the escape, so such texts cannot be escaped piecewise.
    if "$${" not in text:
        assert interpolate(text.replace("${", "$${"), {}) == text


def box(**keys):
    return {"providers": {"box": {"base_url": "http://x", **keys}}}


def cloud(**keys):
    return {"providers": {"cloud": {"account_id": "a", **keys}}}


def test_scalars_come_from_variables(load) -> None:
    data = {**cloud(port="${P}", verify="${V}", timeout="${T}", retry={"attempts": "${N}"}, tags={"a": "true"}),
            "images": {"allow_private": "${V}", "max_bytes": "${N}"}}  # fmt: skip
    config = load(data, env={"P": "8080", "V": "false", "T": "2.5", "N": "3"}).config
    table = config.providers["cloud"]
    assert (table.port, table.verify, table.timeout.total, table.retry.attempts) == (8080, False, 2.5, 3)
    assert (config.images.allow_private, config.images.max_bytes) == (False, 3)
    assert table.tags == {"a": "true"}


def test_a_plain_string_stays_a_string(load) -> None:
    assert load(cloud(verify="true")).config.providers["cloud"].verify == "true"


def test_missing_variables_are_all_named(fails) -> None:
    error = fails({**box(api_key="${A_KEY}", timeout="${SECONDS}"), "default": "${D}"}, env={"A_KEYS": "sekret"})
    assert str(error).splitlines() == [
        "config: 3 problems",
        "  providers.box.api_key: environment variable A_KEY is not set; did you mean A_KEYS?",
        "  providers.box.timeout: environment variable SECONDS is not set",
        "  default: environment variable D is not set",
    ]
    assert error.key == "providers.box.api_key"


def test_file_is_relative_to_the_config(load, tmp_path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "key").write_text("sekret\r\n")
    (folder / "llamaroute.toml").write_text(
        '[providers.cloud]\naccount_id={file="key"}\napi_key={file="${DIR}/key"}\nmodels={m={file="key"}}\n'
        'gateway={id="g", token={file="key"}}\n'
    )
    loaded = load("etc/llamaroute.toml", env={"DIR": str(folder)})
    table = loaded.config.providers["cloud"]
    assert table.api_key.get_secret_value() == table.account_id == table.models["m"] == "sekret"
    assert table.gateway.token.get_secret_value() == "sekret"
    assert loaded.files[0] == folder / "llamaroute.toml"
    assert set(loaded.files[1:]) == {folder / "key"}
    assert "sekret" not in repr(loaded)


def test_tables_that_only_look_like_secrets(load) -> None:
    table = load(cloud(headers={"file": "x"}, models={"command": "y"})).config.providers["cloud"]
    assert (table.headers, table.models) == ({"file": "x"}, {"command": "y"})


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), (b"\xff", "not UTF-8"), (b"\n", "is empty"), (b"x" * 70_000, "more than 65536 bytes")],
)
def test_bad_files(fails, tmp_path, content, says) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    error = fails(box(api_key={"file": "secret"}))
    assert says in str(error)
    assert str(path) in str(error)
    assert error.key == "providers.box.api_key"


def test_a_folder_and_a_strange_path(fails, tmp_path) -> None:
    assert "Is a directory" in str(fails(box(api_key={"file": str(tmp_path)})))
    assert "not a valid path" in str(fails(box(api_key={"file": "a\0b"})))
    assert "should be a path" in str(fails(box(api_key={"file": 3})))


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() == 0, reason="root may read everything")
def test_unreadable_file(fails, tmp_path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0)
    assert "Permission denied" in str(fails(box(api_key={"file": "secret"})))


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_command(load, tmp_path) -> None:
    code = "import os; print(os.environ['WORD'], os.getcwd())"
    table = load(box(api_key={"command": python(code)}), env={"WORD": "w"}).config.providers["box"]
    assert table.api_key.get_secret_value() == f"w {os.path.realpath(tmp_path)}"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (python("import sys; print('sekret'); print('sekret', file=sys.stderr); sys.exit(3)"), "ended with status 3"),
        (["no-such-program-here", "sekret"], "'no-such-program-here': No such file"),
        (python("print()  # sekret"), "is empty"),
        (python("import sys; sys.stdout.buffer.write(b'sekret\\xff')"), "not UTF-8"),
        ("pass show sekret", "should be a list of strings"),
        ([], "should be a list of strings"),
        (["a\0b"], "'a\\x00b': not a valid path"),
    ],
)
def test_bad_commands(fails, command, says) -> None:
    error = fails(box(api_key={"command": command}))
    assert says in str(error)
    assert "sekret" not in str(error)


def test_a_slow_command_is_stopped(fails, monkeypatch) -> None:
    monkeypatch.setattr("llamaroute.config.values.COMMAND_SECONDS", 0.2)
    start = time.monotonic()
    error = fails(box(api_key={"command": python("print('sekret', flush=True); import time; time.sleep(30)")}))
    assert "did not end within 0.2 seconds" in str(error)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("table", [{"fil": "x"}, {"file": "x", "command": ["y"]}, {}])
def test_not_a_secret(fails, table) -> None:
    assert str(fails(box(api_key=table))).startswith("config: providers.box.api_key: should be a string, {file")


@pytest.mark.skipif(sys.platform == "win32", reason="no owners")
def test_a_stranger_s_file_runs_no_commands(load, fails, tmp_path, monkeypatch) -> None:
    path = tmp_path / "llamaroute.json"
    path.write_text('{"providers": {"box": {"base_url": "http://x", "api_key": {"command": ["echo", "k"]}}}}')
    assert load().config.providers["box"].api_key.get_secret_value() == "k"
    monkeypatch.setattr("llamaroute.config.load.others_file", lambda path: True)
    assert "command 'echo' is not run: the file belongs to another user" in str(fails())
    assert load(path).config.providers["box"].api_key.get_secret_value() == "k"


secrets = st.text(min_size=6, alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="$\0")).filter(
    lambda text: text.strip() == text
)


@given(secret=secrets)
def test_secrets_never_show(specs, secret: str) -> None:
    secret = f"<<{secret}>>"
    table = {
        "account_id": "a",
        "api_key": secret,
        "headers": {"X-Key": quote(secret, safe="")},
        "proxy": f"http://u:{quote(secret, safe='')}@p",
    }
    options = {"env": {"S": secret}, "specs": specs, "kinds": lambda: ("cloud",)}
    for key in (secret, "${S}"):
        loaded = load_config({"providers": {"cloud": {**table, "api_key": key}}}, **options)
        shown = f"{loaded} {loaded!r} {loaded.config} {loaded.config.model_dump()} {loaded.config.model_dump_json()}"
        assert secret not in shown
        assert quote(secret, safe="") not in shown
        for wrong in (
            {"account_id": "quote"},
            {"gateway": secret},
            {"timeout": secret},
            {"port": secret},
            {"verify": [secret]},
            {"headers": secret},
            {"models": {"a": [secret]}},
            {"api": secret},
        ):
            with pytest.raises(ConfigError) as caught:
                load_config({"providers": {"cloud": {**table, "api_key": key, **wrong}}}, **options)
            assert secret not in f"{caught.value} {caught.value!r}"
            assert caught.value.__context__ is None
