"""The report in a real browser, at 6 and 200 trials: hover, brush, zoom, sort, filter, dark, paper, telephone, no script."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from engram.sweeps.results import report, shelf
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.inventory import Entry
from tests import fake_records
from tests.browser import chromium, needs_chromium

pytestmark = needs_chromium

WIDE = {"width": 1440, "height": 900}
LONG = "my_own.package:VeryLongNetworkClassName"


def six() -> Evidence:
    return fake_records.evidence(
        {"model.dropout": [0.0, 0.2, 0.5], "data.train_size": [1000, 2500]},
        lambda p: 0.4 + abs(p["model.dropout"] - 0.2) - p["data.train_size"] / 1e4,
        {5: "diverged"},
    )


def sixty() -> Evidence:
    return fake_records.evidence(
        {
            "model.family": ["gru", "lstm", LONG],
            "model.dropout": [0.0, 0.1, 0.2, 0.3, 0.5],
            "training.lr": [0.001, 0.003, 0.01, 0.03],
        },
        lambda p: 0.4 + abs(p["model.dropout"] - 0.2) + p["training.lr"],
    )


def two_hundred() -> Evidence:
    return fake_records.evidence(
        {
            "model.dropout": [k / 50 for k in range(20)],
            "training.lr": [0.0001 * 2**k for k in range(10)],
        },
        lambda p: 0.4 + abs(p["model.dropout"] - 0.2) + p["training.lr"],
    )


MADE = {"6": six, "60": sixty, "200": two_hundred}


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """The page of each size; pictures are drawn for the sixty that go on paper."""
    from engram.sweeps.results.figures import draw

    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, make in MADE.items():
        evidence = make()
        found[name] = folder / f"{name}.html"
        pictures = draw.draw(evidence) if name == "60" else []
        found[name].write_text(report.page(evidence, pictures))
    return found


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


def opened(browser: Any, path: Path, **options: Any) -> Any:
    """The page, which fails where it asks for anything or complains."""
    page = browser.new_page(**{"viewport": WIDE, **options})
    page.set_default_timeout(10_000)
    page.noise = []
    page.on("console", lambda m: page.noise.append(m.text))
    page.on("pageerror", lambda e: page.noise.append(str(e)))
    page.on("request", lambda r: r.url.startswith("file:") or page.noise.append(r.url[:60]))
    page.goto(path.as_uri())
    return page


def quiet(page: Any) -> None:
    noise = [line for line in page.noise if not line.startswith("data:image")]
    page.close()
    assert noise == []


def column(page: Any, heading: str) -> list[str]:
    heads = page.locator("table.board").first.locator("thead th").all_inner_texts()
    at = [h.strip().rstrip(" ▲▼") for h in heads].index(heading) + 1
    return page.locator(
        f"table.board >> nth=0 >> tbody tr:visible > *:nth-child({at})"
    ).all_inner_texts()


@pytest.mark.parametrize("size", ["6", "200"])
def test_the_table_sorts_filters_hides_and_exports(browser, pages, size):
    page = opened(browser, pages[size])
    table = page.locator("table.board").first
    assert len(column(page, "dropout")) == int(size)
    table.get_by_role("button", name="dropout").click()
    values = [float(v) for v in column(page, "dropout")]
    assert values == sorted(values)
    table.get_by_role("button", name="dropout").click()
    assert [float(v) for v in column(page, "dropout")] == values[::-1]
    table.get_by_role("button", name="variance").click()
    shown = [float(v.split()[0]) for v in column(page, "variance") if v != "–"]
    assert shown == sorted(shown)
    assert all(v == "–" for v in column(page, "variance")[len(shown) :])  # the unknown stays last
    page.get_by_label("filter").fill("dropout>0.1")
    kept = column(page, "dropout")
    assert kept
    assert all(float(v) > 0.1 for v in kept)
    assert page.locator(".tools output").inner_text() == f"{len(kept)} of {size}"
    page.get_by_label("filter").fill("")
    page.get_by_text("Columns", exact=True).click()
    page.locator(".columns").get_by_label("gap").uncheck()
    assert not table.get_by_role("button", name="gap").is_visible()
    page.locator(".columns").get_by_label("memorization").check()
    assert table.get_by_role("button", name="memorization").is_visible()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as CSV").click()
    lines = Path(saved.value.path()).read_text().splitlines()
    assert len(lines) == int(size) + 1
    assert "memorization" in lines[0]
    assert "gap" not in lines[0].split(",")
    quiet(page)


@pytest.mark.parametrize("size", ["6", "200"])
def test_points_say_what_they_are(browser, pages, size):
    page = opened(browser, pages[size])
    point = page.locator("#explore .chart circle.first").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()  # others may lie over it: not `hover`, which waits for them to go
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    told = page.locator(".tip").inner_text()
    assert re.search(r"dropout 0.2", told)
    assert re.search(r"validation error \d\.\d{3} ± \d\.\d{3}", told)
    assert "rank 1" in told
    quiet(page)


def drag(page: Any, box: dict[str, float], start: tuple, end: tuple) -> None:
    (x0, y0), (x1, y1) = (
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)
    )
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move((x0 + x1) / 2, (y0 + y1) / 2)
    page.mouse.move(x1, y1)
    page.mouse.up()


@pytest.mark.parametrize("size", ["6", "200"])
def test_a_brush_keeps_its_trials_here_in_all_charts_and_in_the_table(browser, pages, size):
    page = opened(browser, pages[size])
    grip = page.locator('.parallel .grip[data-axis="model.dropout"]')
    grip.scroll_into_view_if_needed()
    drag(page, grip.bounding_box(), (0.5, 1.0), (0.5, 0.7))  # the lowest values
    kept = [float(v) for v in column(page, "dropout")]
    assert 0 < len(kept) < int(size)
    assert max(kept) < 0.2
    faded = page.locator(".panel >> nth=0 >> .chart >> nth=0 >> circle.faded").count()
    assert faded >= int(size) - len(kept) - 1  # one diverged, and has no point
    page.get_by_role("button", name="Show all trials").click()
    assert len(column(page, "dropout")) == int(size)
    quiet(page)


def test_a_drag_zooms_and_a_double_click_shows_the_whole(browser, pages):
    page = opened(browser, pages["200"])
    chart = page.locator(".panel >> nth=0 >> .chart >> nth=0")
    chart.scroll_into_view_if_needed()
    ticks = chart.locator(".axes text").all_text_contents()
    drag(page, chart.bounding_box(), (0.3, 0.3), (0.6, 0.7))
    zoomed = page.locator(".panel >> nth=0 >> .chart >> nth=0 >> .axes text").all_text_contents()
    assert zoomed != ticks
    page.locator(".panel >> nth=0 >> .chart >> nth=0").dblclick()
    again = page.locator(".panel >> nth=0 >> .chart >> nth=0 >> .axes text").all_text_contents()
    assert again == ticks
    quiet(page)


def test_every_chart_is_there_and_follows_the_measure(browser, pages):
    page = opened(browser, pages["200"])
    titles = page.locator("#explore h3").all_inner_texts()
    assert titles == [
        "By each setting",
        "All settings side by side",
        "Two settings",
        "Two measures",
        "Importance",
        "Learning curves",
    ]
    assert page.locator(".panel >> nth=0 >> .chart").count() == 2  # one for each setting
    page.locator(".bar-of-tools select").select_option("variance")
    assert (
        page.locator(".panel >> nth=0 >> .chart >> nth=0 >> .name").all_text_contents()[1]
        == "variance"
    )
    page.get_by_label("trials").select_option(index=[0, 3])
    assert page.locator(".curve").count() == 4
    assert page.locator(".contour rect").count() > 1000
    quiet(page)


OVERLAPS = """() => [...document.querySelectorAll('svg.chart')].flatMap((svg) => {
  const texts = [...svg.querySelectorAll('text')].map((t) => [t.textContent, t.getBoundingClientRect()]);
  const found = [];
  for (let i = 0; i < texts.length; i++) for (let k = i + 1; k < texts.length; k++) {
    const [a, b] = [texts[i][1], texts[k][1]];
    const x = Math.min(a.right, b.right) - Math.max(a.left, b.left), y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (x > 1 && y > 2) found.push([texts[i][0], texts[k][0]]);
  }
  return found;
})"""


@pytest.mark.parametrize("size", MADE)
@pytest.mark.parametrize(
    "options", [{}, {"viewport": {"width": 390, "height": 800}}], ids=["1440", "390"]
)
def test_no_text_of_a_chart_lies_over_another(browser, pages, size, options):
    page = opened(browser, pages[size], **options)
    assert page.evaluate(OVERLAPS) == []
    quiet(page)


@pytest.mark.parametrize(("size", "scheme"), [("200", "light"), ("6", "dark")])
def test_axe_finds_nothing_serious(browser, pages, size, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(browser, pages[size], color_scheme=scheme)
    found = axe.run(page).response["violations"]
    grave = [
        (v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")
    ]
    assert grave == []
    if scheme == "dark":
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", ground)[:3])) < 150
    page.close()


CONTRASTS = """() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll(".way")].map((way) => light(getComputedStyle(way).stroke)).map((v) => Math.max(v, ground) / Math.min(v, ground));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_line_of_the_best_trial_is_seen_on_its_ground(browser, pages, scheme):
    page = opened(browser, pages["60"], color_scheme=scheme)
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) == 60
    assert max(contrasts) > 5
    if scheme == "dark":
        assert min(contrasts) > 3
    quiet(page)


