"""Every cell of the matrix on every host, and the docs that are made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.parity import matrix
from tests.parity.matrix import CELLS, COLUMNS, Cell, Column, Variant, World
from tests.parity.obedient import Obedient

import llamaroute as lr

TRIALS = list(matrix.trials())


@pytest.fixture(scope="module")
def around() -> Iterator[World]:
    with matrix.world() as there:
        yield there


@pytest.mark.parametrize(
    ("cell", "column", "variant"), [trial[:3] for trial in TRIALS], ids=[trial[3] for trial in TRIALS]
)
def test_cell(cell: Cell, column: Column, variant: Variant, around: World) -> None:
    assert not matrix.misfit(cell, column, variant, matrix.attempt(cell, column, variant, around))


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_async(column: Column, around: World) -> None:
    """The same cells with the other client, with the first of each host's variants."""
    variant = column.variants[0]

    async def main() -> list[str]:
        return [
            f"{cell.name}: {why}"
            for cell in CELLS
            if (why := matrix.misfit(cell, column, variant, await matrix.attempt_async(cell, column, variant, around)))
        ]

    assert asyncio.run(main()) == []


def test_the_table_has_every_cell_once() -> None:
    assert set(matrix.expected()) == {(cell.name, column.name) for cell in CELLS for column in COLUMNS}


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_no_quirk_is_forgotten(column: Column) -> None:
    """Each is on in a variant, or left out with a reason."""
    named, known = matrix.quirks_of(column)
    assert named == known
    assert all(column.left.values())


def test_the_docs_show_the_table() -> None:
    assert matrix.documented() == matrix.DOCS.read_text("utf-8"), "python -m tests.parity.matrix --write"


def test_an_empty_stream_is_asked_again() -> None:
    """Workers AI's, for an account whose `features` say that tools stream there."""
    model = Obedient()
    column = Column("cf", "", "cloudflare", "llama-4-scout", {"api": "native", "features": {"stream_tools": "native"}})
    with (
        matrix.answering(column, Variant(("empty-stream-with-tools",)), model) as (config, _),
        lr.Client(config) as client,
        client.stream("What is the capital of Peru?", tools=matrix.TOOLS) as stream,
    ):
        text = "".join(stream.text())
    assert text == stream.response.text == "The capital of Peru is Lima, on the coast of the Pacific."
    assert "empty_stream_repaired" in [notice.code for notice in stream.response.warnings]
    assert len(model.asked) == 2


# ── a wrong cell is noticed ──


def test_a_refusal_where_none_is_expected(around: World) -> None:
    cell = next(cell for cell in CELLS if cell.name == "seed")
    column = next(column for column in COLUMNS if column.name == "bedrock")
    found = matrix.attempt(cell, column, column.variants[0], around)
    assert found.letter == "R"
    other = next(column for column in COLUMNS if column.name == "vllm")
    assert "refused" in matrix.misfit(cell, other, other.variants[0], found)


def test_an_answer_in_words_is_no_call(around: World) -> None:
    cell = next(cell for cell in CELLS if cell.name == "text")
    column = next(column for column in COLUMNS if column.name == "vllm")
    wrong = Cell("text", "", cell.input, matrix._calls(("get_weather", {})))
    with pytest.raises(AssertionError):
        matrix.attempt(wrong, column, column.variants[0], around)


def test_a_notice_too_many_is_noticed(around: World) -> None:
    cell = next(cell for cell in CELLS if cell.name == "tools")
    azure, vllm = (next(column for column in COLUMNS if column.name == name) for name in ("azure", "vllm"))
    found = matrix.attempt(cell, azure, azure.variants[0], around)
    assert found.notices == {"tools_emulated"}
    assert "tools_emulated" in matrix.misfit(cell, vllm, vllm.variants[0], found)


def test_the_command_tells_what_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    column = next(column for column in COLUMNS if column.name == "llama.cpp")
    monkeypatch.setattr(matrix, "COLUMNS", (column,))
    monkeypatch.setattr(matrix, "CELLS", tuple(cell for cell in CELLS if cell.name in ("text", "seed")))
    assert matrix.main([]) == 0
    monkeypatch.setattr(matrix, "EXPECTED", "cell llama.cpp\ntext N\nseed R\n")
    assert matrix.main(["--write"]) == 1
    assert "seed" in capsys.readouterr().out
