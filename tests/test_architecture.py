"""Who may import whom, and what pure rooms may not touch: docs/architecture.md as a table over the sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import llamaroute

ROOT = Path(llamaroute.__path__[0])

PURE = {
    "types", "errors", "spi", "wire", "dialects", "providers", "parity", "media", "catalog", "pipeline", "layers",
    "routing", "output", "tokens", "fitting",
}  # fmt: skip
INPUT_OUTPUT = {
    "transport", "client", "drivers", "streams", "arguments", "runtime", "auth", "config", "state", "control", "batch",
    "interop", "emulator", "testing",
    "cli", "tools", "media_io", "local_models", "registry", "tokenizer", "conversation", "racing",
}  # fmt: skip

# Room -> rooms it may import beside itself. A room that is not here may import everything pure.
MAY_IMPORT = {
    "errors": {"types"},
    "types": {"errors"},
    "spi": {"types", "errors"},
    "wire": {"errors", "types", "spi"},
    "dialects": {"wire", "spi", "types", "errors"},
    "providers": {"dialects", "wire", "spi", "types", "errors", "catalog"},
    "parity": {"spi", "types", "errors", "pipeline", "dialects"},
    "media": {"types", "errors"},
    "catalog": {"types", "errors"},
    "output": {"types", "errors"},
    "tokens": {"types", "errors", "media"},
    "fitting": {"types", "errors"},
    "pipeline": {"spi", "types", "errors", "output"},
    "layers": {
        "pipeline",
        "parity",
        "media",
        "routing",
        "catalog",
        "spi",
        "types",
        "errors",
        "output",
        "tokens",
        "fitting",
        "wire",
    },
    "routing": {"spi", "types", "errors", "catalog", "tokens"},
}

# The configuration's values are data; only how they are read is I/O.
EXCEPTIONS = {("routing/resolve.py", "config.models")}


@dataclass
class Module:
    path: Path
    name: str
    tree: ast.Module
    imports: list[tuple[str, int]] = field(default_factory=list)
    """Full names, and the lines."""

    @property
    def room(self) -> str:
        return Path(self.name).parts[0].removesuffix(".py")

    @property
    def own(self) -> Iterator[tuple[str, int]]:
        """Imports from the package, without its name."""
        for name, line in self.imports:
            if name.startswith("llamaroute."):
                yield name.removeprefix("llamaroute."), line

    @property
    def foreign(self) -> set[str]:
        return {name for name, _ in self.imports if name.split(".")[0] != "llamaroute"}


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from executed(node)


def read(path: Path) -> Module:
    module = Module(path, str(path.relative_to(ROOT)), ast.parse(path.read_text("utf-8")))
    package = ["llamaroute", *path.relative_to(ROOT).parent.parts]
    for node in executed(module.tree):
        if isinstance(node, ast.Import):
            module.imports += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            if source in ("llamaroute", ".".join(package)) or not node.module:
                module.imports += [(f"{source}.{alias.name}", node.lineno) for alias in node.names]
            else:
                module.imports.append((source, node.lineno))
    return module


MODULES = [read(path) for path in sorted(ROOT.rglob("*.py"))]
ids = {"ids": [module.name for module in MODULES]}
PURE_MODULES = [module for module in MODULES if module.room in PURE]
pure_ids = {"ids": [module.name for module in PURE_MODULES]}


def test_dataclasses_are_made_the_cheap_way():
    """`types/dataclass.py`; the standard library's took a tenth of a start. What no start loads may use that."""
    wrong = [
        module.name
        for module in MODULES
        if module.room not in ("emulator", "cli", "testing") and module.name != "types/dataclass.py"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.module == "dataclasses"
        if "dataclass" in {alias.name for alias in node.names}
    ]
    assert wrong == []


def test_the_table_knows_every_room():
    rooms = {module.room for module in MODULES} - {"__init__", "__main__", "streaming"}
    assert rooms <= PURE | INPUT_OUTPUT, "a new room: say here whether it is pure"
    assert {module.room for module in PURE_MODULES} == PURE
    assert len(MODULES) > 50


def test_imports_are_read():
    """The tests below hold for nothing if nothing is read."""
    resolve = next(module for module in MODULES if module.name == "routing/resolve.py")
    assert ("config.models") in {name for name, _ in resolve.own}
    engine = next(module for module in MODULES if module.name == "transport/httpx.py")
    assert {"httpcore", "ssl"} <= engine.foreign


@pytest.mark.parametrize("module", PURE_MODULES, **pure_ids)
def test_pure_rooms_do_not_import_rooms_of_input_and_output(module: Module):
    wrong = [
        f"{module.name}:{line} imports {name}"
        for name, line in module.own
        if name.split(".")[0] in INPUT_OUTPUT and (module.name, name) not in EXCEPTIONS
    ]
    assert wrong == []


def test_each_exception_is_still_needed():
    used = {(module.name, name) for module in MODULES for name, _ in module.own}
    assert used >= EXCEPTIONS


