"""The grid page in a real browser: what it shows, what a click does, and that nothing in it runs that is not ours."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gapgrid import config
from gapgrid.commands import status
from gapgrid.page import gridpage
from gapgrid.records import read_jsonl, write_json, write_jsonl
from tests.browser.chromium import Browser
from tests.browser.conftest import MARKUP
from tests.workflow.conftest import Project

REPOSITORY = Path(__file__).parents[2]
GAPGRID = Path(sys.executable).parent / "gapgrid"
RUN = "window.hacked=1"
HOSTILE = [
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"<!--<script>{RUN}</script>-->",
    MARKUP,
    f"<svg onload={RUN}>",
    f'"); {RUN}; ("',
    f"\u2028{RUN}\u2029",
    f"</pre><iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    f"javascript:{RUN}",
    "${" + RUN + "} $\\frac{1}{2}$ \ud800",
]
SHORT = "small/short/0/easy"


@pytest.fixture(scope="module")
def stub(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One student's answers and log turn hostile; others are stale or gone."""
    project = finished.copy(tmp_path_factory.mktemp("page") / "project")
    make_hostile(project)
    project.edit("recipes", lambda document: document["sft"].update(learning_rate=0.5))
    project.result("score/large/mixed/0/hard/manifest.json").unlink()
    project.result("score/large/mixed/0/hard/score.json").unlink()
    write_page(project)
    return project


def make_hostile(project: Project) -> None:
    samples = project.result(f"grade/{SHORT}/samples.jsonl")
    rows = read_jsonl(samples)
    for row, text in zip(rows, HOSTILE * len(rows), strict=False):
        row.update(response=text, problem=text)
    rows[0]["finish"] = "length"
    write_jsonl(samples, rows)
    project.path(f"logs/stub/train/{SHORT.rsplit('/', 1)[0]}.log").write_text("\n".join(HOSTILE[:9]))
    shutil.rmtree(project.result("cells"))


