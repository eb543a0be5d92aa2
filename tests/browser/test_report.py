"""Snakemake's report in a real browser: one file, and its figures are seen."""

from pathlib import Path

from tests.browser.chromium import Browser
from tests.workflow.conftest import Project

OPEN = "const found = [...document.querySelectorAll('a')].find((one) => one.textContent.trim() === arguments[0]); found.click()"
EYE = "const rows = [...document.querySelectorAll('tbody tr')]; "
EYE += "rows.find((row) => [...row.cells].some((cell) => cell.textContent.trim() === arguments[0])).querySelector('[iconname=eye]').click()"
SEEN = "const found = [...document.querySelectorAll('img')].filter((one) => one.src.includes('NAME')); "
SEEN += "return found.filter((one) => one.naturalWidth > 300 && one.width > 300).length"


def test_the_report_shows_its_figures(browser: Browser, finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    done = project.snakemake("--report", "results/stub/report.html")
    assert done.returncode == 0, done.stderr[-2000:]
    browser.open(project.result("report.html"))
    browser.wait_for("return document.body.innerText.includes('Figures')")
    assert "learnability-gap grid" in browser.do("return document.body.innerText")
    browser.do(OPEN, "Figures")
    for name in ("gap", "accuracy"):
        browser.wait_for(f"return [...document.querySelectorAll('tbody td')].some((cell) => cell.textContent.trim() === '{name}')")
        browser.do(EYE, name)
        assert browser.wait_for(SEEN.replace("NAME", f"filename={name}.svg")) == 1
        browser.picture(f"report-{name}")
    # Snakemake's own report carries a style sheet's development build, which says so in the console.
    assert [line for line in browser.errors() if "tailwindcss" not in line] == []
    assert browser.requests() == []
    assert browser.do("return window.hacked") is None
