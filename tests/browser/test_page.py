"""The grid page in a real browser: what it shows, what a click does, and that only ours runs."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from gapgrid.config.load import REPOSITORY, load_grid
from gapgrid.core.records import read_jsonl, write_json, write_jsonl
from gapgrid.reporting.dashboard import page
from gapgrid.state import status
from tests.browser.chromium import Browser
from tests.browser.conftest import MARKUP
from tests.workflow.conftest import Project

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
TRAINED = "small/short/0"
CELL = f"{TRAINED}/easy"
OPENED = "return document.getElementById('card').dataset.cell"
N_POINTS = "return document.querySelectorAll('#map .textpoint').length"
N_SAMPLES = "return document.querySelectorAll('#samples article').length"
MIXES = "return grid.mixes.map((pair) => pair[0])"
# Type or choose the second argument in the element of the first.
SET = "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
SET += "for (const name of ['input', 'change']) e.dispatchEvent(new Event(name));"


@pytest.fixture(scope="module")
def stub(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The answers and the log of one student are hostile; other results are stale or gone."""
    project = finished.copy(tmp_path_factory.mktemp("page") / "project")
    samples = project.result(f"grade/{CELL}/samples.jsonl")
    rows = read_jsonl(samples)
    for row, text in zip(rows, HOSTILE * len(rows), strict=False):
        row.update(response=text, problem=text)
    rows[0]["finish"] = "length"
    write_jsonl(samples, rows)
    project.path(f"logs/stub/train/{TRAINED}.log").write_text("\n".join(HOSTILE[:9]))
    shutil.rmtree(project.result("cells"))
    project.edit("recipes", lambda document: document["sft"].update(learning_rate=0.5))
    for name in ("manifest.json", "score.json"):
        project.result(f"score/large/mixed/0/hard/{name}").unlink()
    done = project.gapgrid("page")
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture
def opened(browser: Browser, stub: Project) -> Browser:
    """The browser with the page drawn."""
    browser.open(stub.result("grid.html"))
    browser.wait_for(f"if (document.body.dataset.ready) {N_POINTS}")
    return browser


def act(browser: Browser, action: str, *arguments: int) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    actions = ActionChains(browser.driver)
    getattr(actions.w3c_actions.pointer_action, action)(*arguments)
    actions.perform()


def hover(browser: Browser, column: int, row: int) -> str:
    """Put the mouse on a tile of the map; the text that is shown."""
    browser.do("document.getElementById('map').scrollIntoView({block: 'center'})")
    x, y = browser.do(
        "const map = document.getElementById('map'), box = map.getBoundingClientRect();"
        "const {xaxis, yaxis} = map._fullLayout;"
        "return [box.x + xaxis._offset + xaxis.d2p(arguments[0]),"
        " box.y + yaxis._offset + yaxis.d2p(arguments[1])]",
        *(column, row),
    )
    act(browser, "move_to_location", int(x), int(y))
    browser.wait_for("return document.querySelector('#map .hoverlayer .hovertext')")
    return text(browser, "#map .hoverlayer")


def open_card(browser: Browser, cell: str) -> None:
    """Open a cell's card and wait for it."""
    browser.do("open(...arguments)", *cell.split("/"))
    browser.wait_for(f"{OPENED} === '{cell}'")


def text(browser: Browser, selector: str) -> str:
    return str(browser.do("return document.querySelector(arguments[0]).textContent", selector))


def test_opens_with_no_error_and_no_network(opened: Browser) -> None:
    open_card(opened, CELL)
    opened.picture("grid-page-card")
    assert opened.errors() == []
    assert opened.requests() == []