@pytest.mark.parametrize("size", MADE)
def test_a_telephone_scrolls_the_table_and_not_the_page(browser, pages, size):
    page = opened(browser, pages[size], viewport={"width": 390, "height": 800})
    page.get_by_text("Columns", exact=True).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    scroll = page.locator(".scroll").first
    scroll.evaluate("e => { e.scrollLeft = 300; }")
    left = page.locator("table.board >> nth=0 >> tbody th.first >> nth=0").bounding_box()["x"]
    assert 0 <= left < 40  # the first column stays in sight
    quiet(page)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
def test_the_page_of_executions_fits_and_axe_finds_nothing_serious(
    browser, tmp_path, monkeypatch, width, scheme
):
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path))
    question = "Do dropout and more examples lower the variance of a small network? " * 2
    best = {"measure": "validation_error", "mean": 0.4, "label": "n 2500 · dropout 0.2 · lr 0.001"}
    entries = [
        Entry(
            f"an-execution-{k}",
            "quickstart",
            question,
            "complete",
            6,
            6,
            0,
            best,
            "anna",
            "node-17",
        )
        for k in range(3)
    ]
    path = shelf.write_index(entries)
    page = opened(browser, path, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    table = page.locator("table").bounding_box()["width"]
    assert width < 1440 or table <= page.locator(".scroll").bounding_box()["width"]
    name = page.get_by_role("columnheader", name="name")
    assert name.evaluate("e => getComputedStyle(e).textAlign") == "left"  # as the names below it
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
    page.close()


def test_the_whole_width_is_used_and_the_verdict_is_in_sight(browser, pages):
    page = opened(browser, pages["200"])
    for name in ("variance", "verdict"):
        box = (
            page.locator("table.board >> nth=0 >> thead")
            .get_by_role("button", name=name)
            .bounding_box()
        )
        assert box["x"] + box["width"] <= 1440
    assert page.locator("table.board").first.bounding_box()["width"] > 1300
    quiet(page)


@pytest.mark.parametrize("size", ["6", "200"])
def test_without_scripts_everything_can_be_read(browser, pages, size):
    page = opened(browser, pages[size], java_script_enabled=False)
    assert page.locator(".answer").inner_text()
    assert page.locator("table.board >> nth=0 >> tbody tr").count() == int(size)
    assert page.locator("table.board").first.is_visible()
    assert not page.locator("#explore").is_visible()
    assert not page.locator(".tools").first.is_visible()
    quiet(page)


def test_sixty_trials_are_six_pages_of_paper_at_most(browser, pages):
    page = opened(browser, pages["60"])
    pdf = page.pdf(prefer_css_page_size=True)
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 6
    page.close()


@pytest.mark.parametrize("size", MADE)
def test_a_page_stays_below_five_megabytes(pages, size):
    assert pages[size].stat().st_size < 5e6
