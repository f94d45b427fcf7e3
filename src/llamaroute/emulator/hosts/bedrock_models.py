"""What the emulated account can see on Amazon Bedrock's control plane: foundation models and inference profiles.

Members of a model as recorded (posit-dev/chatlas:tests/_vcr/test_provider_bedrock/test_anthropic_models.yaml,
2025-12-31: more than the public model of the API has); profiles as in
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_GetInferenceProfile.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from .bedrock_sigv4 import ACCOUNT, REGIONS

__all__ = ["APPLICATION", "PROFILES", "Directory"]

PROFILES = ("us.meta.llama4-scout-17b-instruct-v1:0", "us.meta.llama4-maverick-17b-instruct-v1:0")
APPLICATION = "emulated0001"
"""Id of the one application inference profile; it leads to Scout."""

_GEO = re.compile(r"(us|eu|apac|global|us-gov)\.(?=[a-z0-9-]+\.)")
_ARN = re.compile(r"arn:aws[a-z-]*:bedrock:(?P<region>[a-z0-9-]*):(?P<account>\d*):(?P<kind>[a-z-]+)/(?P<id>.+)")
_NAMES = {
    "meta.llama4-scout-17b-instruct-v1:0": "Llama 4 Scout 17B Instruct",
    "meta.llama4-maverick-17b-instruct-v1:0": "Llama 4 Maverick 17B Instruct",
}


class Directory:
    """Models by every name they have. `callable_ids`: the ids that can be called as they are."""

    def __init__(self, callable_ids: Sequence[str], *, legacy: bool) -> None:
        self._callable = callable_ids
        self._legacy = legacy

    def foundation(self) -> list[str]:
        """Ids of the foundation models."""
        return list(dict.fromkeys(_GEO.sub("", name, count=1) for name in self._callable))

    def target(self, name: str) -> str | None:
        """The callable id behind an id or ARN; None if there is none."""
        arn = _ARN.fullmatch(name)
        if arn is None:
            return name if name in self._callable else None
        if arn["kind"] == "inference-profile" and arn["account"] == ACCOUNT:
            return arn["id"] if arn["id"] in self._profiles() else None
        if arn["kind"] == "application-inference-profile" and arn["account"] == ACCOUNT and arn["id"] == APPLICATION:
            return next(iter(self._profiles()), None)
        return None

    def bare(self, name: str) -> str | None:
        """The foundation model that an id or ARN names without a profile."""
        arn = _ARN.fullmatch(name)
        wanted = name if arn is None else arn["id"]
        return wanted if wanted in self.foundation() else None

    def is_arn(self, name: str) -> bool:
        """Whether the name has the form of an ARN."""
        return _ARN.fullmatch(name) is not None

    def _profiles(self) -> list[str]:
        return [name for name in self._callable if _GEO.match(name)]

    def profiles(self, region: str) -> Iterator[dict[str, Any]]:
        """All inference profiles, the account's own one last."""
        for name in self._profiles():
            yield self._profile(region, name)
        for name in self._profiles()[:1]:
            own = f"arn:aws:bedrock:{region}:{ACCOUNT}:application-inference-profile/{APPLICATION}"
            yield self._profile(region, name) | {
                "description": "The emulated account's own profile",
                "inferenceProfileArn": own,
                "inferenceProfileId": APPLICATION,
                "inferenceProfileName": "emulated-profile",
                "type": "APPLICATION",
            }

    def _profile(self, region: str, name: str) -> dict[str, Any]:
        model = _GEO.sub("", name, count=1)
        title = f"US Meta {_NAMES.get(model, model)}"
        sources = [place for place in REGIONS if place != "us-west-1"]
        return {
            "createdAt": "2025-04-28T00:00:00Z",
            "description": f"Routes requests to {title.removeprefix('US ')} in {', '.join(sources)}.",
            "inferenceProfileArn": f"arn:aws:bedrock:{region}:{ACCOUNT}:inference-profile/{name}",
            "inferenceProfileId": name,
            "inferenceProfileName": title,
            "models": [{"modelArn": f"arn:aws:bedrock:{place}::foundation-model/{model}"} for place in sources],
            "status": "ACTIVE",
            "type": "SYSTEM_DEFINED",
            "updatedAt": "2025-04-28T00:00:00Z",
        }

    def profile(self, region: str, name: str) -> dict[str, Any] | None:
        """One profile, by id or ARN."""
        for profile in self.profiles(region):
            if name in (profile["inferenceProfileId"], profile["inferenceProfileArn"]):
                return profile
        return None

    def models(self, region: str) -> list[dict[str, Any]]:
        """All foundation models."""
        return [self._model(region, name) for name in self.foundation()]

    def _model(self, region: str, name: str) -> dict[str, Any]:
        lifecycle: dict[str, Any] = {"status": "LEGACY" if self._legacy else "ACTIVE"}
        if self._legacy:
            lifecycle |= {"endOfLifeTime": "2027-03-30T00:00:00Z"}  # as model cards are quoted by others: inferred
        vendor = name.partition(".")[0]
        return {
            "batchSupported": {"baseModelSupported": True, "crossRegionSupported": True, "customModelSupported": False},
            "customizationsSupported": [],
            "explicitPromptCaching": {"isSupported": False},
            "guardrailsSupported": True,
            "inferenceTypesSupported": ["ON_DEMAND" if name in self._callable else "INFERENCE_PROFILE"],
            "inputModalities": ["TEXT", "IMAGE"],
            "intelligentPromptRouting": {"isSupported": False},
            "latencyOptimizationSupported": False,
            "modelArn": f"arn:aws:bedrock:{region}::foundation-model/{name}",
            "modelFamily": "Llama" if vendor == "meta" else vendor.title(),
            "modelId": name,
            "modelLifecycle": lifecycle,
            "modelName": _NAMES.get(name, name),
            "outputModalities": ["TEXT"],
            "providerName": vendor.title(),
            "responseStreamingSupported": True,
        }
