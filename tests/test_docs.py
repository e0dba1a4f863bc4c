"""Pages that people read: links lead somewhere, files that are named are there, and no page is missing from the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engram.sweeps.study.loading import load
from tests.command_line import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/**/*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)")
FOLDERS = "engram|sweeps|models|data|measures|tests|docs|deploy|examples|benchmarks"
NAMED = re.compile(rf"`((?:{FOLDERS})/[\w./]+)`")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for target, anchor in LINK.findall(page.read_text()):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        found = (page.parent / target).resolve()
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{target}#{anchor}"


@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
def test_files_that_a_page_names_are_there(page: Path):
    for name in NAMED.findall(page.read_text()):
        assert (ROOT / name).exists(), name


def test_the_index_lists_every_page():
    index = (ROOT / "docs/README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name


@pytest.mark.parametrize(
    "text", re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
)
def test_the_studies_of_the_readme_are_studies(text: str, tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert load(path).planned_trials()
