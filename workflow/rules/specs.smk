# One-line spec functions: what fixes the result of a job.
#
# Each takes wildcards alone and returns one string: Snakemake then notices every change of it, and nothing else.


def tokenizer_spec(wildcards):
    return cells_of.tokenizer_spec(GRID)


def fetch_spec(wildcards):
    return cells_of.fetch_spec(GRID, wildcards.section, wildcards.name)


def source_spec(wildcards):
    return cells_of.source_spec(GRID, wildcards.source)


def mix_spec(wildcards):
    return cells_of.mix_spec(GRID, wildcards.mix)


def base_spec(wildcards):
    return cells_of.base_spec(GRID, wildcards.model, int(wildcards.seed))


def train_spec(wildcards):
    return cells_of.train_spec(GRID, wildcards.model, wildcards.mix, int(wildcards.seed))


def problems_spec(wildcards):
    return cells_of.problems_spec(GRID, wildcards.benchmark)


def selftest_spec(wildcards):
    return cells_of.selftest_spec(GRID, wildcards.benchmark)


def request_spec(wildcards):
    return cells_of.request_spec(GRID, wildcards.benchmark)


def evaluate_spec(wildcards):
    return cells_of.evaluate_spec(GRID)


def grade_spec(wildcards):
    return cells_of.grade_spec(GRID, wildcards.benchmark)


def judge_spec(wildcards):
    return cells_of.judge_spec(GRID)


def score_spec(wildcards):
    return cells_of.score_spec(GRID)


def audit_spec(wildcards):
    return cells_of.audit_spec(GRID)


def table_spec(wildcards):
    return claims.table_spec(GRID, wildcards.experiment)


def figure_spec(wildcards):
    return cells_of.figure_spec(GRID, wildcards.experiment)


def shift_spec(wildcards):
    cell = cells_of.Cell(wildcards.model, wildcards.mix, int(wildcards.seed), wildcards.benchmark)
    return closeups.shift_spec(GRID, cell)


def shift_figure_spec(wildcards):
    return closeups.shift_figure_spec(GRID, wildcards.experiment)


def case_spec(wildcards):
    return closeups.case_spec(GRID, wildcards.experiment)
