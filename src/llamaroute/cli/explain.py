"""`llamaroute explain`: what a call would do, without making it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .chat import content_of
from .failures import DONE, FAILED
from .output import write

__all__ = ["explain"]


def explain(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What would be said; - reads it from stdin.")
    ] = "Hello",
    image: Annotated[
        list[str] | None, typer.Option("--image", "-i", metavar="FILE", help="File or URL of an image; repeatable.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="Route, provider:model, provider or model. Default: the file's."
        ),
    ] = None,
    needs: Annotated[
        list[str] | None,
        typer.Option("--with", "-w", metavar="NEED", help="tools, forced-tools or json; repeatable."),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream/--no-stream", help="As a stream. Default: yes, as chat does.")
    ] = True,
    config: Annotated[
        str | None, typer.Option("--config", "-c", metavar="FILE", help="Config file. Default: the one that is found.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", metavar="NAME", help="Profile of the config file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> int:
    """Say which targets would be asked, in which order, and what would be made up or refused there. Sends nothing.

    Ends with 1 when no target could serve the request.
    """
    from ..client import Client

    content = content_of(text, image or ())
    with Client(config, profile=profile) as client:
        plan = client.explain(content, model=model, stream=stream, **_request(needs or []))
    if as_json:
        from dataclasses import asdict

        from ..types.tools import canonical_json

        write(canonical_json(asdict(plan)) + "\n")
    else:
        write(f"{plan}\n")
    return DONE if any(not target.refused for target in plan.targets) else FAILED


def _request(needs: list[str]) -> dict[str, Any]:
    from ..errors import InputError
    from ..types.tools import Tool

    if unknown := sorted(set(needs) - {"tools", "forced-tools", "json"}):
        raise InputError(f"--with {unknown[0]}: there are tools, forced-tools and json")
    options: dict[str, Any] = {}
    if {"tools", "forced-tools"} & set(needs):
        options["tools"] = [Tool("a_tool", "Stands for any.", {"type": "object", "properties": {}})]
    if "forced-tools" in needs:
        options["tool_choice"] = "required"
    if "json" in needs:
        options["output"] = {"type": "object", "title": "any", "properties": {}}
    return options
