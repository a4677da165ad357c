from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from stillhouse.settings.page import configuration_page
from stillhouse.settings.reading import parse_settings
from stillhouse.settings.tables import SECTIONS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"


def test_the_reference_is_what_the_reader_reads_by() -> None:
    assert PAGE.read_text("utf-8") == configuration_page(), (
        "run python -m stillhouse.settings.page > docs/reference/configuration.md"
    )


def test_the_example_of_the_reference_is_a_configuration() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", configuration_page(), re.DOTALL)
    assert set(tomllib.loads(example)) == {"upstreams", "models", "budgets"}
    assert parse_settings(example, {}, "example").catalogue.routes["own"]


@pytest.mark.parametrize("name", SECTIONS)
def test_every_field_of_a_section_has_a_key_and_every_key_a_field(name: str) -> None:
    section = SECTIONS[name]
    assert [field.name for field in section.fields] == [
        field.name for field in fields(section.noun)
    ]
