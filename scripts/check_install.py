"""What scripts/test-full checks in each environment: `check_install.py core`, or the name of an extra.

`extras` lists the extras of pyproject.toml; `archives SDIST WHEEL WHEEL` checks what was built.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable
from importlib.metadata import distribution, distributions, requires
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CORE = {"httpx", "pydantic", "tenacity"}

LIMITS = {"core": (13, 12.0), "clouds": (36, 60.0)}
"""Environment -> most distributions, this one among them, and most megabytes."""


def main(arguments: list[str]) -> None:
    """Run one check; an AssertionError, or any other, is a failure."""
    match arguments:
        case ["extras"]:
            print(*tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
        case ["archives", sdist, *wheels]:
            archives(Path(sdist), [Path(wheel) for wheel in wheels])
        case [name] if name in CHECKS:
            where = Path(distribution("llamaroute").locate_file("llamaroute"))  # type: ignore[arg-type]
            assert ROOT / "src" not in where.parents, "not the installed package"
            weigh(name)
            CHECKS[name]()
        case [name]:
            sys.exit(f"no check is written for the extra {name!r}: add one to {Path(__file__).name}")
        case _:
            sys.exit(__doc__)


def weigh(name: str) -> None:
    """Count and weigh what is installed: files as the wheels have them, in 10^6 bytes; bytecode is not counted.

    pip itself, which an environment needs no more once it stands, is left out.
    """
    found = {normal(d.metadata["Name"]): d for d in distributions()}
    for tool in ("pip", "setuptools"):
        found.pop(tool, None)
    sizes = {
        package: sum(
            Path(str(file.locate())).stat().st_size
            for file in d.files or ()
            if "__pycache__" not in file.parts and Path(str(file.locate())).exists()
        )
        / 1e6
        for package, d in found.items()
    }
    whole = sum(sizes.values())
    heaviest = ", ".join(f"{package} {sizes[package]:.1f}" for package in sorted(sizes, key=sizes.__getitem__)[:-7:-1])
    print(f"   {len(sizes)} distributions, {whole:.1f} MB: {heaviest}, ...")
    assert all(sizes.values()), f"nothing was found of {[package for package, size in sizes.items() if not size]}"
    if name in LIMITS:
        most, megabytes = LIMITS[name]
        assert len(sizes) <= most, f"{len(sizes)} distributions, more than {most}: {', '.join(sorted(sizes))}"
        assert whole <= megabytes, f"{whole:.1f} MB, more than {megabytes:g}"


def archives(sdist: Path, wheels: list[Path]) -> None:
    """The wheel holds the package whole, and one made from the sdist is the same."""
    source = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*") if path.is_file()}
    source = {name for name in source if "__pycache__" not in name}
    held = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            held.append({name for name in archive.namelist() if ".dist-info/" not in name})
            licences = [name for name in archive.namelist() if PurePosixPath(name).name == "LICENSE"]
            assert licences, f"{wheel.name} holds no LICENSE"
    assert held[0] == source, f"wheel and src differ: {sorted(held[0] ^ source)}"
    assert all(names == held[0] for names in held), "the wheel made from the sdist holds other files"
    with tarfile.open(sdist) as archive:
        names = {PurePosixPath(*PurePosixPath(name).parts[1:]).as_posix() for name in archive.getnames()}
    for wanted in ("README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "scripts/test", "examples/ask.py"):
        assert wanted in names, f"the sdist lacks {wanted}"
    strange = [
        name for name in names if re.search(r"(^|/)(\.cache|__pycache__|\.[a-z]+_cache|\.hypothesis)(/|$)", name)
    ]
    assert not strange, f"the sdist holds {strange[:5]}"
    print(f"   wheel: {len(held[0])} files, {wheels[0].stat().st_size / 1000:.0f} kB")
    print(f"   sdist: {len(names)} files and folders, {sdist.stat().st_size / 1000:.0f} kB")


def answer_of_the_emulator(
    question: Any = "Hello", *, host: str = "cloudflare", account: Callable[[Any, Any], Any] = lambda emu, table: table
) -> str:
    """One chat and one stream over real HTTP; `account` makes a provider of the emulated host's table."""
    import llamaroute as lr
    from llamaroute.testing import emulator

    with emulator(replies=["One.", "Two."]) as emu:
        table = account(emu, emu.providers(host)[host])
        with lr.Client({"providers": {"cloud": table}}) as client:
            model = "cloud:llama-4-scout" if host == "cloudflare" else "cloud:llama-4-maverick"
            plain = client.chat(question, model=model).text
            with client.stream(question, model=model) as stream:
                streamed = "".join(stream.text())
        assert (plain, streamed) == ("One.", "Two."), (plain, streamed)
        return next(request.body.decode() for request in emu.requests if "messages" in request.body.decode())


