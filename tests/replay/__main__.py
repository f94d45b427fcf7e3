"""`python -m tests.replay FOLDER`: a line a case; exits with 1 when any piece size gives another result."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .player import PIECES, cases, play


def main(arguments: list[str]) -> int:
    """Play every case of the folder given as argument or in LLAMAROUTE_CASES."""
    folder = arguments[0] if arguments else os.environ.get("LLAMAROUTE_CASES")
    if not folder:
        print("recorded cases: not run (give a folder, or set LLAMAROUTE_CASES)")
        return 0
    if not Path(folder).is_dir():
        print(f"{folder} is not a folder", file=sys.stderr)
        return 2
    wrong = total = 0
    for case in cases(Path(folder)):
        total += 1
        results = [play(case, piece) for piece in PIECES]
        same = len(set(results)) == 1
        wrong += not same
        line = results[0] if same else f"DIFFERS BY PIECE SIZE: {results}"
        print(f"{case.name}: {line if len(line) <= 300 else line[:297] + '...'}")
    print(f"recorded cases: {total}, of which {wrong} differ by piece size")
    return 1 if wrong or not total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
