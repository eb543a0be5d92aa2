"""render: whatever stands in a label or a note stays text, and the LaTeX compiles."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapgrid.reporting.tables import numbers, render
from gapgrid.reporting.tables.layout import MISSING, Document, Entry, Section

HOSTILE = [
    r"\input{/etc/passwd} \write18{ls} \end{document}",
    "100 % of $x_1^2$ & #1 ~ {a} \\ [b] *c* `d` \"e\" 'f' <g> |h| --- ?` !`",
    "<script>alert(1)</script> [x](javascript:alert(1)) ![y](z) <!-- -->",
    "a\nb\r\nc\td\u2028e\x00f\x1b[31mg\u202eh\ufeffi",
    "−1.0 – 2 — × ≤ ≥ ± Δ α … ° é ü ñ ç å š 中 😀 \ud800",
    "\\\\[2pt] \\\\ \\item \\begin{table}",
]
WARNING = "Not only the mix differs: x_y."


def document(*texts: str) -> Document:
    """A document with these texts in every place."""
    gap, missing = Entry("+3.0", "[+1.0, +5.0]", True), Entry(MISSING)
    body = [[Entry(text), Entry(text, "[−1.0, +2.0]", False), gap, missing] for text in texts]
    joined = " ".join(texts)
    sections = [Section(text, ["student", text, joined, "n"], 1, body, [text]) for text in texts]
    return Document(joined, joined, sections, {"Protocol": list(texts), joined[:40]: [joined]})


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_holds_no_html_no_link_and_no_cell_border(text: str) -> None:
    escaped = render.markdown_text(text)
    assert not re.search(r"[<>\n\r\x00-\x1f\u2028\u202e\ud800]", escaped)
    assert not re.search(r"(?<!\\)[|\[\]`*]", escaped.replace("\\\\", ""))


def test_markdown_leaves_underscores_in_words_readable() -> None:
    assert render.markdown_text("learning_rate 1e-05") == "learning_rate 1e-05"
    assert render.markdown_text("_x_ __y__") == "\\_x\\_ \\_\\_y\\_\\_"


def test_each_row_of_a_markdown_table_has_as_many_cells_as_its_head() -> None:
    text = render.markdown(document(*HOSTILE))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == len(HOSTILE) * (2 + len(HOSTILE))
    assert {len(re.findall(r"(?<!\\)\|", row.replace("\\\\", ""))) for row in rows} == {5}


def test_significance_is_seen_without_colour() -> None:
    text = render.markdown(document("x"))
    assert "| x | x° [−1.0, +2.0] | **+3.0** [+1.0, +5.0] | – |" in text
    latex = render.latex(document("x"))
    assert r"\gapgridopen{x\ensuremath{^{\circ}}}" in latex and r"\textbf{+3.0}" in latex


@given(st.text())
def test_latex_text_is_plain_ascii_without_open_groups(text: str) -> None:
    escaped = render.latex_text(text)
    assert escaped.isascii()
    bare = re.sub(r"\\[\\{}$&#%_]", "", escaped)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[&#%~]", re.sub(r"\\~\{", "", bare))


def test_letters_that_tex_does_not_know_are_named() -> None:
    assert render.latex_text("é中") == "\\'{e}U+4E2D"


def test_a_warning_stands_in_every_caption() -> None:
    warned = document("a", "b")._replace(warning=WARNING)
    text = render.latex(warned)
    assert text.count(r"\textbf{Not only the mix differs: x\_y.}") == text.count(r"\caption{") == 2
    assert f"> **{WARNING}**" in render.markdown(warned)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("packages", ["{booktabs}", r"{booktabs,xcolor}\usepackage[T1]{fontenc}"])
def test_latex_compiles_and_says_what_it_should(tmp_path: Path, packages: str) -> None:
    (tmp_path / "table.tex").write_text(render.latex(document(*HOSTILE)))
    (tmp_path / "main.tex").write_text(
        rf"\documentclass{{article}}\usepackage{packages}"
        r"\begin{document}\input{table}THE END\end{document}"
    )
    options = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
    command = ["pdflatex", *options, "main.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, errors="replace", timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "root:" not in done.stdout
    if shutil.which("pdftotext"):
        subprocess.run(["pdftotext", "main.pdf"], cwd=tmp_path, check=True, timeout=60)
        shown = (tmp_path / "main.txt").read_text()
        assert "THE END" in shown and r"\write18{ls}" in shown and "root:" not in shown


# ---- numbers ----


@pytest.mark.parametrize(
    ("value", "sign", "text"),
    [
        (0.04, "+", "0.0"),
        (-0.04, "", "0.0"),
        (-0.05001, "+", "−0.1"),
        (1.25, "+", "+1.2"),
        (-7.1, "", "−7.1"),
        (100.0, "", "100.0"),
    ],
)
def test_a_number_has_one_decimal_a_true_minus_and_zero_no_sign(
    value: float, sign: str, text: str
) -> None:
    assert numbers.signed(value, sign) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(70.0, "70B"), (1.87, "1.87B"), (0.5, "500M"), (29.7e-6, "29.7k"), (5e-7, "500")],
)
def test_a_size_has_its_unit(size: float, text: str) -> None:
    assert numbers.billions(size) == text


def test_a_long_table_goes_on_in_another_one_and_keeps_its_groups_whole() -> None:
    number = Entry("1.0", "[0.0, 2.0]")
    body = [
        [Entry(f"student {student}" if row == 0 else ""), Entry(f"mix {row}"), number]
        for student in range(9)
        for row in range(5)
    ]
    head = ["student", "trained on", "math"]
    section = Section("By benchmark", head, 2, body, ["A legend."], is_grouped=True)
    lines = render.latex_section(section, "A caption.")
    # Intervals stand in the line where only one column has any: 9 groups of 1 + 5 lines.
    assert render.LONGEST < 9 * (1 + 5) <= 2 * render.LONGEST
    assert lines.count(r"\begin{table}[htbp]") == lines.count(r"\end{table}") == 2
    captions = [line for line in lines if "caption{" in line]
    assert captions == [r"\caption{A caption.}", r"\caption{By benchmark, continued.}"]
    parts = "\n".join(lines).split(r"\begin{table}")[1:]
    for part in parts:
        assert part.count("mix 0") == part.count("mix 4") == part.count("student ")
    assert [part.count("A legend.") for part in parts] == [0, 1]


def test_intervals_of_several_columns_stand_below() -> None:
    row = [Entry("s"), Entry("1.0", "[0.0, 2.0]"), Entry("2.0", "[1.0, 3.0]")]
    lines = render.latex_section(Section("T", ["student", "a", "b"], 1, [row], []), "C")
    at = lines.index(r"s & 1.0 & 2.0 \\[-2pt]")
    assert lines[at + 1] == r" & {\tiny {[}0.0, 2.0{]}} & {\tiny {[}1.0, 3.0{]}} \\[3pt]"