def answer_of_the_emulator_on_asyncio(**options: Any) -> None:
    """The same with `AsyncClient`."""
    import asyncio

    import llamaroute as lr
    from llamaroute.testing import emulator

    async def ask(config: Any) -> tuple[str, str]:
        async with lr.AsyncClient(config, **options) as client:
            plain = (await client.chat("Hello", model="cloud:llama-4-scout")).text
            async with client.stream("Hello", model="cloud:llama-4-scout") as stream:
                return plain, "".join([text async for text in stream.text()])

    with emulator(replies=["One.", "Two."]) as emu:
        said = asyncio.run(ask({"providers": {"cloud": emu.providers("cloudflare")["cloudflare"]}}))
    assert said == ("One.", "Two."), said


def discovered(host: str) -> Any:
    """What `discover` says of an emulated account."""
    import llamaroute as lr
    from llamaroute.testing import emulator

    with emulator() as emu, lr.Client({"providers": {"cloud": emu.providers(host)[host]}}) as client:
        return client.discover("cloud")


LOGINS: dict[str, dict[str, Any]] = {
    "azure": {"endpoint": "https://acme.services.ai.azure.com", "credential": "entra"},
    "databricks": {"host": "https://adb-1.2.azuredatabricks.net", "auth_type": "azure-cli"},
    "vertex": {"project": "acme"},
    "bedrock": {"region": "us-east-1"},
}
"""Accounts that need a vendor's software to log in."""


def core() -> None:
    """The core brings what it says and no more, loads nothing early, and answers."""
    import llamaroute as lr

    needed, queue = set[str](), [*CORE]
    while queue:
        name = queue.pop()
        if name not in needed:
            needed.add(name)
            queue += [normal(text) for text in requires(name) or () if "extra ==" not in text and holds(text)]
    found = {normal(d.metadata["Name"]) for d in distributions()} - {"llamaroute", "pip", "setuptools"}
    assert found == needed, f"installed but not needed: {found - needed}; needed but missing: {needed - found}"
    print(f"   core brings {', '.join(sorted(found))}")

    code = "import sys, llamaroute; print(*sorted(sys.modules))"
    loaded = set(run(sys.executable, "-I", "-c", code).split())
    early = {"ssl", "httpx", "pydantic", "asyncio"} & loaded or {m for m in loaded if m.startswith("llamaroute.")}
    assert not early, f"import llamaroute loads {sorted(early)}"
    answer_of_the_emulator()
    answer_of_the_emulator_on_asyncio()
    without_engine = "nothing"
    try:
        answer_of_the_emulator_on_asyncio(transport="aiohttp")
    except lr.ConfigError as error:
        without_engine = str(error)
    assert "pip install 'llamaroute[aiohttp]'" in without_engine, without_engine

    command = Path(sysconfig.get_path("scripts"), "llamaroute")
    without = subprocess.run([command, "chat", "hi"], capture_output=True, text=True, check=False)
    assert without.returncode == 2, without
    assert "pip install 'llamaroute[cli]'" in without.stderr, without.stderr
    assert "Traceback" not in without.stderr, without.stderr
    refused("local", {"providers": {"local": {"model": str(TINY[0])}}})
    for extra, table in LOGINS.items():
        refused(extra, {"providers": {extra: table}})
    problems = " ".join(map(str, discovered("vertex").problems))
    assert "pip install 'llamaroute[vertex-admin]'" in problems, problems
    for name in ("azure", "databricks", "vertex"):  # a key or a ready token needs no extra
        answer_of_the_emulator(host=name)
    machine_to_machine()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "x.yaml").write_text("version: 1\n")
        refused("yaml", Path(folder, "x.yaml"))


def refused(extra: str, config: Any) -> None:
    """Without its extra, a thing says which one it is."""
    import llamaroute as lr

    said = "nothing"
    try:
        with lr.Client(config) as client:
            client.chat("Hi")
    except lr.ConfigError as error:
        said = str(error)
    assert f"pip install 'llamaroute[{extra}]'" in said, f"without the extra {extra}, what is said is: {said}"


TINY = [ROOT / "examples" / "tiny_llama_4" / name for name in ("tiny-llama-4.gguf", "mmproj-tiny-llama-4.gguf")]


def local() -> None:
    """A model in this process, with a picture; and the small one that can be pulled."""
    import struct
    import zlib

    import llamaroute as lr

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\x00" + b"\xe0\x1e\x1e" * 64) * 64)
    red = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    tiny = {"kind": "local", "model": str(TINY[0]), "mmproj": str(TINY[1])}
    with lr.Client({"providers": {"tiny": tiny, "local": {}}}) as client:
        colour = client.chat(["What colour is this image?", lr.Image(red)], model="tiny", temperature=0).text
        assert "red" in colour.lower(), colour
        question = "What is the capital of France, and what is it known for?"
        text = client.chat(question, model="local:smollm2", max_tokens=20, temperature=0).text
        assert "Paris" in text, text