def test_the_map_has_the_cells_of_the_grid(opened: Browser, stub: Project) -> None:
    opened.picture("grid-page")
    models, mixes = opened.do("return grid.models.map((pair) => pair[0])"), opened.do(MIXES)
    assert models == ["small", "large"] and mixes[0] == "none"
    shown = opened.do("return grid.figures.easy.data[1].z")
    for model, values in zip(models, shown, strict=True):
        for mix, value in zip(mixes, values, strict=True):
            file = stub.result(f"score/{model}/{mix}/0/easy/score.json")
            assert file.is_file() == (value is not None)
            if value is not None:
                score = stub.json(f"score/{model}/{mix}/0/easy/score.json")
                assert value == pytest.approx(100 * score["acc"])
    opened.do(SET, "benchmark", "hard")
    labels = opened.wait_for(
        "const texts = [...document.querySelectorAll('#map .textpoint text')];"
        "return texts.length === 4 && texts.map((element) => element.textContent)"
    )
    assert sum("△" in label for label in labels) == 2, "trained under another recipe"
    assert labels.count("–") == 1, "without a score"


def test_hover_shows_score_state_and_reasons(opened: Browser) -> None:
    shown = hover(opened, 1, 0)
    for part in ("recipe.learning_rate", "→ 0.5", "seed 0: ", "accuracy"):
        assert part in shown
    assert text(opened, "#causes").count("recipe.learning_rate") == 1, "one row per reason"


def test_a_click_shows_the_card(opened: Browser) -> None:
    assert opened.do("return document.getElementById('card').hidden")
    hover(opened, opened.do(MIXES).index("short"), 0)
    act(opened, "click")
    opened.wait_for(f"{OPENED} === '{CELL}'")
    assert not opened.do("return document.getElementById('card').hidden")
    assert "recipe.learning_rate" in text(opened, "#steps")
    shown = text(opened, "#texts").lower()
    for part in ("learning_rate", "data card", "response_tokens", "mixes.yaml: short"):
        assert part in shown, part
    for part in ("specs", "versions", "end of the log: train"):
        assert part in shown, part
    assert opened.do("return document.querySelectorAll('#loss .trace').length") == 1
    assert opened.do("return document.querySelectorAll('#lengths .trace').length") >= 1
    opened.do(SET, "card-benchmark", "hard")
    opened.wait_for(f"{OPENED} === '{TRAINED}/hard'")
    steps = text(opened, "#steps")
    assert f"{TRAINED}/hard" in steps and "easy" not in steps


def test_samples_are_filtered_by_kind_and_words(opened: Browser, stub: Project) -> None:
    open_card(opened, CELL)
    rows = read_jsonl(stub.result(f"grade/{CELL}/samples.jsonl"))
    n_right = stub.json(f"score/{CELL}/score.json")["n_correct"]
    counts = {
        "all": len(rows),
        "right": n_right,
        "wrong": len(rows) - n_right,
        "truncated": sum(row["finish"] == "length" for row in rows),
        "judged": 0,
    }
    assert opened.do(N_SAMPLES) == len(rows) and counts["truncated"] >= 1
    for kind, n in counts.items():
        press = f"document.querySelector('#kinds [data-kind={kind}]').click();"
        assert opened.do(press + N_SAMPLES) == n, kind
    opened.do("document.querySelector('#kinds [data-kind=all]').click()")
    n_holding = sum("IFRAME" in row["response"].upper() for row in rows)
    assert opened.do(SET + N_SAMPLES, "words", "IFrame") == n_holding >= 1
    assert opened.do(SET + N_SAMPLES, "words", "no answer holds this") == 0
    expected = f"0 shown; the page holds {len(rows)} of {len(rows)} answers"
    assert expected in text(opened, "#n-samples")


