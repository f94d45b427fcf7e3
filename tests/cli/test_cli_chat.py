"""`llamaroute chat` against the emulator: what goes to stdout, what to stderr, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamaroute import ChatResponse
from llamaroute.cli import output
from llamaroute.emulator import Reply

pytestmark = pytest.mark.usefixtures("config")


def test_text_is_printed_as_it_is_and_nothing_else(cli, emu):
    emu.reply("Because of Rayleigh scattering.")
    result = cli("chat", "Why is the sky blue?")
    assert (result.code, result.out, result.err) == (0, "Because of Rayleigh scattering.", "")
    assert emu.requests[-1].json["messages"][-1]["content"] == "Why is the sky blue?"
    assert emu.requests[-1].json["stream"] is True


def test_options_reach_the_host(cli, emu):
    cli("chat", "Hi", "--system", "Be brief.", "--max-tokens", "7", "--temperature", "0.5", "-m", "box:llama-4-scout")
    sent = emu.requests[-1].json
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert 7 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))
    assert sent["temperature"] == 0.5


def test_no_stream(cli, emu):
    emu.reply("Whole.")
    assert cli("chat", "Hi", "--no-stream").out == "Whole."
    assert not emu.requests[-1].json.get("stream")


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_text_from_stdin(cli, emu, arguments):
    result = cli("chat", *arguments, stdin="Grüße\naus Köln\n".encode())
    assert result.code == 0
    assert emu.requests[-1].json["messages"][-1]["content"] == "Grüße\naus Köln"


def test_json_is_one_document(cli, emu):
    emu.reply("Hello!")
    result = cli("chat", "Hi", "--json")
    assert result.code == 0
    assert len(result.out.splitlines()) == 1
    response = ChatResponse.model_validate_json(result.out)
    assert (response.text, response.target, response.finish_reason) == ("Hello!", "box:llama-4-scout", "stop")


def test_json_lines_end_with_the_response(cli, emu):
    emu.reply("Hello there!")
    lines = [json.loads(line) for line in cli("chat", "Hi", "--json", "--stream").out.splitlines()]
    assert lines[0] == {"type": "Started", "target": "box:llama-4-scout", "model_id": "llama-4-scout"}
    assert "".join(line["text"] for line in lines if line["type"] == "TextDelta") == "Hello there!"
    assert lines[-2]["type"] == "Finished"
    assert lines[-1]["type"] == "ChatResponse"
    assert ChatResponse.model_validate(lines[-1]).text == "Hello there!"


def test_image(cli, png):
    result = cli("chat", "What is this?", "--image", str(png))
    assert result.code == 0
    assert "image/png, 64x48" in result.out


def test_an_image_alone_is_a_question(cli, png):
    assert "64x48" in cli("chat", "--image", str(png)).out


def test_summary_only_when_asked_for(cli, emu):
    emu.reply(Reply("Hello", usage=(11, 3)))
    result = cli("chat", "Hi", "--verbose")
    assert result.out == "Hello"
    assert "config: " in result.err
    assert "llamaroute.toml" in result.err
    assert "box:llama-4-scout: 11 + 3 tokens, no price known, " in result.err


def test_cost_in_the_summary(cli, emu):
    assert "cloudflare:llama-4-scout: " in (err := cli("chat", "Hi", "-v", "-m", "cloudflare").err)
    assert ", $0.0000" in err


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_failover_is_told(cli, emu, stream):
    emu.fault(status=503, host="openai")
    result = cli("chat", "Hi", stream)
    assert (result.code, result.out) == (0, "You said: Hi")
    (over,) = result.err.splitlines()
    assert over.startswith("warning: box:llama-4-scout: status 503, OverloadedError: ")
    assert over.endswith("; failed over to cloudflare:llama-4-scout")


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_a_retry_is_told(cli, emu, stream):
    emu.fault(status=503, host="openai")
    result = cli("chat", "Hi", "-m", "alone", stream)
    assert (result.code, result.out) == (0, "You said: Hi")
    (again,) = result.err.splitlines()
    assert again.startswith("warning: box:llama-4-scout: status 503, OverloadedError: ")
    assert again.endswith("; tried again")


def test_cut_off_answer_is_told(cli):
    result = cli("chat", "Tell me everything", "--max-tokens", "2")
    assert result.code == 0
    assert "warning: the answer is cut off: it reached the limit of tokens" in result.err


def test_profile(cli, emu):
    cli("chat", "Hi", "--profile", "prod")
    assert emu.requests[-1].host == "cloudflare"


def test_named_config_file(cli, config):
    renamed = config.rename("other.toml")
    assert cli("chat", "Hi").code == 2
    assert cli("chat", "Hi", "--config", str(renamed)).code == 0


def test_control_characters_of_a_model_are_shown_on_a_terminal(cli, emu, monkeypatch):
    monkeypatch.setattr(output, "_is_terminal", lambda stream: True)
    monkeypatch.setenv("NO_COLOR", "1")
    emu.reply("a\x1b]52;c;x\x07b\r\nc")
    assert cli("chat", "Hi").out == "a␛]52;c;x␇b\nc\n"  # and the last line is ended


def test_control_characters_go_into_pipes_as_they_are(cli, emu):
    emu.reply("a\x1b[1mb")
    assert cli("chat", "Hi").out == "a\x1b[1mb"


# -- errors -----------------------------------------------------------------------------------------------------------


def test_wrong_key_fails_without_showing_it(cli, config):
    config.write_text(config.read_text().replace('api_key = "', 'api_key = "wr0ng-'))
    result = cli("chat", "Hi", "-m", "box")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: box:llama-4-scout: ")
    assert "status 401" in result.err
    assert "wr0ng-sk" not in result.err


def test_all_targets_failed_lists_each_attempt(cli, emu):
    emu.fault(status=500, times=9)
    result = cli("chat", "Hi")
    assert result.code == 1
    first, *attempts = result.err.splitlines()
    assert first == "error: none of box:llama-4-scout, cloudflare:llama-4-scout answered"
    assert [line.split(",")[0] for line in attempts] == [
        "  box:llama-4-scout: status 500",
        "  cloudflare:llama-4-scout: status 500",
        "  cloudflare:llama-4-scout: status 500",
    ]


def test_dead_server(cli, config, emu):
    emu.stop()
    result = cli("chat", "Hi", "-m", "box")
    assert result.code == 1
    assert "cannot connect" in result.err


def test_timeout(cli, emu):
    emu.reply(Reply("late", delay=5))
    result = cli("chat", "Hi", "-m", "box", "--timeout", "0.3")
    assert result.code == 1
    assert len(result.err.splitlines()) == 1


def test_broken_stream_keeps_what_came(cli, emu):
    emu.reply(Reply("one two three"))
    emu.fault(cut="mid-frame", cut_after=3)
    result = cli("chat", "Hi")
    assert (result.code, result.out) == (1, "one two")
    assert "broke off" in result.err


def goes_on(config, emu, how):
    config.write_text(config.read_text().replace("[routes.chat]\n", f'[routes.chat]\non_break = "{how}"\n'))
    emu.replies(Reply("one two three"), Reply("one two four"))
    emu.fault(cut="mid-frame", cut_after=3)


def test_a_pipe_is_not_given_what_may_become_void(cli, emu, config):
    goes_on(config, emu, "restart")
    result = cli("chat", "Hi")
    assert (result.code, result.out) == (1, "one two")
    assert len(emu.requests) == 1


def test_a_terminal_is_told_what_is_void(cli, emu, config, monkeypatch):
    goes_on(config, emu, "restart")
    monkeypatch.setattr(output, "_is_terminal", lambda stream: True)
    result = cli("chat", "Hi")
    assert (result.code, result.out) == (0, "one two\none two four\n")
    assert "; what was said is void, and cloudflare:llama-4-scout answers anew" in result.err
    assert "began anew" not in result.err, "the notice says nothing new"


@pytest.mark.parametrize("how", ["restart", "continue"])
def test_json_lines_say_that_a_stream_went_on(cli, emu, config, how):
    goes_on(config, emu, how)
    result = cli("chat", "Hi", "--json", "--stream")
    assert result.code == 0
    kind = "Restarted" if how == "restart" else "Continued"
    assert sum(json.loads(line)["type"] == kind for line in result.out.splitlines()) == 1
    assert ChatResponse.model_validate_json(result.out.splitlines()[-1]).text == "one two four"


def test_a_pipe_is_given_what_goes_on(cli, emu, config):
    goes_on(config, emu, "continue")
    result = cli("chat", "Hi")
    assert (result.code, result.out) == (0, "one two four")
    assert "; cloudflare:llama-4-scout goes on" in result.err


def test_broken_stream_in_json_ends_with_the_partial_response(cli, emu):
    emu.reply(Reply("one two three"))
    emu.fault(cut="mid-frame", cut_after=3)
    result = cli("chat", "Hi", "--json", "--stream")
    assert result.code == 1
    last = ChatResponse.model_validate_json(result.out.splitlines()[-1])
    assert (last.text, last.finish_reason) == ("one two", "interrupted")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("Hi", "-m", "chatt"), "no route, provider or model is called 'chatt'; did you mean 'chat'?"),
        (("Hi", "-m", "cloudflar:llama-4-scout"), "did you mean the provider 'cloudflare'?"),
        (("Hi", "-m", "llama-4-behemoth"), "never released"),
        (("",), "the text is empty"),
        ((), "the text is empty"),
        (("Hi", "--max-tokens", "0"), "max_tokens= must be at least 1"),
        (("Hi", "--temperature", "nan"), "finite"),
        (("Hi", "--timeout", "0"), "timeout= takes seconds above 0"),
        (("Hi", "--profile", "pord"), "unknown profile 'pord'; did you mean 'prod'?"),
        (("Hi", "--config", "missing.toml"), "No such file"),
        (("Hi", "--image", "missing.png"), "image 'missing.png' cannot be read"),
        (("Hi", "--image", "empty.png"), "image 'empty.png' is empty (0 bytes)"),
        (("Hi", "--image", "page.png"), "is not an image but looks like an HTML page"),
        (("Hi", "--image", "."), "image '.'"),
        (("Hi\udcff",), "TEXT is not UTF-8 text"),
        (("Hi", "--system", "\udcff"), "--system is not UTF-8 text"),
    ],
)
def test_bad_usage_sends_nothing(cli, emu, arguments, said):
    Path("empty.png").write_bytes(b"")
    Path("page.png").write_text("<!doctype html><p>404")
    result = cli("chat", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert said in result.err
    assert not emu.requests


def test_stdin_that_is_not_text(cli):
    result = cli("chat", "-", stdin=b"Gr\xfc\xdfe")
    assert (result.code, result.err) == (2, "error: stdin is not UTF-8 text (at byte 2)\n")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[providers.box]", "[providers.box]\nmodle = 'x'", "providers.box.modle: unknown key; did you mean 'model'?"),
        ('model = "llama-4-scout"', 'model = "${NOT_SET_ANYWHERE}"', "NOT_SET_ANYWHERE"),
        ("default =", "default", "at line 2"),
        ("targets = [", 'targets = ["nowhere:x", ', "nowhere"),
    ],
)
def test_wrong_config(cli, config, old, new, said):
    config.write_text(config.read_text().replace(old, new, 1))
    result = cli("chat", "Hi")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert said in result.err


def test_config_that_is_not_utf8(cli, config):
    config.write_bytes(b'default = "caf\xe9"\n')
    result = cli("chat", "Hi")
    assert result.code == 2
    assert "not UTF-8 text (at line 1, column 15)" in result.err


def test_no_config_says_what_was_looked_for(cli, config):
    config.unlink()
    result = cli("chat", "Hi")
    assert result.code == 2
    assert "LLAMAROUTE_CONFIG" in result.err
    assert "CLOUDFLARE_API_TOKEN" in result.err
    assert "llamaroute config init" in result.err
