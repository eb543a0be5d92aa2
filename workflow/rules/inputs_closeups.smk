# Input functions of token rank shift and case study: which files a job reads, by its wildcards and the grid.


def case_files(wildcards):
    return expand(f"{RESULTS}/cases/{{experiment}}.html", experiment=closeups.drawn_by(GRID, "case"))


def shifts_of(name):
    """One file per cell of an experiment whose answers are ranked."""

    def of_experiment(wildcards):
        cells = closeups.shift_cells(GRID, wildcards.experiment)
        return expand(f"{RESULTS}/shift/{{cell}}/{name}", cell=["/".join(map(str, cell)) for cell in cells])

    return of_experiment
