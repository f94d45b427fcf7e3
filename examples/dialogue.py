"""Talk with a model, and interrupt it: python dialogue.py [--model M] [--keep talk.json]

While it speaks, press Enter, or type what you want to say instead, or press Ctrl-C: it stops, what it has said stays
said, and you go on. At the prompt, Ctrl-C or the end of the input (Ctrl-D) ends the dialogue.
"""

import argparse
import queue
import sys
import threading
from pathlib import Path

import llamaroute as lr

parser = argparse.ArgumentParser()
parser.add_argument("--model", help="route, provider:model or provider (default: the config file's `default`)")
parser.add_argument("--system", default="Answer in a few sentences.")
parser.add_argument("--keep", type=Path, help="file to go on from, if it is there, and to save the dialogue to")
arguments = parser.parse_args()


def listen(conversation: lr.Conversation, lines: queue.Queue[str | None]) -> None:
    """Whatever is typed is said next; typed while the model speaks, it also makes it stop."""
    for line in sys.stdin:
        conversation.interrupt()
        lines.put(line.strip())
    lines.put(None)


def speak(conversation: lr.Conversation, line: str) -> None:
    with conversation.stream(line) as stream:
        try:
            for text in stream.text():
                print(text, end="", flush=True)
        except KeyboardInterrupt:
            stream.interrupt()
    interrupted = stream.response.finish_reason == "interrupted"
    print(" [interrupted]" if interrupted else "", flush=True)


def main() -> None:
    lines: queue.Queue[str | None] = queue.Queue()
    with lr.Client() as client:
        if arguments.keep and arguments.keep.exists():
            other = {"model": arguments.model} if arguments.model else {}
            conversation = lr.Conversation.load(arguments.keep, client, **other)
            print(f"[{len(conversation.messages)} messages so far]")
        else:
            # What no longer fits the target's window is left out of the prompt, not of the conversation.
            conversation = client.conversation(model=arguments.model, system=arguments.system, fit="trim")
        threading.Thread(target=listen, args=(conversation, lines), daemon=True).start()
        while True:
            try:
                print("> ", end="", flush=True)
                line = lines.get()
            except KeyboardInterrupt:
                break
            if line is None:
                break
            if not line:
                continue
            try:
                speak(conversation, line)
            except lr.LlamarouteError as error:  # the conversation is as it was before
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
        if arguments.keep:
            conversation.save(arguments.keep)
        print(f"\n[{len(conversation.messages)} messages, {conversation.usage.total_tokens} tokens]")


main()
