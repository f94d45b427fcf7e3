"""Functions the model may call: python tools.py ["your question"]

`run` carries the calls out and goes on until the model answers; `on_tool` may have a say before each of them. The same
program runs on every provider of llamaroute.toml: where a host has no tools, they are made up for it.
"""

import sys
from typing import Literal

import llamaroute as lr

STOCK = {"alpaca scarf": 12, "felt hat": 0}


def stock(item: Literal["alpaca scarf", "felt hat"]) -> int:
    """How many of an article are in stock.

    Args:
        item: the article
    """
    return STOCK[item]


async def order(item: Literal["alpaca scarf", "felt hat"], count: int = 1) -> dict[str, object]:
    """Order an article for the customer.

    Args:
        item: the article
        count: how many
    """
    if STOCK[item] < count:
        raise LookupError(f"only {STOCK[item]} in stock")  # the model is told, and may think of something else
    STOCK[item] -= count
    return {"ordered": item, "count": count}


def approve(call: lr.ToolCall) -> str | None:
    """Reading is free; what costs money is asked for."""
    if call.name != "order":
        return None
    answer = input(f"Order {call.arguments}? [y/n] ")
    return None if answer.strip().lower() == "y" else "The customer does not want that."


def main() -> None:
    question = sys.argv[1] if len(sys.argv) > 1 else "Are there alpaca scarves? If so, order two."
    with (
        lr.Client() as client,
        client.run_stream(
            question, tools=[stock, order], on_tool=approve, tool_timeout=10, max_steps=6, max_tokens=300
        ) as stream,
    ):
        for event in stream:
            match event:
                case lr.TextDelta(text=text):
                    print(text, end="", flush=True)
                case lr.ToolResult(call=call):
                    print(f"[{call.name} {call.arguments} -> {event.text}]")
    result = stream.result
    print(f"\n[{len(result.responses)} turns, {result.usage.total_tokens} tokens, ended with {result.finish_reason}]")


if __name__ == "__main__":
    main()