def test_hostile_texts_are_shown_and_do_not_run(opened: Browser) -> None:
    open_card(opened, CELL)
    opened.do("document.querySelectorAll('details').forEach((part) => { part.open = true })")
    time.sleep(0.5)
    assert opened.do("return window.hacked") is None
    elements = "main img, #card img, #card iframe, #card script, #samples svg, #map img"
    assert opened.do(f"return document.querySelectorAll('{elements}').length") == 0
    shown = opened.do(
        "return [...document.querySelectorAll('#samples dd.response')]"
        ".map((element) => element.textContent.toWellFormed())"
    )
    assert set(HOSTILE[:9]) <= set(shown)
    assert all(line in text(opened, "#texts") for line in HOSTILE[:6])
    assert MARKUP in hover(opened, 1, 1), "the student whose label is markup"
    act(opened, "click")
    assert MARKUP in text(opened, "#map")
    opened.wait_for(f"{OPENED}.startsWith('large/')")
    assert MARKUP in text(opened, "#card-title")
    assert opened.do("return window.hacked") is None and opened.errors() == []


def test_the_policy_stops_what_is_not_ours(opened: Browser) -> None:
    """Were markup ever to get in, it would not run, and nothing could leave."""
    opened.do(f"document.body.insertAdjacentHTML('beforeend', `{MARKUP}`)")
    opened.do(
        "const script = document.createElement('script');"
        f"script.textContent = '{RUN}'; document.body.append(script)"
    )
    opened.do(
        "fetch('http://127.0.0.1:9/').catch(() => {});new Image().src = 'http://127.0.0.1:9/x.png'"
    )
    time.sleep(0.5)
    assert opened.do("return window.hacked") is None
    assert len([line for line in opened.errors() if "Content Security Policy" in line]) >= 4
    assert opened.requests(with_blocked=False) == []


def test_a_page_without_its_side_files_says_so(
    browser: Browser, stub: Project, tmp_path: Path
) -> None:
    shutil.copy(stub.result("grid.html"), tmp_path)
    browser.open(tmp_path / "grid.html")
    browser.wait_for("return document.body.dataset.ready")
    open_card(browser, CELL)
    assert not browser.do("return document.getElementById('card-lost').hidden")


def thousand(folder: Path) -> dict[str, Any]:
    """A grid of 25 students x 20 mixes x 2 benchmarks, and a score for each cell."""
    grid = load_grid("demo", root=REPOSITORY / "config")
    student, mix, benchmark = grid["models"]["m"], grid["mixes"]["short"], grid["benchmarks"]["k2"]
    grid["models"] = {f"s{i}": {**student, "label": f"student {i}, a long name"} for i in range(25)}
    grid["mixes"] = {f"m{i}": {**mix, "label": f"a mix of weight 0.{i}"} for i in range(20)}
    grid["benchmarks"] = {f"b{i}": {**benchmark, "label": f"benchmark {i}"} for i in range(2)}
    shown = {"models": "all", "mixes": "all", "benchmarks": "all"}
    grid["experiments"] = {"all": {**shown, "plot": "accuracy_by_mix", "caption": "All."}}
    zeros = dict.fromkeys(("n_no_answer", "n_truncated", "n_unparsed"), 0)
    for i in range(25):
        for j in range(20):
            for k in range(2):
                score = {"acc": (i + j + k) / 50, "n": 500, "n_correct": 10 * (i + j + k), **zeros}
                write_json(folder / f"score/s{i}/m{j}/0/b{k}/score.json", score)
    return grid


def test_a_thousand_cells_open_quickly(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results"
    grid = thousand(results)
    start = time.perf_counter()
    statuses = status.assess(grid, results, tmp_path / "logs", status.work_in(tmp_path))
    written = page.write(grid, results, statuses)
    assert time.perf_counter() - start < 60
    assert written.stat().st_size < 20e6
    milliseconds = []
    for _ in range(3):  # the quickest counts: this machine may be busy
        browser.open(written)
        milliseconds.append(int(browser.wait_for("return document.body.dataset.ready")))
    assert browser.wait_for(N_POINTS) == 500, "students x mixes of one benchmark"
    browser.picture("grid-page-1000")
    print(f"1,000 cells: {written.stat().st_size / 1e6:.1f} MB, open after {milliseconds} ms")
    assert min(milliseconds) < 3000
