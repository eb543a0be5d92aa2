"""A sheet as Markdown and as LaTeX. All text is escaped: labels, captions and notes are the user's and may hold anything."""

import re
import unicodedata

from gapgrid.tables.sheets import OPEN, SETTLED, Entry, Section, Sheet

# ---- Markdown ----

_MARKDOWN = re.compile(r"([\\`*{}\[\]#|~$]|(?<![^\W_])_|_(?![^\W_]))")  # a _ inside a word means nothing
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def markdown_text(text: str) -> str:
    """Text that stays text in Markdown and in a cell of its tables."""
    return _MARKDOWN.sub(r"\\\1", _one_line(text)).translate(_HTML)


def _one_line(text: str) -> str:
    """Line ends and control characters, also those that turn the direction of text, become spaces."""
    kept = "".join(" " if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else letter for letter in text)
    return " ".join(kept.split())


def _markdown_entry(entry: Entry) -> str:
    text = markdown_text(entry.text)
    text = {OPEN: f"{text}°", SETTLED: f"**{text}**"}.get(entry.mark, text)
    return f"{text} {entry.small}".strip()  # an interval is ours and holds brackets that lead nowhere


def markdown_section(section: Section) -> list[str]:
    """One table with its heading and legend."""
    rule = [":--" if place < section.n_words else "--:" for place in range(len(section.head))]
    rows = [[markdown_text(name) for name in section.head], rule, *([_markdown_entry(entry) for entry in row] for row in section.body)]
    lines = [f"## {markdown_text(section.title)}", "", *(f"| {' | '.join(row)} |" for row in rows), ""]
    return [*lines, *(text for line in section.legend for text in (markdown_text(line), ""))]


def markdown(sheet: Sheet) -> str:
    """The whole sheet as GitHub's Markdown."""
    lines = [f"# {markdown_text(sheet.caption)}", ""]
    if sheet.stamp:
        lines += [f"> **{markdown_text(sheet.stamp)}**", ""]
    for section in sheet.sections:
        lines += markdown_section(section)
    for heading, notes in sheet.notes.items():
        lines += [f"## {heading}", "", *(f"- {markdown_text(line)}" for line in notes), ""]
    return "\n".join(lines)


# ---- LaTeX ----

PREAMBLE = r"""% Made by GapGrid. Needs \usepackage{booktabs}. With xcolor, what is not settled is grey, else slanted; with graphicx, a
% table wider than the text is shrunk to it.
\providecommand{\gapgridopen}[1]{\ifdefined\textcolor\textcolor[gray]{0.45}{#1}\else\textsl{#1}\fi}
\providecommand{\gapgridfit}[1]{\ifdefined\resizebox\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{#1}\else#1\fi}
"""
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",  # \textquotedbl wants another font encoding
    "'": r"{'}",
    "`": r"{`}",
    "-": r"{-}",  # else two of them become a dash
    "[": r"{[}",  # else an option of the row end before it
    "]": r"{]}",
    "*": r"{*}",
    "−": r"$-$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "°": r"\ensuremath{^{\circ}}",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "…": r"\ldots{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
}
LONG = 34  # printed lines above which a table is set smaller
LONGEST = 52  # and above which it goes on in another one


def latex_text(text: str) -> str:
    """Text that stays text in LaTeX, whatever its engine; letters that pdfTeX does not know become U+XXXX."""
    return "".join(_latex_letter(letter) for letter in _one_line(text))


def _latex_letter(letter: str) -> str:
    if letter in _LATEX:
        return _LATEX[letter]
    if letter.isascii():
        return letter
    parts = unicodedata.normalize("NFD", letter)
    accents = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u030a": "r", "\u0327": "c", "\u030c": "v"}
    if len(parts) == 2 and parts[0].isascii() and parts[0].isalpha() and parts[1] in accents:
        return f"\\{accents[parts[1]]}{{{parts[0]}}}"
    return f"U+{ord(letter):04X}"


