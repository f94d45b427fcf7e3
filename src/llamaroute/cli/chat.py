"""`llamaroute chat`: one question, one answer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from ..errors import InputError, StreamInterruptedError
from .failures import DONE, INTERRUPTED
from .output import attempt_line, note, stderr_is_terminal, stdout_is_terminal, summary, write

if TYPE_CHECKING:
    from ..client import Client
    from ..streams import Stream
    from ..types.events import StreamEvent
    from ..types.response import ChatResponse

__all__ = ["chat", "content_of"]


def chat(
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="What to say; - reads it from stdin, as does leaving it out in a pipe."),
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", "-i", metavar="FILE", help="File or URL of an image; repeatable.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="Route, provider:model, provider or model. Default: the file's."
        ),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", metavar="TEXT", help="System prompt.")] = None,
    config: Annotated[
        str | None, typer.Option("--config", "-c", metavar="FILE", help="Config file. Default: the one that is found.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", metavar="NAME", help="Profile of the config file.")
    ] = None,
    stream: Annotated[
        bool | None,
        typer.Option("--stream/--no-stream", help="Print the answer as it comes. Default: yes, but not with --json."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole response as JSON; with --stream, one event a line.")
    ] = False,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", metavar="N", help="Most tokens of the answer.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", "-t", metavar="T", help="Randomness; 0 for none.")
    ] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="Seconds in all.")] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say on stderr where the answer is from and what it took.")
    ] = False,
) -> int:
    """Ask, and print the answer: plain text, nothing added. All else goes to stderr."""
    options: dict[str, Any] = {
        "model": model,
        "system": None if system is None else _encodable(system, "--system"),
        "max_tokens": max_tokens,
        "temperature": temperature,
        "timeout": timeout,
    }
    content = content_of(text, image or ())

    from ..client import Client

    with Client(config, profile=profile) as client:
        if verbose:
            note("", f"config: {client.config_origin}")
        if stream is None:
            stream = not as_json
        if stream:
            code, response = _streamed(client, content, options, as_json)
        else:
            code, response = DONE, client.chat(content, **options)
            _show_attempts(response)
            write(response.model_dump_json() + "\n" if as_json else _closed(response.text))
    if response is not None:
        _say_about(response, verbose)
    return code


# -- what is asked ----------------------------------------------------------------------------------------------------


def content_of(text: str | None, images: Sequence[str]) -> list[Any]:
    """The user's message, from the command's arguments or from stdin.

    Raises:
        InputError: there is neither text nor image.
    """
    from ..types.parts import Image

    if text is None and _stdin_is_terminal():
        if not images:
            raise InputError("no text: give it as an argument, or pipe it in")
        text = ""
    elif text is None or text == "-":
        text = _stdin()
    if not text.strip() and not images:
        raise InputError("the text is empty; give it as an argument, or pipe it in")
    pictures = [Image(_encodable(source, "--image")) for source in images]
    return [_encodable(text, "TEXT"), *pictures] if text.strip() else [*pictures]


def _stdin_stream() -> TextIO | None:
    return sys.stdin  # None when the process was started with it closed


def _stdin_is_terminal() -> bool:
    stream = _stdin_stream()
    return stream is None or stream.closed or stream.isatty()


def _stdin() -> str:
    """All of stdin, without its last line break."""
    stream = _stdin_stream()
    if stream is None or stream.closed:
        raise InputError("no text: stdin is closed")
    try:
        return stream.buffer.read().decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"stdin is not UTF-8 text (at byte {error.start})") from None
    except OSError as error:
        raise InputError(f"cannot read stdin: {error.strerror or error}") from None


def _encodable(text: str, name: str) -> str:
    """The text, when it can go into a request: Python keeps bytes of an argument that are no UTF-8 as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name} is not UTF-8 text") from None
    return text


# -- the answer -------------------------------------------------------------------------------------------------------


