"""A document as Markdown and as LaTeX.

All text is escaped: labels, captions and notes are the user's and may hold anything.
"""

import re
import unicodedata

from gapgrid.reporting.tables.layout import Document, Entry, Section

# ---- Markdown ----

# A _ inside a word means nothing in Markdown.
_MARKDOWN = re.compile(r"([\\`*{}\[\]#|~$]|(?<![^\W_])_|_(?![^\W_]))")
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def markdown_text(text: str) -> str:
    """Return text that stays text in Markdown and in a cell of its tables."""
    return _MARKDOWN.sub(r"\\\1", _one_line(text)).translate(_HTML)


def _one_line(text: str) -> str:
    """Turn line ends and control characters, also those that turn text around, into spaces."""
    hidden = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    kept = (" " if unicodedata.category(letter) in hidden else letter for letter in text)
    return " ".join("".join(kept).split())


def _markdown_entry(entry: Entry) -> str:
    text = markdown_text(entry.text)
    text = {False: f"{text}°", True: f"**{text}**", None: text}[entry.is_significant]
    # The small type is an interval of ours, whose brackets are no link.
    return f"{text} {entry.small}".strip()


def markdown_section(section: Section) -> list[str]:
    """Return the lines of one table with its heading and legend."""
    n_numbers = len(section.head) - section.n_labels
    rows = [
        [markdown_text(name) for name in section.head],
        [*[":--"] * section.n_labels, *["--:"] * n_numbers],
        *([_markdown_entry(entry) for entry in row] for row in section.body),
    ]
    lines = [f"## {markdown_text(section.title)}", ""]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    for line in section.legend:
        lines += ["", markdown_text(line)]
    return [*lines, ""]


def markdown(document: Document) -> str:
    """Return the whole document as GitHub's Markdown."""
    lines = [f"# {markdown_text(document.caption)}", ""]
    if document.warning:
        lines += [f"> **{markdown_text(document.warning)}**", ""]
    for section in document.sections:
        lines += markdown_section(section)
    for heading, notes in document.notes.items():
        lines += [f"## {heading}", "", *(f"- {markdown_text(line)}" for line in notes), ""]
    return "\n".join(lines)


# ---- LaTeX ----

