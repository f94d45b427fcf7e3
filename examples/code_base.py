"""A question about a code base: python code_base.py path/to/project "Where are connections closed?"

All of it goes into one prompt where the target serves a window that large. Where it does not, the files are packed into
as many prompts as it takes; see long_document.py, which does the asking.
"""

import argparse
from pathlib import Path

from long_document import Reader, say

import llamaroute as lr

SOURCE = {
    ".c", ".cc", ".cpp", ".cs", ".css", ".go", ".h", ".hpp", ".html", ".java", ".js", ".json", ".kt", ".lua", ".md",
    ".php", ".pl", ".py", ".rb", ".rs", ".scala", ".sh", ".sql", ".swift", ".toml", ".ts", ".tsx", ".yaml", ".yml",
}  # fmt: skip
LARGEST = 200_000
"""Bytes above which a file is data rather than code."""
PASSED_OVER = {"node_modules", "__pycache__", "build", "dist", "target", "venv"}


def files(root: Path) -> list[Path]:
    """What is code, or says something about it."""
    found = []
    for path in sorted(root.rglob("*")):
        hidden = any(name.startswith(".") or name in PASSED_OVER for name in path.relative_to(root).parts)
        if not hidden and path.suffix in SOURCE and path.is_file() and path.stat().st_size <= LARGEST:
            found.append(path)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("question")
    parser.add_argument("--model", help="route, provider:model or provider")
    parser.add_argument("--window", type=int, help="tokens that the target serves, where llamaroute does not know")
    arguments = parser.parse_args()

    root = arguments.folder
    texts = {path: path.read_text("utf-8", errors="replace") for path in files(root)}
    if not texts:
        raise SystemExit(f"{root}: no source files")
    with lr.Client() as client:
        reader = Reader(client, arguments.model, arguments.window)
        # Blank lines between files are where a text is cut first, so that most files stay whole.
        code = "\n\n".join(f"=== {path.relative_to(root)} ===\n{text.strip()}" for path, text in texts.items())
        counted = reader.count(code)
        about = "about " if counted.estimated else ""
        say(f"{root}: {len(texts)} files, {about}{counted.tokens:,} tokens as a prompt")
        largest = sorted(texts, key=lambda path: -len(texts[path]))[:3]
        say("largest: " + ", ".join(f"{path.relative_to(root)} ({len(texts[path]):,} characters)" for path in largest))
        print(reader.answer(code, arguments.question))
        used = client.usage()
        say(f"[{used.calls} calls, {used.input_tokens:,} + {used.output_tokens:,} tokens]")


if __name__ == "__main__":
    main()
