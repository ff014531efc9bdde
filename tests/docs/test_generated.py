"""Pages that the code says are what it says now."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.blocks.core import Block

from clustrix_prefect import __all__ as public
from clustrix_prefect.block_types import BLOCK_TYPES
from clustrix_prefect.errors import DOCUMENTATION
from clustrix_prefect.task_resources import Resources
from tests.docs.generated import PAGES
from tests.docs.pages import DOCS, anchors, pages, with_files


@pytest.mark.parametrize(("page", "write"), PAGES.items())
def test_a_page_is_up_to_date(page: str, write: Callable[[], str]) -> None:
    assert (DOCS / page).read_text() == write(), "run `python -m tests.docs.generated`"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_file_is_shown_as_it_is(page: Path) -> None:
    text = page.read_text()
    assert text == with_files(text), "run `python -m tests.docs.generated`"


@pytest.mark.parametrize("name", public)
def test_the_api_page_has_every_public_name(name: str) -> None:
    text = (DOCS / "reference/api.md").read_text()
    assert re.search(rf"(\.|- ){name}$", text, re.MULTILINE)


@pytest.mark.parametrize("kind", BLOCK_TYPES, ids=lambda kind: kind.__name__)
def test_a_form_of_the_ui_leads_to_its_section(kind: type[Block]) -> None:
    page, _, section = str(kind._documentation_url).partition("#")
    assert page == f"{DOCUMENTATION}reference/blocks/"
    assert section in anchors(DOCS / "reference/blocks.md")


@pytest.mark.parametrize("field", Resources.model_fields)
def test_the_guide_has_every_resource(field: str) -> None:
    assert f"`{field}`" in (DOCS / "guides/resources.md").read_text()
