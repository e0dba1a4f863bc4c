"""The report: one file, everything in it, nothing fetched, everything from outside escaped."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from engram.sweeps.results import findings, report, tables
from engram.sweeps.results.figures import draw
from tests import fake_records
from tests.browser import chromium, needs_chromium
from tests.command_line import engram

EVIL = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The text, tags and addresses of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def troubled():
    """A study with a hostile question and text values, and trials lost in every way."""
    return fake_records.evidence(
        {"model.family": ["feedforward", "gru", EVIL], "model.dropout": [0.0, 0.2, 0.5]},
        lambda p: 0.4 + p["model.dropout"],
        {2: "failed", 4: "diverged", 6: "pruned"},
        question=EVIL,
    )


@pytest.fixture(scope="module")
def troubled_page(troubled) -> str:
    return report.page(troubled, draw.draw(troubled))


@pytest.fixture(scope="module")
def finished_page(finished_study) -> Path:
    return finished_study.home / "studies" / finished_study.name / "report.html"


# -- what is in it ----------------------------------------------------------------------------------


def test_a_reader_who_was_not_there_finds_what_was_asked_and_found(finished_page):
    page = Page(finished_page.read_text())
    for words in (
        "Does dropout lower the variance, <b>or</b> only the fit?",
        "Best is",
        "validation error of",
        "4 completed",
        "6 per trial, subset draws, seed 0",
        "Ranked by validation error",
        "Ranked by variance",
        "Limits and warnings",
        "How it was run, and how to run it again",
        "python orchestrate.py run small.yaml",
        "git.commit",
        "data.digest.mnist1d",
        "version.torch",
        "name: small",
    ):
        assert words in page.text, words
    assert sum(tag == "figure" for tag, _ in page.tags) >= 8
    assert all(a.get("alt") for tag, a in page.tags if tag == "img")


def test_every_limit_that_applies_is_told(troubled):
    told = " ".join(findings.limits(troubled))
    assert "1 of 9 trials failed" in told
    assert "1 of 9 trials diverged" in told
    assert "1 of 9 trials were stopped early" in told
    assert "overlap (m/n = 0.33 at m = 100)" in told
    assert "by luck alone the best of" in told
    assert "dozens of replicas" in told


def test_few_replicas_no_validation_and_dirty_code_are_told():
    few = fake_records.evidence({"data.train_size": [100, 200]}, data={"validation": 0})
    for record in few.records:
        record["replicas"] = 3
        del record["measures"]["validation_error"]
        record["warnings"] = ["predictions were not kept"]
        record["censored_replicas"] = 2
    few.provenance["git.dirty"] = True
    told = " ".join(findings.limits(few))
    for words in (
        "Only 3 replicas per trial",
        "Nothing was held out for validation",
        "not committed",
        "same number of epochs",
        "had not settled",
        "predictions were not kept (2 trials)",
    ):
        assert words in told, words


def test_an_unfinished_study_says_so():
    found = fake_records.evidence({"model.dropout": [0.0, 0.1, 0.2]})
    del found.records[2]
    assert "Not finished: 2 of 3 trials are in." in findings.limits(found)


def test_the_answer_names_the_best_and_its_ties(troubled):
    clear = fake_records.evidence({"model.dropout": [0.0, 0.5]}, lambda p: 0.4 + p["model.dropout"])
    assert findings.answer(clear).startswith("No: dropout raises the validation error by 0.5")
    assert "Best is dropout 0," in findings.answer(clear)
    assert "clearly ahead of the other 1" in findings.answer(clear)
    assert "cannot be told apart from it" in findings.answer(
        fake_records.evidence({"model.dropout": [0.0, 0.5]})
    )
    nothing = fake_records.evidence({"model.dropout": [0.0]}, statuses={0: "failed"})
    assert findings.answer(nothing) == "No answer: none of 1 trial completed."


@pytest.mark.parametrize("status", ["failed", "diverged", "pruned"])
def test_a_study_without_a_single_success_has_a_report(status):
    lost = fake_records.evidence({"model.dropout": [0.0, 0.5]}, statuses={0: status, 1: status})
    page = Page(report.page(lost, draw.draw(lost)))
    assert "No answer: none of 2 trials completed." in page.text
    assert f"2 {status}" in page.text
    assert report.markdown(lost).startswith("No answer")


def test_the_claim_is_told():
    claim = {
        "sentence": "Dropout helps & <more>",
        "article": "0.51 against 0.46",
        "expects": "less variance",
    }
    found = fake_records.evidence({"model.dropout": [0.0, 0.5]}, claim=claim)
    page = Page(report.page(found, []))
    assert all(words in page.text for words in claim.values())


# -- what is not ------------------------------------------------------------------------------------


def addresses(page: Page) -> list[str]:
    return [
        a[name] for _, a in page.tags for name in ("src", "href", "action", "data") if a.get(name)
    ]


def test_nothing_is_fetched_from_anywhere(finished_page, troubled_page):
    for text in (finished_page.read_text(), troubled_page):
        page = Page(text)
        assert addresses(page)
        assert all(a.startswith(("#", "data:image/svg+xml;base64,")) for a in addresses(page))
        assert not re.search(r"@import|url\((?!#)", text)
        assert "default-src 'none'" in text


def test_what_comes_from_outside_is_text(troubled_page):
    page = Page(troubled_page)
    assert EVIL in page.text
    assert "RuntimeError: <i>no</i> luck" in page.text
    scripts = [a.get("type") for tag, a in page.tags if tag == "script"]
    assert scripts == ["application/json", *[None] * len(report.SCRIPTS)]
    assert not any(name.startswith("on") for _, a in page.tags for name in a)
    assert not any("style" in a for _, a in page.tags)  # the policy would refuse them
    assert all(a["src"].startswith("data:") for tag, a in page.tags if tag == "img")


def test_markdown_is_neither_html_nor_emphasis(troubled):
    text = report.markdown(troubled)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert text.startswith("**")
    assert "Best is" in text.split("###")[0]
    assert "| rank | configuration |" in text
    assert "git checkout 0123abc" in text
    assert "--set replicas.count=8" in text


def test_two_hundred_trials_stay_below_five_megabytes():
    axes = {
        "model.dropout": [k / 50 for k in range(20)],
        "training.lr": [0.001 * k for k in range(1, 11)],
    }
    many = fake_records.evidence(axes, lambda p: 0.4 + p["model.dropout"])
    text = report.page(many, draw.draw(many))
    assert len(many.records) == 200
    assert len(text.encode()) < 5e6
    assert Page(text).text.count("trial 199") >= 1


# -- the same numbers everywhere ----------------------------------------------------------------------


def test_numbers_agree_in_terminal_json_csv_markdown_and_report(finished_study, finished_page):
    home, name = finished_study.home, finished_study.name
    output = {
        form: engram("leaderboard", name, "--format", form, home=home, COLUMNS="200").stdout
        for form in ("json", "csv", "markdown", "table")
    }
    entries = json.loads(output["json"])
    rows = list(csv.DictReader(io.StringIO(output["csv"])))
    text = Page(finished_page.read_text()).text
    told = engram("report", name, "--format", "markdown", home=home).stdout
    assert len(entries) == len(rows) == 4
    for entry, row in zip(entries, rows, strict=True):
        for measure in (
            "validation_error",
            "test_error",
            "generalization_gap",
            "bias2",
            "variance",
        ):
            values = entry["measures"][measure]
            assert float(row[measure]) == values["mean"]
            assert float(row[f"{measure}_low"]) == values["low"]
            cell = f"{values['mean']:.3f} ± {(values['high'] - values['low']) / 2:.3f}"
            assert cell in text
            assert cell in output["markdown"]
            assert cell in told
            shown = f"{values['mean']:.3f}"
            assert shown in output["table"]
            assert shown in finished_study.output or measure in ("bias2", "variance")


def test_every_measure_of_every_trial_is_in_the_report(troubled, troubled_page):
    text = Page(troubled_page).text
    for record, measure in itertools.product(troubled.records, fake_records.MEASURES):
        if record["measures"].get(measure):
            assert tables.cell(record, measure) in text


# -- the command ------------------------------------------------------------------------------------


def test_the_command_writes_where_it_is_told(finished_study, tmp_path):
    page, note = tmp_path / "page.html", tmp_path / "note.md"
    for path in (page, note):
        done = engram("report", finished_study.name, "--out", str(path), home=finished_study.home)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(path)
    assert page.read_text().startswith("<!doctype html>")
    assert re.match(r"\*\*(Yes|No|Depends|Cannot be told yet): ", note.read_text())


def test_an_unknown_run_is_refused_with_the_ones_there_are(finished_study):
    done = engram("report", "smal", home=finished_study.home)
    assert done.returncode == 2
    assert "did you mean 'small'?" in done.stderr


def test_the_store_alone_is_enough(finished_study, tmp_path):
    """Years later, on a machine that has only MLflow's database and artifacts."""
    import shutil

    for item in ("mlflow.db",):
        shutil.copy(finished_study.home / item, tmp_path / item)
    done = engram("report", "small", "--out", str(tmp_path / "page.html"), home=tmp_path)
    assert done.returncode == 0, done.stderr
    there = Page((tmp_path / "page.html").read_text())
    here = Page((finished_study.home / "studies" / "small" / "report.html").read_text())
    assert sum(tag == "figure" for tag, _ in there.tags) == sum(
        tag == "figure" for tag, _ in here.tags
    )
    assert "name: small" in there.text


# -- in a browser -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


def opened(browser, path: Path, **options):
    """The page, and what it asked for or complained of."""
    page = browser.new_page(**options)
    noise: list[str] = []
    page.on("console", lambda m: noise.append(m.text))
    page.on("pageerror", lambda e: noise.append(str(e)))
    page.on(
        "request", lambda r: None if r.url.startswith(("file:", "data:")) else noise.append(r.url)
    )
    page.goto(path.as_uri())
    return page, noise


@needs_chromium
def test_the_report_works_offline(browser, finished_page):
    page, noise = opened(browser, finished_page)
    told = page.locator(".answer").inner_text()
    assert re.match(r"(Yes|No|Depends|Cannot be told yet): ", told)
    assert "Best is" in told
    assert page.locator("figure img").count() >= 8
    drawn = page.eval_on_selector_all(
        "figure img", "all => all.every(i => i.complete && i.naturalWidth > 300)"
    )
    assert drawn
    assert noise == []


@needs_chromium
def test_it_fits_a_telephone_and_prints(browser, finished_page):
    page, _ = opened(browser, finished_page, viewport={"width": 375, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details.print:not([open])").count() == 0
    assert page.pdf().startswith(b"%PDF")