def images() -> None:
    """An image object of Pillow."""
    from PIL import Image as Pillow

    import llamaroute as lr

    picture: Any = Pillow.new("RGB", (8, 8), "red")
    sent = answer_of_the_emulator(["What is it?", lr.Image(picture)])
    assert "data:image/png;base64," in sent, sent


def documents() -> None:
    """A PDF, which Pillow writes, with pypdfium2."""
    from io import BytesIO

    from PIL import Image as Pillow

    import llamaroute as lr

    out = BytesIO()
    Pillow.new("RGB", (80, 80), "red").save(out, "PDF")
    sent = answer_of_the_emulator(["What is it?", lr.Document(out.getvalue())])
    assert "data:image/png;base64," in sent, sent


def video() -> None:
    """A video, which PyAV writes."""
    from fractions import Fraction

    import av
    from PIL import Image as Pillow

    import llamaroute as lr

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.mp4")
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            frame = av.VideoFrame.from_image(Pillow.new("RGB", (64, 48), "red"))
            frame.pts, frame.time_base = 0, Fraction(1, 10)
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        sent = answer_of_the_emulator(["What is it?", lr.Video(path)])
    assert "data:image/jpeg;base64," in sent, sent


def tokenizer() -> None:
    """Exact counts of Llama 4's tokens."""
    import llamaroute as lr

    config = {"providers": {"cloudflare": {"account_id": "0" * 32, "api_key": "none"}}}
    with lr.Client(config, env={}) as client:
        counted = client.count_tokens("List all U.S. states.", model="llama-4-scout")
    assert (counted.tokens, counted.estimated) == (17, False), counted


def yaml() -> None:
    """A config file in YAML."""
    import llamaroute as lr
    from llamaroute.testing import emulator

    with tempfile.TemporaryDirectory() as folder, emulator(replies=["Hi."]) as emu:
        table = emu.providers("openai")["openai"]
        lines = ["version: 1", "providers:", "  openai:", *(f"    {key}: {value}" for key, value in table.items())]
        path = Path(folder, "llamaroute.yaml")
        path.write_text("\n".join(lines))
        with lr.Client(path) as client:
            assert client.chat("Hello", model="openai:llama-4-scout").text == "Hi."


def cli() -> None:
    """The commands."""
    from llamaroute.testing import emulator

    command = str(Path(sysconfig.get_path("scripts"), "llamaroute"))
    assert "chat" in run(command, "--help")
    assert '"$schema"' in run(command, "config", "schema")
    with tempfile.TemporaryDirectory() as folder, emulator(replies=["Hi there."]) as emu:
        path = Path(folder, "llamaroute.toml")
        table = "".join(f'{key} = "{value}"\n' for key, value in emu.providers("openai")["openai"].items())
        path.write_text(f"version = 1\n[providers.openai]\n{table}")
        assert run(command, "chat", "Hello", "--config", str(path), "--model", "openai:llama-4-scout") == "Hi there."


def redis() -> None:
    """Limits are shared through a server, and without one each process keeps them."""
    import logging
    import socket

    import llamaroute as lr
    from llamaroute.testing import emulator

    logging.getLogger("llamaroute").setLevel(logging.ERROR)  # that nobody answers is what is looked at
    with socket.socket() as probe, emulator(replies=["One.", "Two."]) as emu:
        probe.bind(("127.0.0.1", 0))  # nobody listens here
        limits = {"cloud": {"concurrency": 2}}
        state = {"url": f"redis://127.0.0.1:{probe.getsockname()[1]}/0"}
        config = {"providers": {"cloud": emu.providers("openai")["openai"]}, "limits": limits, "state": state}
        with lr.Client(config) as client:
            reply = client.chat("Hello", model="cloud:llama-4-scout")
        assert reply.text == "One.", reply
        assert "limits_not_shared" in [notice.code for notice in reply.warnings], reply.warnings
    if not shutil.which("redis-server"):
        print("   redis-server is not here: not asked")
        return
    with tempfile.TemporaryDirectory() as folder, emulator(replies=["One.", "Two."]) as emu:
        path = Path(folder, "socket")
        command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            for _ in range(500):
                if path.exists():
                    break
                time.sleep(0.01)
            providers = {"cloud": emu.providers("openai")["openai"]}
            state = {"url": f"unix://{path}"}
            with lr.Client({"providers": providers, "limits": {"cloud": {"concurrency": 2}}, "state": state}) as client:
                reply = client.chat("Hello", model="cloud:llama-4-scout")
            assert not reply.warnings, reply.warnings
        finally:
            server.terminate()
            server.wait(10)


