"""A question about a document, however long: python long_document.py book.txt "Who is the murderer?"

Llama 4 Scout was published with a window of 10 million tokens. No host serves that much: what counts is the window of
the target that answers. So this program counts first. What fits is asked in one go; what does not is read part by part,
each part gives notes, and the notes answer the question.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import llamaroute as lr

ANSWER = 800
"""Tokens of an answer, and of the notes on one part."""
UNKNOWN = 8_192
"""Tokens taken for granted where nobody knows what a target serves (tell it: --window)."""
SYSTEM = "You read documents closely, and answer from what they say. Where they say nothing, you say so."
NOTE = (
    "This is one part of a longer text. Question: {question}\n\nPART:\n{text}\n\nWrite down, in a few lines, "
    "everything in this part that helps to answer the question. If nothing does, write only: nothing."
)
WHOLE = "{text}\n\nAnswer this question about the text above: {question}"


class Reader:
    """Asks one target, and knows how much of a text it can be asked about at once."""

    def __init__(self, client: lr.Client, model: str | None, window: int | None) -> None:
        self.client, self.model = client, model
        counted = self.count("")
        self.window = window or counted.window or UNKNOWN
        self.target = counted.target
        self.calls = 0
        name = self.target.partition(":")[2]
        facts = lr.catalog.models()[name].facts if name in lr.catalog.models() else {}
        promise = f"; {name} itself was published with {facts['context_window'].value:,}" if facts else ""
        sure = "" if window or counted.window else " (a guess: nobody says; use --window)"
        say(f"{self.target} serves {self.window:,} tokens, question and answer together{sure}{promise}")

    def count(self, prompt: str) -> lr.TokenCount:
        return self.client.count_tokens(prompt, model=self.model, system=SYSTEM)

    def fits(self, prompt: str) -> bool:
        counted = self.count(prompt)
        # An estimate may be too small by a third. Hosts put a few tokens of their own around a prompt.
        return counted.tokens * (1.35 if counted.estimated else 1) + ANSWER + 32 <= self.window

    def ask(self, prompt: str) -> str:
        self.calls += 1
        reply = self.client.chat(prompt, model=self.model, system=SYSTEM, max_tokens=ANSWER, temperature=0)
        return reply.text.strip()

    def parts(self, text: str, prompt: Callable[[str], str]) -> list[str]:
        """The text in as few parts as fit, cut between paragraphs, lines or words."""
        if self.fits(prompt(text)):
            return [text]
        middle = len(text) // 2
        for between in ("\n\n", "\n", " "):
            cut = text.rfind(between, len(text) // 4, middle) + len(between)
            if cut >= len(text) // 4:
                break
        else:
            cut = middle
        if not cut:
            raise SystemExit(f"{self.target} serves too few tokens for the question alone")
        return [*self.parts(text[:cut], prompt), *self.parts(text[cut:], prompt)]

    def answer(self, text: str, question: str) -> str:
        """The answer to the question about the text: in one go, or from notes on its parts."""
        if self.fits(WHOLE.format(text=text, question=question)):
            return self.ask(WHOLE.format(text=text, question=question))
        parts = self.parts(text, lambda part: NOTE.format(text=part, question=question))
        say(f"too long for one go: read in {len(parts)} parts")
        notes = []
        for number, part in enumerate(parts, 1):
            note = self.ask(NOTE.format(text=part, question=question))
            say(f"  part {number} of {len(parts)}: {note.splitlines()[0][:70] if note else 'nothing'}")
            if note and note.lower().rstrip(".") != "nothing":
                notes.append(f"Notes on part {number}:\n{note}")
        gathered = "\n\n".join(notes) or "No part of the text says anything about it."
        if len(gathered) >= len(text):
            raise SystemExit("the notes are no shorter than the text: the window is too small for this question")
        return self.answer(gathered, question)  # of a long text, the notes may be too long themselves


def say(line: str) -> None:
    print(line, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("document", type=Path, help="a text file")
    parser.add_argument("question")
    parser.add_argument("--model", help="route, provider:model or provider")
    parser.add_argument("--window", type=int, help="tokens that the target serves, where llamaroute does not know")
    arguments = parser.parse_args()

    text = arguments.document.read_text("utf-8", errors="replace")
    with lr.Client() as client:
        reader = Reader(client, arguments.model, arguments.window)
        counted = reader.count(text)
        about = "about " if counted.estimated else ""
        say(f"{arguments.document.name}: {len(text):,} characters, {about}{counted.tokens:,} tokens as a prompt")
        print(reader.answer(text, arguments.question))
        used = client.usage()
        cost = f", {used.cost:.4f} USD" if used.cost else ""
        say(f"[{used.calls} calls, {used.input_tokens:,} + {used.output_tokens:,} tokens{cost}]")


if __name__ == "__main__":
    main()
