"""The command `llamaroute` (extra `cli`).

Exit codes: 0 done, 1 the provider failed, 2 bad usage or configuration, 3 policy, 130 Ctrl-C. Answers and data go to
stdout, everything about them to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

_EXTRA = ("typer", "click", "rich", "shellingham")
"""What the extra `cli` brings; any other missing module is a fault that must show."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the arguments after the program's name. Default: the process's.
    """
    try:
        import rich  # noqa: F401  (used by one command; looked for here so that the message is the same everywhere)

        from .app import run
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print("llamaroute: the command line needs typer and rich: pip install 'llamaroute[cli]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return run(sys.argv[1:] if argv is None else argv)