def azure() -> None:
    """A client of azure-ai-inference becomes a provider, and azure-identity is asked for tokens."""
    import os

    from azure.ai.inference import ChatCompletionsClient
    from azure.core.credentials import AzureKeyCredential

    import llamaroute as lr
    from llamaroute.interop.azure import from_sdk

    def account(emu: Any, table: Any) -> Any:
        return from_sdk(ChatCompletionsClient(f"{table['base_url']}/models", AzureKeyCredential(table["api_key"])))

    answer_of_the_emulator(host="azure-models", account=account)
    os.environ["AZURE_AUTHORITY_HOST"] = "https://127.0.0.1:1"  # nobody is there
    principal = {"tenant_id": "00000000-0000-0000-0000-000000000001", "client_id": "x", "client_secret": "y"}
    with lr.Client({"providers": {"azure": {**LOGINS["azure"], **principal}}}) as client:
        said = ""
        try:
            client.chat("Hi", retry=1)
        except lr.ConnectionError as error:
            said = str(error)
        assert "Entra" in said, said


def machine_to_machine() -> None:
    """A service principal's id and secret are a token, for Databricks."""
    from llamaroute.emulator.hosts.entra import CLIENT_ID, CLIENT_SECRET

    login = {"kind": "databricks", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    answer_of_the_emulator(host="databricks", account=lambda emu, table: {**login, "host": emu.url})


def databricks() -> None:
    """databricks-sdk reads a profile, and logs in as it says."""
    import os

    from llamaroute.emulator.hosts.entra import CLIENT_ID, CLIENT_SECRET

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "databrickscfg")
        os.environ["DATABRICKS_CONFIG_FILE"] = str(path)

        def account(emu: Any, table: Any) -> Any:
            path.write_text(f"[work]\nhost = {emu.url}\nclient_id = {CLIENT_ID}\nclient_secret = {CLIENT_SECRET}\n")
            return {"kind": "databricks", "profile": "work"}

        answer_of_the_emulator(host="databricks", account=account)


def vertex() -> None:
    """google-auth makes and signs what a service account's file is for, and gets a token for it."""
    import json

    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "account.json")

        def account(emu: Any, table: Any) -> Any:
            about = {"type": "service_account", "client_email": "a@emulated-project.iam.gserviceaccount.com"}
            uri = f"{emu.base_url('google')}/token"
            path.write_text(json.dumps({**about, "private_key": key.decode(), "token_uri": uri}))
            return {**{k: v for k, v in table.items() if k != "access_token"}, "credentials": str(path)}

        answer_of_the_emulator(host="vertex", account=account)


def vertex_admin() -> None:
    """google-cloud-aiplatform lists what there is."""
    found = discovered("vertex")
    assert found.found, found
    assert not found.problems, found.problems


def bedrock() -> None:
    """botocore signs, and boto3 lists what there is."""
    answer_of_the_emulator(host="bedrock")
    found = discovered("bedrock")
    assert any(entry.callable for entry in found.found), found


def aiohttp() -> None:
    """AsyncClient takes the engine by itself, and no other."""
    answer_of_the_emulator_on_asyncio()
    assert "llamaroute.transport.aiohttp" in sys.modules
    assert "httpcore" not in sys.modules or "all" in sys.argv, "the other engine was loaded, too"


def clouds() -> None:
    """All logins in one environment; what only databricks-sdk can do says so."""
    refused("databricks", {"providers": {"databricks": LOGINS["databricks"]}})
    for check in (azure, machine_to_machine, vertex, bedrock):
        check()


def everything() -> None:
    """All at once."""
    for name, check in CHECKS.items():
        if name not in ("core", "all"):
            check()


CHECKS: dict[str, Callable[[], None]] = {
    "core": core,
    "azure": azure,
    "databricks": databricks,
    "vertex": vertex,
    "vertex-admin": vertex_admin,
    "bedrock": bedrock,
    "clouds": clouds,
    "aiohttp": aiohttp,
    "local": local,
    "images": images,
    "documents": documents,
    "video": video,
    "tokenizer": tokenizer,
    "yaml": yaml,
    "cli": cli,
    "redis": redis,
    "all": everything,
}


def normal(requirement: str) -> str:
    """The name at the beginning of a requirement, as registries compare it."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def holds(requirement: str) -> bool:
    """Whether a requirement's marker is true here."""
    marker = requirement.partition(";")[2].strip()
    if not marker:
        return True
    from pip._vendor.packaging.markers import Marker

    return Marker(marker).evaluate({"extra": ""})


def run(*command: str) -> str:
    """What a program prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1:])