def _latex_row(row: list[Entry], inline: bool) -> list[str]:
    """One row, and below it one in small type if anything in it has such; `inline` puts it beside."""
    marked = {OPEN: r"\gapgridopen{%s\ensuremath{^{\circ}}}", SETTLED: r"\textbf{%s}"}
    texts = []
    for entry in row:
        text = latex_text(entry.text)
        # Bold does not reach a minus sign in math.
        bold = text.replace("$-$", r"\boldmath$-$\unboldmath") if entry.mark == SETTLED else text
        text = marked[entry.mark].replace("%s", bold) if entry.mark else text
        texts.append(f"{text} {_small(entry)}".strip() if inline else text)
    has_small = any(entry.small for entry in row) and not inline
    lines = [" & ".join(texts) + (r" \\[-2pt]" if has_small else r" \\")]
    return [*lines, " & ".join(map(_small, row)) + r" \\[3pt]"] if has_small else lines


def _small(entry: Entry) -> str:
    return rf"{{\tiny {latex_text(entry.small)}}}" if entry.small else ""


def _latex_body(section: Section) -> list[list[str]]:
    """Lines that belong together: a row's, or a group's, whose name then stands above it."""
    inline = sum(any(row[place].small for row in section.body) for place in range(len(section.head))) == 1
    if not section.is_grouped:
        return [_latex_row(row, inline) for row in section.body]
    groups: list[list[str]] = []
    for row in section.body:
        if row[0].text or not groups:
            groups.append([rf"\multicolumn{{{len(row) - 1}}}{{@{{}}l}}{{\textit{{{latex_text(row[0].text)}}}}} \\"])
        groups[-1] += _latex_row(row[1:], inline)
    return groups


def _parts(blocks: list[list[str]]) -> list[list[str]]:
    """All lines, a list for each table that they need; a block stays whole."""
    parts: list[list[str]] = [[]]
    for lines in blocks:
        if parts[-1] and len(parts[-1]) + len(lines) > LONGEST:
            parts.append([])
        parts[-1] += lines
    return parts


def latex_section(section: Section, caption: str) -> list[str]:
    """One table, floating, in as many parts as it takes, its legend below the last."""
    legend = " ".join(latex_text(line) for line in section.legend)
    parts = _parts(_latex_body(section))
    floats = []
    for place, body in enumerate(parts):
        below = legend if place == len(parts) - 1 else ""
        floats += _latex_float(section, body, caption if place == 0 else f"{latex_text(section.title)}, continued.", below)
    return floats


def _latex_float(section: Section, body: list[str], caption: str, legend: str) -> list[str]:
    head, n_words = (section.head[1:], section.n_words - 1) if section.is_grouped else (section.head, section.n_words)
    columns = "l" * n_words + "r" * (len(head) - n_words)
    return [
        r"\begin{table}[htbp]",
        r"\centering",
        r"\setlength{\belowcaptionskip}{4pt}",
        rf"\caption{{{caption}}}",
        r"\scriptsize" if len(body) > LONG or len(head) > 6 else r"\small",
        rf"\setlength{{\tabcolsep}}{{{2 if len(head) > 6 else 4}pt}}",
        rf"\gapgridfit{{\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        " & ".join(latex_text(name) for name in head) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        *([rf"\par\smallskip\parbox{{\linewidth}}{{\scriptsize\raggedright {legend}}}"] if legend else []),
        r"\end{table}",
        "",
    ]


def latex(sheet: Sheet) -> str:
    """The whole sheet, to be taken in by \\input; every table a float of its own, the notes after the last."""
    lines = [PREAMBLE]
    stamp = rf" \textbf{{{latex_text(sheet.stamp)}}}" if sheet.stamp else ""
    for place, section in enumerate(sheet.sections):
        said = latex_text(sheet.caption) if place == 0 else ""
        lines += latex_section(section, f"{said} {latex_text(section.title)}.{stamp}".strip())
    for heading, notes in sheet.notes.items():
        items = [rf"\item {latex_text(line)}" for line in notes]
        lines += [rf"\paragraph{{{latex_text(heading)}.}}", r"\begin{itemize}\footnotesize\raggedright", *items, r"\end{itemize}", ""]
    return "\n".join(lines)
