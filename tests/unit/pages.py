"""What tests of pages share: scored cells on disk, hostile texts, and what a page is made of."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from gapgrid.core.cells import Cell
from gapgrid.core.records import Row, write_json, write_jsonl

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></title></td></pre></div><svg/onload=alert(1)>",
    "]]><!-- --><?php ?>&lt;script&gt;<iframe src=javascript:alert(1)>",
    "a\x00b\x1b[2J\r\n\u202e24\u200b\u2028",
    "\ud800 alone \udfff",
    "{{ snakemake }} {% raw %} ${x}",
    "=cmd|' /C calc'!A0",
]
COLUMNS = {
    ("grade", "samples"): ("problem", "gold", "response", "n_tokens", "finish"),
    ("grade", "graded"): ("gold", "answer", "rule", "rule_correct", "rejected_by"),
    ("score", "verdicts"): ("verdict", "by", "raw", "judge_verdict"),
}


def answer(number: int, **changes: Any) -> Row:
    """An answer to problem `number`, wrong by a rule, with its grading and its verdict."""
    row: Row = {"doc_id": number, "repeat": 0, "problem": f"problem {number} ?", "gold": "2"}
    row |= {"response": "so 3", "n_tokens": 7, "finish": "stop", "answer": "3"}
    row |= {"rule": "number", "rule_correct": False, "rejected_by": None}
    return {**row, "verdict": "incorrect", "by": "number", "raw": None, **changes}


def write_cell(results: Path, cell: Cell, rows: list[Row]) -> Path:
    """Write the files that stages grade and score leave of a cell; its folder of stage score."""
    for (stage, name), columns in COLUMNS.items():
        keys = ("doc_id", "repeat", *columns)
        kept = [{key: row[key] for key in keys if key in row} for row in rows]
        write_jsonl(results / stage / str(cell) / f"{name}.jsonl", kept)
    folder = results / "score" / str(cell)
    write_json(folder / "score.json", cell._asdict())
    write_json(folder / "manifest.json", {})
    return folder


class Page(HTMLParser):
    """Tags with their attributes, texts, headings (h2), and whatever else is in a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.headings: list[str] = []
        self.others: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.tags[-1:] == ["h2"] and data.strip():
            self.headings.append(data)

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    handle_pi = handle_decl = unknown_decl = handle_comment

    @property
    def links(self) -> list[str]:
        """Where the page's links lead."""
        return [value or "" for name, value in self.attributes if name == "href"]
