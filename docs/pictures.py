"""The README's pictures: two figures of the miniature (three seeds) and the rule graph, made by the workflow.

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
    for name in ("long-gap", "accuracy"):
        shutil.copyfile(REPOSITORY / f"results/demo/figures/{name}.svg", REPOSITORY / f"docs/{name}.svg")
    graph = subprocess.run(
        [SNAKEMAKE, "--config", "grid=demo", "--rulegraph"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    errands = {line.split("[")[0].strip() for line in graph.splitlines() if 'label = "all"' in line}
    kept = [line for line in graph.splitlines() if not errands & set(line.split("[")[0].replace("->", " ").split())]
    text = "\n".join(kept).replace("graph[bgcolor=white, margin=0];", "graph[bgcolor=white, margin=0.1, rankdir=LR];")
    subprocess.run(["dot", "-Tsvg", "-o", REPOSITORY / "docs/rules.svg"], input=text, text=True, check=True)


if __name__ == "__main__":
    main()
