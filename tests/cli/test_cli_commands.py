"""The frame around the commands: usage, exit codes, unexpected errors; `local` and `emulate`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import typer

from llamaroute import errors, local_models
from llamaroute.cli import local
from llamaroute.cli.failures import exit_code, guarded
from llamaroute.cli.output import attempt_line, size
from llamaroute.types.response import Attempt, AttemptError

# -- the frame --------------------------------------------------------------------------------------------------------


def test_version(cli):
    result = cli("--version")
    assert result.code == 0
    assert result.out.startswith("llamaroute 0.")


@pytest.mark.parametrize("command", [(), ("chat",), ("local",), ("local", "pull"), ("config", "init"), ("emulate",)])
def test_help(cli, command):
    result = cli(*command, "--help")
    assert result.code == 0
    assert result.out.startswith("Usage: llamaroute")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cat",), "Did you mean 'chat'"),
        (("chat", "Hi", "--sytem", "x"), "--system"),
        (("chat", "Hi", "--max-tokens", "many"), "--max-tokens"),
        (("chat", "Hi", "there"), "there"),
        (("config",), "Usage: llamaroute config"),
        (("emulate", "--port", "70000"), "--port"),
    ],
)
def test_wrong_usage(cli, arguments, said):
    result = cli(*arguments)
    assert result.code == 2
    assert said in result.err + result.out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RateLimitError("slow down", target="a:b", status=429), 1),
        (errors.StreamInterruptedError("broke"), 1),
        (errors.AllTargetsFailedError("none", [errors.ServerError("x"), errors.ServerError("y")]), 1),
        (errors.OutputValidationError("does not fit", errors=["a: is missing"]), 1),
        (local_models.ModelFileError("pip is missing"), 1),
        (errors.ConfigError("wrong"), 2),
        (errors.InputError("wrong"), 2),
        (errors.CapabilityError("cannot"), 2),
        (errors.PolicyError("may not"), 3),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 0),
    ],
)
def test_exit_codes(error, code, capsys):
    def command() -> int:
        raise error

    with pytest.raises(typer.Exit) as ended:
        guarded(command)()
    assert ended.value.exit_code == code
    err = capsys.readouterr().err
    if isinstance(error, errors.LlamarouteError):
        assert exit_code(error) == code
        assert err.startswith("error: ")
        assert "sub-exception" not in err
    else:
        assert err == ""


def test_unexpected_errors_show_their_type_only(capsys, monkeypatch):
    def command() -> int:
        raise KeyError("sk-secret")

    with pytest.raises(typer.Exit) as ended:
        guarded(command)()
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == (
        "error: unexpected KeyError; run again with LLAMAROUTE_TRACEBACK=1 for the traceback\n"
    )
    monkeypatch.setenv("LLAMAROUTE_TRACEBACK", "1")
    with pytest.raises(typer.Exit):
        guarded(command)()
    assert "Traceback" in capsys.readouterr().err


def test_control_characters_of_a_host_do_not_reach_the_terminal(capsys):
    def command() -> int:
        raise errors.ServerError("bad\x1b[2Jnews\r\x9b", target="a:b")

    with pytest.raises(typer.Exit):
        guarded(command)()
    assert capsys.readouterr().err == "error: a:b: bad␛[2Jnews\ufffd\n"


def test_an_attempt_is_one_line():
    error = AttemptError("ServerError", "two\nlines", "E7")
    assert attempt_line(Attempt("a:b", 500, error)) == "a:b: status 500, ServerError: two lines (code E7)"
    assert attempt_line(Attempt("a:b", None, error)).startswith("a:b: no answer, ServerError")


@pytest.mark.parametrize(("count", "text"), [(5, "5 bytes"), (98_362_432, "98.4 MB"), (7_500_000_000, "7.5 GB")])
def test_size(count, text):
    assert size(count) == text


# -- local ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_pull(monkeypatch):
    def pull(name, *, cache=None, progress=None):
        progress(0, 100, "downloading")
        progress(100, 100, "downloading")
        progress(0, 200, "unpacking")
        progress(200, 200, "ready")
        return Path(cache or "cache") / f"{name}.gguf"

    monkeypatch.setattr(local_models, "pull", pull)


@pytest.mark.usefixtures("fake_pull")
def test_pull_prints_the_path(cli):
    result = cli("local", "pull", "--cache", "there")
    assert (result.code, result.out) == (0, f"{Path('there') / 'smollm2.gguf'}\n")
    assert result.err == "smollm2: downloading (100 bytes)\nsmollm2: ready\n"


@pytest.mark.usefixtures("fake_pull")
def test_pull_with_a_bar(cli, monkeypatch):
    monkeypatch.setattr(local, "stderr_is_terminal", lambda: True)
    result = cli("local", "pull")
    assert (result.code, result.out) == (0, f"{Path('cache') / 'smollm2.gguf'}\n")
    assert result.err.endswith("smollm2: ready\n")


def test_pull_of_what_is_there(cli, tmp_path):
    model = local_models.KNOWN["smollm2"]
    (tmp_path / "cache").mkdir()
    path = tmp_path / "cache" / model.file
    with path.open("wb") as file:
        file.truncate(model.size)
    result = cli("local", "pull")
    assert (result.code, result.out, result.err) == (0, f"{path}\n", "smollm2: is there already\n")
    assert str(path) in cli("local", "list").out


def test_pull_of_an_unknown_model(cli):
    result = cli("local", "pull", "smolm")
    assert (result.code, result.out) == (2, "")
    assert "known: smollm2" in result.err


def test_list(cli):
    result = cli("local", "list")
    assert result.code == 0
    assert result.out.splitlines()[1].split() == (
        ["smollm2", "98.4", "MB", "Apache-2.0", "not", "here;", "llamaroute", "local", "pull", "smollm2"]
    )


# -- emulate ----------------------------------------------------------------------------------------------------------


def test_print_config(cli):
    result = cli("emulate", "--port", "8123", "--print-config")
    assert result.code == 0
    data = tomllib.loads(result.out)
    assert data["providers"]["cloudflare"]["base_url"] == "http://127.0.0.1:8123/cloudflare/client/v4"
    Path("llamaroute.toml").write_text(result.out)
    assert cli("config", "check").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--print-config",), "--print-config needs --port"),
        (("--quirk", "nonsense"), "unknown quirks: nonsense; known: "),
        (("--model", "smollm2"), "llamaroute local pull smollm2"),
        (("--model", "missing.gguf"), "--model: cannot read the model file missing.gguf"),
        (("--mmproj", "x.gguf"), "--mmproj goes with a --model that is a GGUF file"),
        (("--host", "203.0.113.1"), "cannot listen there: "),
    ],
)
def test_emulate_with_what_cannot_be(cli, arguments, said):
    result = cli("emulate", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_emulate_on_a_taken_port(cli, emu):
    result = cli("emulate", "--port", emu.url.rpartition(":")[2])
    assert result.code == 2
    assert "in use" in result.err