def write_page(project: Project) -> None:
    done = subprocess.run([GAPGRID, "page", project.grid], cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def opened(browser: Browser, project: Project) -> Browser:
    browser.open(project.result("grid.html"))
    browser.wait_for("return document.body.dataset.ready && document.querySelectorAll('#map .textpoint').length")
    return browser


def point_at(browser: Browser, column: int, row: int) -> str:
    """Put the mouse on a place of the map; what is said there."""
    from selenium.webdriver.common.action_chains import ActionChains

    browser.do("document.getElementById('map').scrollIntoView({block: 'center'})")
    place = browser.do(
        "const map = document.getElementById('map'), l = map._fullLayout, box = map.getBoundingClientRect();"
        "return [box.x + l.xaxis._offset + l.xaxis.d2p(arguments[0]), box.y + l.yaxis._offset + l.yaxis.d2p(arguments[1])]",
        *(column, row),
    )
    actions = ActionChains(browser.driver)
    actions.w3c_actions.pointer_action.move_to_location(int(place[0]), int(place[1]))
    actions.perform()
    browser.wait_for("return document.querySelector('#map .hoverlayer .hovertext')")
    return str(browser.do("return document.querySelector('#map .hoverlayer').textContent"))


def click(browser: Browser, column: int, row: int) -> str:
    """Click on a place of the map; what was said there."""
    from selenium.webdriver.common.action_chains import ActionChains

    said = point_at(browser, column, row)
    actions = ActionChains(browser.driver)
    actions.w3c_actions.pointer_action.click()
    actions.perform()
    return said


def card_of(browser: Browser, cell: str) -> None:
    """Open a cell's card and wait for it."""
    model, mix, seed, benchmark = cell.split("/")
    browser.do("open(...arguments)", model, mix, seed, benchmark)
    browser.wait_for(f"return document.getElementById('card').dataset.cell === '{cell}'")


def text(browser: Browser, selector: str) -> str:
    return str(browser.do("return document.querySelector(arguments[0]).textContent", selector))


def test_opens_with_no_error_and_asks_no_network(browser: Browser, stub: Project) -> None:
    opened(browser, stub)
    card_of(browser, SHORT)
    browser.picture("grid-page-card")
    assert browser.errors() == []
    assert browser.requests() == []


def test_the_map_has_the_cells_of_the_grid(browser: Browser, stub: Project) -> None:
    opened(browser, stub)
    browser.do("document.getElementById('card').hidden = true")
    browser.picture("grid-page")
    data = browser.do("return grid.figures.easy.data[1].z.map((row) => row.map((value) => value === null ? null : Math.round(value)))")
    scores = {
        cell: round(100 * json.loads(stub.result(f"score/{cell}/easy/score.json").read_text())["acc"])
        for cell in ("small/none/0", "small/short/0", "small/mixed/0", "large/short/0", "large/mixed/0")
    }
    models, mixes = browser.do("return [grid.models.map((one) => one[0]), grid.mixes.map((one) => one[0])]")
    assert data == [[scores.get(f"{model}/{mix}/0") for mix in mixes] for model in models]
    assert models == ["small", "large"] and mixes[0] == "none"
    browser.do("const s = document.getElementById('benchmark'); s.value = 'hard'; s.dispatchEvent(new Event('change'))")
    shown = browser.wait_for(
        "const t = [...document.querySelectorAll('#map .textpoint text')].map((t) => t.textContent); return t.length === 4 && t"
    )
    assert sum("△" in one for one in shown) == 2, "trained under another recipe"
    assert shown.count("–") == 1, "without a score"


def test_hover_says_score_state_and_why(browser: Browser, stub: Project) -> None:
    opened(browser, stub)
    said = point_at(browser, 1, 0)
    assert "recipe.learning_rate" in said and "→ 0.5" in said and "seed 0: " in said and "accuracy" in said
    assert text(browser, "#causes").count("recipe.learning_rate") == 1, "alike ones stand in one row"


def test_a_click_shows_the_card(browser: Browser, stub: Project) -> None:
    opened(browser, stub)
    assert browser.do("return document.getElementById('card').hidden")
    mixes = browser.do("return grid.mixes.map((one) => one[0])")
    click(browser, mixes.index("short"), 0)
    browser.wait_for(f"return document.getElementById('card').dataset.cell === '{SHORT}'")
    assert not browser.do("return document.getElementById('card').hidden")
    assert "recipe.learning_rate" in text(browser, "#steps")
    shown = text(browser, "#texts")
    for what in ("learning_rate", "data card", "response_tokens", "mixes.yaml: short", "specs", "versions", "end of the log: train"):
        assert what in shown.lower(), what
    assert browser.do("return document.querySelectorAll('#loss .trace').length") == 1
    assert browser.do("return document.querySelectorAll('#lengths .trace').length") >= 1
    browser.do("const s = document.getElementById('card-benchmark'); s.value = 'hard'; s.dispatchEvent(new Event('change'))")
    browser.wait_for("return document.getElementById('card').dataset.cell === 'small/short/0/hard'")
    assert "small/short/0/hard" in text(browser, "#steps") and "easy" not in text(browser, "#steps")


def test_samples_are_filtered_by_kind_and_words(browser: Browser, stub: Project) -> None:
    opened(browser, stub)
    card_of(browser, SHORT)
    rows = read_jsonl(stub.result(f"grade/{SHORT}/samples.jsonl"))
    n_all, n_truncated = len(rows), sum(row["finish"] == "length" for row in rows)
    n_right = json.loads(stub.result(f"score/{SHORT}/score.json").read_text())["n_correct"]
    count = "return document.querySelectorAll('#samples article').length"
    press = "document.querySelector(`#kinds [data-kind=${arguments[0]}]`).click();" + count
    assert browser.do(count) == n_all
    assert browser.do(press, "right") == n_right and browser.do(press, "wrong") == n_all - n_right
    assert browser.do(press, "truncated") == n_truncated >= 1 and browser.do(press, "judged") == 0
    browser.do(press, "all")
    find = "const w = document.getElementById('words'); w.value = arguments[0]; w.dispatchEvent(new Event('input'));" + count
    holding = sum("IFRAME" in row["response"].upper() for row in rows)
    assert browser.do(find, "IFrame") == holding >= 1
    assert browser.do(find, "no answer holds this") == 0
    assert f"0 shown; the page holds {n_all} of {n_all} answers" in text(browser, "#n-samples")


def test_hostile_texts_are_shown_and_do_not_run(browser: Browser, stub: Project) -> None:
    opened(browser, stub)
    card_of(browser, SHORT)
    browser.do("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    time.sleep(0.5)
    assert browser.do("return window.hacked") is None
    assert (
        browser.do("return document.querySelectorAll('main img, #card img, #card iframe, #card script, #samples svg, #map img').length")
        == 0
    )
    shown = browser.do("return [...document.querySelectorAll('#samples dd.response')].map((one) => one.textContent.toWellFormed())")
    assert set(HOSTILE[:9]) <= set(shown)
    assert all(line in text(browser, "#texts") for line in HOSTILE[:6])
    assert MARKUP in click(browser, 1, 1), "the student whose label is markup"
    assert MARKUP in text(browser, "#map")
    browser.wait_for("return document.getElementById('card').dataset.cell.startsWith('large/')")
    assert MARKUP in text(browser, "#card-title")
    assert browser.do("return window.hacked") is None and browser.errors() == []


def test_the_policy_stops_what_is_not_ours(browser: Browser, stub: Project) -> None:
    """Were markup ever to get in, it would not run, and nothing could leave."""
    opened(browser, stub)
    browser.do("document.body.insertAdjacentHTML('beforeend', `<img src=x onerror=\"window.hacked=1\">`)")
    browser.do("const s = document.createElement('script'); s.textContent = 'window.hacked=1'; document.body.append(s)")
    browser.do("fetch('http://127.0.0.1:9/').catch(() => {}); new Image().src = 'http://127.0.0.1:9/x.png'")
    time.sleep(0.5)
    assert browser.do("return window.hacked") is None
    assert len([line for line in browser.errors() if "Content Security Policy" in line]) >= 4
    assert browser.requests(or_stopped=False) == []


def test_a_page_without_its_side_files_says_so(browser: Browser, stub: Project, tmp_path: Path) -> None:
    shutil.copy(stub.result("grid.html"), tmp_path)
    browser.open(tmp_path / "grid.html")
    browser.wait_for("return document.body.dataset.ready")
    card_of(browser, SHORT)
    assert not browser.do("return document.getElementById('card-lost').hidden")


def thousand(folder: Path) -> dict[str, Any]:
    """A grid of 25 students x 20 mixes x 2 benchmarks, and a score for each cell."""
    grid = config.load("demo", root=REPOSITORY / "config")
    student, mix, benchmark = grid["models"]["m"], grid["mixes"]["short"], grid["benchmarks"]["k2"]
    grid["models"] = {f"student-{i}": {**student, "label": f"student {i}, a long name"} for i in range(25)}
    grid["mixes"] = {f"mix-{i}": {**mix, "label": f"a mix of weight 0.{i}"} for i in range(20)}
    grid["benchmarks"] = {f"b{i}": {**benchmark, "label": f"benchmark {i}"} for i in range(2)}
    grid["experiments"] = {
        "all": {"models": "all", "mixes": list(grid["mixes"]), "benchmarks": "all", "plot": "accuracy_by_mix", "caption": "All."}
    }
    for i in range(25):
        for j in range(20):
            for k in range(2):
                score = {
                    "acc": (i + j + k) / 50,
                    "n": 500,
                    "n_correct": 10 * (i + j + k),
                    "n_no_answer": 0,
                    "n_truncated": 0,
                    "n_unparsed": 0,
                }
                write_json(folder / f"score/student-{i}/mix-{j}/0/b{k}/score.json", score)
    return grid


def opening_time(browser: Browser, page: Path) -> int:
    browser.open(page)
    return int(browser.wait_for("return document.body.dataset.ready"))


def test_a_thousand_cells_open_quickly(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results"
    grid = thousand(results)
    start = time.perf_counter()
    page = gridpage.write(grid, results, status.assess(grid, results, tmp_path / "logs", status.work_in(tmp_path)))
    assert time.perf_counter() - start < 60
    assert page.stat().st_size < 20e6
    milliseconds = min(opening_time(browser, page) for _ in range(3))  # the quickest: others may be at work on this machine
    n_cells = browser.wait_for("return document.querySelectorAll('#map .textpoint').length")
    browser.picture("grid-page-1000")
    assert n_cells == 500, "students x mixes of one benchmark"
    print(f"1,000 cells: {page.stat().st_size / 1e6:.1f} MB, open after {milliseconds} ms")
    assert milliseconds < 3000
