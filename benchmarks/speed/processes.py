"""In what surroundings processes are started."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Of the repository; where all processes are started."""


def environ(src: Path | None = None, authority: Path | None = None) -> dict[str, str]:
    """The environment of a process that is started: no proxies, no settings of anybody's, our certificate."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
    environ = {key: os.environ[key] for key in kept if key in os.environ}
    environ |= {"NO_PROXY": "*", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "AWS_EC2_METADATA_DISABLED": "true"}
    if src is not None:
        environ["PYTHONPATH"] = str(src)
    if authority is not None:
        # One for each library that reads certificates from a place of its own.
        environ |= dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"), str(authority))
    return environ
