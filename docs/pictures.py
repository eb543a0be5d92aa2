"""Make the README's pictures: two figures of the miniature (three seeds) and the rule graph.

`make figures`, after `make demo-seeds`. The rule graph needs Graphviz's `dot`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SNAKEMAKE = Path(sys.executable).parent / "snakemake"


def main() -> None:
    """Copy the figures and draw the graph into docs/."""
    docs = REPOSITORY / "docs"
    for name in ("long-gap", "accuracy"):
        figure = REPOSITORY / f"results/demo/figures/{name}.svg"
        shutil.copyfile(figure, docs / figure.name)
    command = [SNAKEMAKE, "--config", "grid=demo", "--rulegraph"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    # The rule `all` makes nothing: leave out its node and its arrows.
    hidden = {line.split("[")[0].strip() for line in lines if 'label = "all"' in line}
    names = [set(line.split("[")[0].replace("->", " ").split()) for line in lines]
    shown = [line for line, nodes in zip(lines, names, strict=True) if not hidden & nodes]
    margins = "graph[bgcolor=white, margin=0];", "graph[bgcolor=white, margin=0.1, rankdir=LR];"
    graph = "\n".join(shown).replace(*margins)
    command = ["dot", "-Tsvg", "-o", docs / "rules.svg"]
    subprocess.run(command, input=graph, text=True, check=True)


if __name__ == "__main__":
    main()
