"""How a table is laid out and written: sheets of entries, numbers, Markdown and LaTeX, and published numbers beside ours."""
