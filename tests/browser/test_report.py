"""Snakemake's report in a real browser: one file, and its figures are shown."""

from pathlib import Path

from tests.browser.chromium import Browser
from tests.workflow.conftest import Project

OPEN = """
[...document.querySelectorAll('a')].find((a) => a.textContent.trim() === arguments[0]).click()
"""
HAS_ROW = """
const cells = [...document.querySelectorAll('tbody td')];
return cells.some((cell) => cell.textContent.trim() === 'NAME')
"""
SHOW = """
const hasName = (row) => [...row.cells].some((cell) => cell.textContent.trim() === arguments[0]);
const row = [...document.querySelectorAll('tbody tr')].find(hasName);
row.querySelector('[iconname=eye]').click()
"""
N_SHOWN = """
const images = [...document.querySelectorAll('img')].filter((image) => image.src.includes('NAME'));
return images.filter((image) => image.naturalWidth > 300 && image.width > 300).length
"""


def test_the_report_shows_its_figures(browser: Browser, finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    done = project.snakemake("--report", "results/stub/report.html")
    assert done.returncode == 0, done.stderr[-2000:]
    browser.open(project.result("report.html"))
    browser.wait_for("return document.body.innerText.includes('Figures')")
    assert "learnability-gap grid" in browser.do("return document.body.innerText")
    browser.do(OPEN, "Figures")
    for name in ("gap", "accuracy"):
        browser.wait_for(HAS_ROW.replace("NAME", name))
        browser.do(SHOW, name)
        assert browser.wait_for(N_SHOWN.replace("NAME", f"filename={name}.svg")) == 1
        browser.picture(f"report-{name}")
    # Snakemake's own report has a style sheet's development build, which the console reports.
    assert [line for line in browser.errors() if "tailwindcss" not in line] == []
    assert browser.requests() == []
    assert browser.do("return window.hacked") is None