def _streamed(
    client: Client, content: list[Any], options: dict[str, Any], as_json: bool
) -> tuple[int, ChatResponse[Any] | None]:
    """Print an answer as it comes. After Ctrl-C, what came so far stays, and is the response."""
    from ..types.events import Restarted

    printer = _JsonLines() if as_json else _Plain()
    stream = client.stream(content, **options)
    began = False
    try:
        with stream:
            began = True
            if not as_json and not stdout_is_terminal():
                stream.only_text()  # what reads a pipe could not be told that some of it is void
            for event in stream:
                if isinstance(event, Restarted):
                    printer.void()
                _show_failover(event)
                printer.event(event)
    except KeyboardInterrupt:
        printer.interrupted(stream if began else None)
        return INTERRUPTED, None
    except StreamInterruptedError as error:
        printer.broken(error)
        raise
    response = stream.response
    printer.end(response)
    return DONE, response


class _Plain:
    """The text and nothing else; only for a terminal's sake is the last line ended."""

    def __init__(self) -> None:
        self._last = "\n"

    def event(self, event: StreamEvent) -> None:
        text = event.text if type(event).__name__ == "TextDelta" else ""  # type: ignore[union-attr]
        if text:
            self._last = text[-1]
            write(text)

    def void(self) -> None:
        self._end_line()
        self._last = "\n"

    def end(self, response: ChatResponse[Any]) -> None:
        if stdout_is_terminal():
            self._end_line()

    def broken(self, error: StreamInterruptedError) -> None:
        if stdout_is_terminal():
            self._end_line()

    def interrupted(self, stream: Stream | None) -> None:
        self._end_line()
        note("", "interrupted")

    def _end_line(self) -> None:
        if self._last != "\n":
            write("\n")


class _JsonLines:
    """One event a line, then the response."""

    def event(self, event: StreamEvent) -> None:
        from pydantic_core import to_json

        write(to_json({"type": type(event).__name__, **_fields(event)}).decode() + "\n")

    def void(self) -> None:
        """The event says so."""

    def end(self, response: ChatResponse[Any]) -> None:
        write('{"type":"ChatResponse",' + response.model_dump_json()[1:] + "\n")

    def broken(self, error: StreamInterruptedError) -> None:
        if error.partial is not None:
            self.end(error.partial)

    def interrupted(self, stream: Stream | None) -> None:
        if stream is not None:
            self.end(stream.response)


def _fields(event: StreamEvent) -> dict[str, Any]:
    return {field.name: getattr(event, field.name) for field in fields(event)}


def _closed(text: str) -> str:
    """The text, with its last line ended when a terminal shows it."""
    return f"{text}\n" if text and not text.endswith("\n") and stdout_is_terminal() else text


# -- about the answer -------------------------------------------------------------------------------------------------


def _show_failover(event: StreamEvent) -> None:
    from ..types.events import Continued, FailedOver, Restarted, Retrying

    match event:
        case Retrying(attempt=attempt):
            note("warning", f"{attempt_line(attempt)}; tried again")
        case FailedOver(attempt=attempt, target=target):
            note("warning", f"{attempt_line(attempt)}; failed over to {target}")
        case Restarted(attempt=attempt, target=target):
            note("warning", f"{attempt_line(attempt)}; what was said is void, and {target} answers anew")
        case Continued(attempt=attempt, target=target):
            note("warning", f"{attempt_line(attempt)}; {target} goes on")


def _show_attempts(response: ChatResponse[Any]) -> None:
    """The same for an answer that came whole."""
    for attempt, following in pairwise(response.attempts):
        if attempt.error is not None:
            again = following.target == attempt.target
            then = "tried again" if again else f"failed over to {following.target}"
            note("warning", f"{attempt_line(attempt)}; {then}")


_CUT = {
    "length": "the answer is cut off: it reached the limit of tokens (--max-tokens, or the host's own)",
    "content_filter": "the answer is cut off: the host's content filter stopped it",
}


def _say_about(response: ChatResponse[Any], verbose: bool) -> None:
    told = ("stream_restarted", "stream_continued")  # when it happened
    for message in dict.fromkeys(notice.message for notice in response.warnings if notice.code not in told):
        note("warning", message)
    if response.finish_reason in _CUT:
        note("warning", _CUT[response.finish_reason])
    elif not response.text:
        note("warning", f"the answer holds no text (finish reason: {response.finish_reason})")
    if verbose or stderr_is_terminal():
        note("", summary(response))
    if verbose:
        timing = response.timing
        first = "" if timing.first_token is None else f", first token after {timing.first_token:.2f} s"
        note("", f"model id: {response.model_id}, request id: {response.request_id or 'none'}{first}")
