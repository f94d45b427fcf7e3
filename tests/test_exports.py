"""What `llamaroute` exports: each name is there, is documented, and comes from where it lives."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import llamaroute

# What api.md and the changelog promise. A name is added here on purpose, and never taken away in silence.
PUBLIC = """
    AllTargetsFailedError AsyncClient AsyncConversation AsyncConversationStream AsyncRunStream AsyncStream Attempt
    AttemptError AuthenticationError CapabilityError ChatResponse Client Config ConfigError ConnectionError
    ContentFilterError ContextLengthError Continued Conversation ConversationStream Cost Discovered Discovery
    DiscoveryProblem Document FailedOver Finished Image InputError InvalidRequestError JsonSchema LlamarouteError
    Message ModelRetiredError NotFoundError Notice OutputValidationError OverloadedError PayloadTooLargeError
    PermissionDeniedError Plan PlannedTarget PolicyError ProtocolError ProviderError QuotaExhaustedError
    RateLimitError ReasoningDelta Restarted RetryPolicy Retrying RunEvent RunResult RunStream ServerError Started
    Step Stream StreamEvent StreamInterruptedError TargetHealth Text TextDelta Timeout TimeoutError Timing
    TokenCount TokenLogprob Tool ToolCall ToolCallDelta ToolCallDone ToolCallStarted ToolError ToolResult Usage
    UsageReported Video __version__ assistant system tool_result user
""".split()  # noqa: SIM905
SOURCE = ast.parse(Path(inspect.getsourcefile(llamaroute) or "").read_text("utf-8"))


def test_the_list():
    assert sorted(llamaroute.__all__) == sorted(PUBLIC)
    assert len(set(llamaroute.__all__)) == len(llamaroute.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_is_there(name: str):
    value = getattr(llamaroute, name)
    assert name in dir(llamaroute)
    assert getattr(llamaroute, name) is value
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__.startswith("llamaroute.")
        assert value.__doc__
        assert getattr(importlib.import_module(value.__module__), name) is value


def test_lazy_names_and_what_type_checkers_see_are_the_same():
    """`from .client import Client` under TYPE_CHECKING, `"client": ("Client",)` at run time, and `__all__`."""
    typed = {
        alias.name: node.module
        for block in SOURCE.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == llamaroute._MODULES
    assert set(typed) | {"__version__"} == set(llamaroute.__all__)


def test_nothing_else_is_public():
    script = """
import llamaroute
for name in llamaroute.__all__:
    getattr(llamaroute, name)
print(*(name for name in vars(llamaroute) if not name.startswith("_") and name not in llamaroute.__all__))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    extra = set(done.stdout.split())
    for name in extra - {"annotations", "TYPE_CHECKING", "Any"}:
        assert inspect.ismodule(importlib.import_module(f"llamaroute.{name}")), f"{name} is public and not in __all__"


def test_a_star_import():
    scope: dict[str, object] = {}
    exec("from llamaroute import *", scope)
    assert set(llamaroute.__all__) <= set(scope)


@pytest.mark.parametrize("name", ["Clinet", "_nothing", "chat", "httpx"])
def test_a_name_that_is_not_there(name: str):
    with pytest.raises(AttributeError, match=name):
        getattr(llamaroute, name)


def test_the_version_is_the_packages():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    assert llamaroute.__version__ == project["project"]["version"]


MODULES = [
    path
    for path in sorted(Path(llamaroute.__path__[0]).rglob("*.py"))
    if "emulator" not in path.parts and "cli" not in path.parts
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(llamaroute.__path__[0])))
def test_every_modules_own_list_is_true(path: Path):
    tree = ast.parse(path.read_text("utf-8"))
    lists = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    ]
    if not lists:
        return
    names = ast.literal_eval(lists[0])
    parts = path.relative_to(Path(llamaroute.__path__[0]).parent).with_suffix("").parts
    module = importlib.import_module(".".join(part for part in parts if part != "__init__"))
    missing = [name for name in names if not hasattr(module, name)]
    assert missing == []


def test_public_modules_are_reached_without_an_import_of_their_own():
    code = "import llamaroute as lr; print(lr.catalog.facts('cloudflare', 'llama-4-scout')['context_window'].value)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("131000\n", "")