PREAMBLE = (
    r"% Made by GapGrid. Needs \usepackage{booktabs}. With xcolor, what is not significant is grey,"
    " else slanted; with graphicx, a\n"
    "% table wider than the text is shrunk to it.\n"
    r"\providecommand{\gapgridopen}[1]{\ifdefined\textcolor\textcolor[gray]{0.45}{#1}"
    "\\else\\textsl{#1}\\fi}\n"
    r"\providecommand{\gapgridfit}[1]{\ifdefined\resizebox\resizebox{"
    r"\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{#1}"
    "\\else#1\\fi}\n"
)
_LATEX = {
    **{letter: f"\\{letter}" for letter in "{}$&#%_"},
    # In braces a - makes no dash, a [ no option of the row end before it, a quote no other letter.
    **{letter: f"{{{letter}}}" for letter in "'`-[]*"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",  # \textquotedbl wants another font encoding
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
# Combining grave, acute, circumflex, tilde, diaeresis, ring, cedilla and caron.
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0308\u030a\u0327\u030c", "`'^~\"rcv", strict=True))
LONG = 34  # printed lines above which a table is set smaller
LONGEST = 52  # and above which it goes on in another one


def latex_text(text: str) -> str:
    """Return text that stays text in LaTeX, whatever its engine.

    Letters that pdfTeX does not know become U+XXXX.
    """
    return "".join(_latex_letter(letter) for letter in _one_line(text))


def _latex_letter(letter: str) -> str:
    if letter in _LATEX:
        return _LATEX[letter]
    if letter.isascii():
        return letter
    base, *accents = list(unicodedata.normalize("NFD", letter))
    if base.isascii() and base.isalpha() and len(accents) == 1 and accents[0] in _ACCENTS:
        return f"\\{_ACCENTS[accents[0]]}{{{base}}}"
    return f"U+{ord(letter):04X}"


def _latex_row(row: list[Entry], inline: bool) -> list[str]:
    """Return a row's lines: small type stands in a line below, with `inline` beside its entry."""
    texts = []
    for entry in row:
        text = latex_text(entry.text)
        if entry.is_significant:
            # Bold does not reach a minus sign in math.
            bold = text.replace("$-$", r"\boldmath$-$\unboldmath")
            text = rf"\textbf{{{bold}}}"
        elif entry.is_significant is False:
            text = rf"\gapgridopen{{{text}\ensuremath{{^{{\circ}}}}}}"
        texts.append(f"{text} {_small(entry)}".strip() if inline else text)
    if inline or not any(entry.small for entry in row):
        return [" & ".join(texts) + r" \\"]
    return [" & ".join(texts) + r" \\[-2pt]", " & ".join(map(_small, row)) + r" \\[3pt]"]


def _small(entry: Entry) -> str:
    return rf"{{\tiny {latex_text(entry.small)}}}" if entry.small else ""


def _latex_body(section: Section) -> list[list[str]]:
    """Return blocks of lines that belong together: a row's, or a group's with its name above."""
    columns = zip(*section.body, strict=True)
    inline = sum(any(entry.small for entry in column) for column in columns) == 1
    if not section.is_grouped:
        return [_latex_row(row, inline) for row in section.body]
    groups: list[list[str]] = []
    for row in section.body:
        if row[0].text or not groups:
            name = rf"\textit{{{latex_text(row[0].text)}}}"
            groups.append([rf"\multicolumn{{{len(row) - 1}}}{{@{{}}l}}{{{name}}} \\"])
        groups[-1] += _latex_row(row[1:], inline)
    return groups


def _parts(blocks: list[list[str]]) -> list[list[str]]:
    """Return all lines, a list for each table that they need; a block stays whole."""
    parts: list[list[str]] = [[]]
    for lines in blocks:
        if parts[-1] and len(parts[-1]) + len(lines) > LONGEST:
            parts.append([])
        parts[-1] += lines
    return parts


def latex_section(section: Section, caption: str) -> list[str]:
    """Return the lines of one table: as many floats as it needs, its legend below the last."""
    parts = _parts(_latex_body(section))
    captions = [caption, *[f"{latex_text(section.title)}, continued."] * (len(parts) - 1)]
    legend = " ".join(latex_text(line) for line in section.legend)
    legends = [*[""] * (len(parts) - 1), legend]
    floats = []
    for texts in zip(parts, captions, legends, strict=True):
        floats += _latex_float(section, *texts)
    return floats


def _latex_float(section: Section, body: list[str], caption: str, legend: str) -> list[str]:
    first = 1 if section.is_grouped else 0  # groups' names stand above their rows
    head = section.head[first:]
    columns = "l" * (section.n_labels - first) + "r" * (len(section.head) - section.n_labels)
    below = rf"\par\smallskip\parbox{{\linewidth}}{{\scriptsize\raggedright {legend}}}"
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
        *([below] if legend else []),
        r"\end{table}",
        "",
    ]


def latex(document: Document) -> str:
    """Return the whole document, for \\input: every table a float, then the notes."""
    lines = [PREAMBLE]
    warning = rf" \textbf{{{latex_text(document.warning)}}}" if document.warning else ""
    caption = latex_text(document.caption)
    for section in document.sections:
        title = f"{latex_text(section.title)}.{warning}"
        lines += latex_section(section, f"{caption} {title}".strip())
        caption = ""
    for heading, notes in document.notes.items():
        lines += [
            rf"\paragraph{{{latex_text(heading)}.}}",
            r"\begin{itemize}\footnotesize\raggedright",
            *(rf"\item {latex_text(line)}" for line in notes),
            r"\end{itemize}",
            "",
        ]
    return "\n".join(lines)