@pytest.mark.parametrize("module", PURE_MODULES, **pure_ids)
def test_rooms_import_only_what_lies_below_them(module: Module):
    allowed = MAY_IMPORT[module.room] | {module.room}
    wrong = [
        f"{module.name}:{line} imports {name}"
        for name, line in module.own
        if name.split(".")[0] not in allowed and (module.name, name) not in EXCEPTIONS
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("httpx", {"transport/httpx.py"}),
        ("httpcore", {"transport/httpx.py", "transport/deadline.py", "transport/asyncio_stream.py"}),
        ("aiohttp", {"transport/aiohttp.py"}),
        ("yarl", {"transport/aiohttp.py"}),
        ("h11", {"emulator/server.py"}),
        ("tenacity", {"layers/retry.py"}),
        ("typer", {"cli"}),
        ("rich", {"cli"}),
        ("yaml", {"config/files.py"}),
        ("redis", {"state/redis.py"}),
        ("xllamacpp", {"transport/local_engine.py", "transport/local.py", "emulator/model.py"}),
        ("pytest", {"testing"}),
    ],
)
def test_packages_are_known_in_one_place(package: str, homes: set[str]):
    users = {module.name for module in MODULES if any(name.split(".")[0] == package for name in module.foreign)}
    strays = {user for user in users if user not in homes and Path(user).parts[0] not in homes}
    assert strays == set()


def test_providers_are_reached_through_the_registry_alone():
    users = {
        module.name
        for module in MODULES
        for name, _ in module.own
        if name.split(".")[0] == "providers" and module.room != "providers"
    }
    assert users == set()
    named = {
        module.name
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith("llamaroute.providers.")
    }
    assert named == {"registry.py"}


@pytest.mark.parametrize(
    "module", [module for module in MODULES if module.room == "emulator"], ids=lambda module: module.name
)
def test_the_emulator_shares_nothing_with_what_it_tests(module: Module):
    assert {name for name, _ in module.own if name.split(".")[0] != "emulator"} == set()


# -- pure means pure --------------------------------------------------------------------------------------------------

NOT_PURE = {
    "time", "socket", "random", "secrets", "logging", "subprocess", "threading", "asyncio", "anyio", "trio",
    "ssl", "select", "tempfile", "shutil", "http", "urllib.request", "urllib.error", "glob", "httpx", "httpcore",
    "requests", "aiohttp", "warnings", "multiprocessing", "concurrent.futures", "signal", "platform", "getpass",
}  # fmt: skip


@pytest.mark.parametrize("module", PURE_MODULES, **pure_ids)
def test_pure_rooms_import_nothing_that_looks_at_the_world(module: Module):
    names = module.foreign | {name.split(".")[0] for name in module.foreign}
    assert names & NOT_PURE == set()


WORLD = {
    "os": {"environ", "getenv", "putenv", "open", "getcwd", "listdir", "stat", "system", "popen"},
    "datetime": {"now", "today", "utcnow"},
    "date": {"today"},
    "Path": {"cwd", "home"},
    "uuid": {"uuid1", "uuid4"},
}
READS = {"read_text", "read_bytes", "write_text", "write_bytes", "iterdir", "exists", "is_file", "expanduser"}


OWN_DATA = "catalog/__init__.py"
"""The catalogue reads the files of its own package, and nothing else."""


def touches(module: Module) -> Iterator[str]:
    for node in executed(module.tree):
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        if called in ("open", "print", "input") and module.name != OWN_DATA:
            yield f"{module.name}:{node.lineno} calls {called}"
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
        if node.attr in WORLD.get(name, ()) and (module.name, node.attr) != (OWN_DATA, "listdir"):
            yield f"{module.name}:{node.lineno} uses {name}.{node.attr}"
        if node.attr in READS and module.name != OWN_DATA:
            yield f"{module.name}:{node.lineno} uses .{node.attr}"


@pytest.mark.parametrize("module", PURE_MODULES, **pure_ids)
def test_pure_rooms_do_not_touch_the_world(module: Module):
    assert list(touches(module)) == []


def test_touching_is_noticed():
    io = next(module for module in MODULES if module.name == "auth/base.py")
    assert any("read_text" in line for line in touches(io))


# -- data, not branches -----------------------------------------------------------------------------------------------

DATA = {"catalog", "providers", "emulator"}
# The sample file that `config init` writes, the table of models that can be fetched, and where a tokenizer is found.
ALSO_DATA = {"cli/starter.py", "local_models.py", "tokenizer.py"}
MODEL = re.compile(r"llama-?4|scout|maverick|behemoth|smollm|@cf/|meta-llama", re.IGNORECASE)


def docstrings(tree: ast.Module) -> set[int]:
    """Ids of the constants that are documentation: strings that stand as statements."""
    return {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


LOGIC = [module for module in MODULES if module.room not in DATA and module.name not in ALSO_DATA]


@pytest.mark.parametrize("module", LOGIC, ids=[module.name for module in LOGIC])
def test_no_model_is_named_in_code(module: Module):
    documented = docstrings(module.tree)
    named = [
        f"{module.name}:{node.lineno} {node.value[:60]!r}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documented
        and MODEL.search(node.value)
    ]
    assert named == []


@pytest.mark.parametrize("module", LOGIC, ids=[module.name for module in LOGIC])
def test_no_branch_asks_which_provider_it_is(module: Module):
    asked = []
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        names = {
            side.attr if isinstance(side, ast.Attribute) else side.id if isinstance(side, ast.Name) else ""
            for side in sides
        }
        texts = [side for side in sides if isinstance(side, ast.Constant) and isinstance(side.value, str)]
        if texts and names & {"provider", "provider_kind", "provider_name", "account"}:
            asked.append(f"{module.name}:{node.lineno}")
        kinds = {"cloudflare", "huggingface", "openai-compatible", "azure", "bedrock", "vertex", "databricks"}
        if any(text.value in kinds for text in texts):
            asked.append(f"{module.name}:{node.lineno}")
    assert asked == []
