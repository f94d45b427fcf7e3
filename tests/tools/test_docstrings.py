"""Docstrings: what they say about parameters, in three styles, and all the rest of them, unchanged."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import docstring_parser
import pytest
from docstring_parser import DocstringStyle as Style

from llamaroute.tools.docstrings import read_docstring

GOOGLE = """Weather forecast.

    It knows Peru alone: no other country.

    Args:
        city: name of the city,
            with its district: "Lima, Surco"

            or without
        days (int, optional): how many
            days ahead
        units (Literal["c", "f"]): which (or neither)
        **more: anything else

    Note:
        Slow on Sundays.

    Returns:
        str: the forecast
    """
NUMPY = """Weather forecast.

    It knows Peru alone: no other country.

    Parameters
    ----------
    city : str
        name of the city,
        with its district
    days, nights : int, optional
        how many
    units : {'c', 'f'}
    **more
        anything else

    Returns
    -------
    str
        the forecast
    """
SPHINX = """Weather forecast.

    :param city: name of the city,
        with its district
    :type city: str
    :param int days: how many
    :returns: the forecast
    """


def test_google():
    rest, said = read_docstring(GOOGLE)
    assert said == {
        "city": 'name of the city, with its district: "Lima, Surco"\nor without',
        "days": "how many days ahead",
        "units": "which (or neither)",
        "more": "anything else",
    }
    assert rest == (
        "Weather forecast.\n\nIt knows Peru alone: no other country.\n\nNote:\n    Slow on Sundays.\n\n"
        "Returns:\n    str: the forecast"
    )


def test_numpy():
    rest, said = read_docstring(NUMPY)
    assert said == {
        "city": "name of the city, with its district",
        "days": "how many",
        "nights": "how many",
        "units": "",
        "more": "anything else",
    }
    assert rest == (
        "Weather forecast.\n\nIt knows Peru alone: no other country.\n\nReturns\n-------\nstr\n    the forecast"
    )


def test_sphinx():
    rest, said = read_docstring(SPHINX)
    assert said == {"city": "name of the city, with its district", "days": "how many"}
    assert rest == "Weather forecast.\n\n:returns: the forecast"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "One line.",
        "Args: what follows is no section",
        "Args:\n    just prose about what goes in",
        "Args:\n\nNothing indented.",
        "Parameters\n----------\n",
        "Parameters\nare passed on as they are.",
        "Do it.\n\nExample:\n    >>> f(city: 1)",
        "A line that says city: name of the city",
    ],
)
def test_what_describes_no_parameter_is_left_as_it_is(text: str):
    assert read_docstring(f"\n{text}") == (text.strip(), {})


@pytest.mark.parametrize("heading", ["Args", "Arguments", "Parameters", "Keyword Args", "Other Parameters", "args"])
def test_headings(heading: str):
    assert read_docstring(f"Do it.\n\n{heading}:\n  x: an x\n") == ("Do it.", {"x": "an x"})


def test_a_docstring_of_nothing_else():
    def tool(x):
        """Args:
        x: an x

        of two paragraphs
        """

    assert read_docstring(tool.__doc__ or "") == ("", {"x": "an x\nof two paragraphs"})


def test_text_below_the_arguments_stays():
    """What docstring-parser loses; see docs/dependencies.md."""
    text = "Do it.\n\nArgs:\n    x: an x\n\nOnly for Peru."
    assert read_docstring(text) == ("Do it.\n\nOnly for Peru.", {"x": "an x"})
    assert "Peru" not in (docstring_parser.parse(text).description or "")


def documented(package: str) -> Iterator[tuple[str, str]]:
    """Docstrings of a package's functions."""
    root = importlib.import_module(package)
    names = [package, *(f"{package}.{module.name}" for module in pkgutil.iter_modules(root.__path__))]
    for name in names:
        try:
            module = importlib.import_module(name)
        except Exception:  # parts that want other packages
            continue
        for owner in (module, *(value for value in vars(module).values() if inspect.isclass(value))):
            for key, value in vars(owner).items():
                if inspect.isfunction(value) and value.__module__ == name and value.__doc__:
                    yield f"{name}.{key}", value.__doc__


def described(text: str, style: Style) -> dict[str, str]:
    """What docstring-parser finds about parameters."""
    return {
        param.arg_name.lstrip("*").split(" ")[0]: " ".join((param.description or "").split())
        for param in docstring_parser.parse(text, style).params
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("package", "written", "read", "least"),
    [
        ("google.auth", Style.GOOGLE, Style.GOOGLE, 100),
        ("pydantic", Style.GOOGLE, Style.GOOGLE, 100),
        ("databricks.sdk.service", Style.REST, Style.REST, 1000),
        ("google.auth", Style.GOOGLE, Style.NUMPYDOC, 100),
    ],
)
def test_other_peoples_docstrings_are_read_as_docstring_parser_reads_them(
    package: str, written: Style, read: Style, least: int
):
    """Docstrings that nobody wrote for this test, and the same composed anew in NumPy's style; the usual package is
    the oracle."""
    seen = 0
    for name, text in documented(package):
        try:
            if written is not read:
                text = docstring_parser.compose(docstring_parser.parse(text, written), read)
            expected = described(text, read)
        except docstring_parser.ParseError:
            continue
        if expected:
            _, said = read_docstring(text)
            assert {key: " ".join(value.split()) for key, value in said.items()} == expected, name
            seen += 1
    assert seen >= least
