"""What a Cloudflare account can run: the search over Workers AI's models.

https://developers.cloudflare.com/api/resources/ai/subresources/models/methods/list/
"""

from __future__ import annotations

from ..pipeline.ops import Plan
from .base import Survey, with_path

__all__ = ["discover"]

API = "https://api.cloudflare.com/client/v4"
PAGE = 100
PAGES = 20
"""More would be no catalogue of models."""


def discover(survey: Survey) -> Plan[None]:
    """Ask for all models, page by page."""
    options = survey.account.options
    account_id: str = getattr(options, "account_id", "")
    listed: set[str] = set()
    for page in range(1, PAGES + 1):
        url = with_path(
            options.base_url or API, f"accounts/{account_id}/ai/models/search", page=str(page), per_page=str(PAGE)
        )
        answer = yield from survey.get(
            url, "the models of Workers AI", may="give the API token the permission Account > Workers AI > Read"
        )
        if not isinstance(answer, dict):
            return
        items = answer.get("result") or ()
        for item in items:
            listed.add(item["name"])
            survey.add(item["name"], callable=True)
        total = (answer.get("result_info") or {}).get("total_count")
        if not items or (total is not None and page * PAGE >= total):
            break
    survey.expect(listed, "the models of Workers AI")
