"""How a table is laid out and written as Markdown and LaTeX, and published numbers beside ours."""
