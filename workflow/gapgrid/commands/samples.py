"""`gapgrid samples`: grade the sample files of lm-eval by rules, without a grid."""

from argparse import Namespace

from gapgrid.core.records import InputError, fail_if
from gapgrid.grading.equality.math_verify_pool import Verifier
from gapgrid.interop.grade_samples import grade_entries, grader_of, judge_cost, report, tally, write
from gapgrid.interop.lm_eval_samples import Entry, choose, find, models, note, read


def run(args: Namespace) -> int:
    """Grade the chosen files, write the rows if `--out` is given, print the counts."""
    files = choose(find(args.samples), args.task, args.run)
    names = models(files)
    entries: list[tuple[list[Entry], list[str]]] = []
    problems: list[str] = []
    for file in files:
        try:
            entries.append(read(file.path, args.filter, args.gold_column, args.problem_column))
        except InputError as error:
            problems += str(error).splitlines()
    fail_if(problems)
    for _, notes in entries:
        for text in notes:
            note(text)
    with Verifier() as verifier:
        graded = []
        for file, (rows, notes) in zip(files, entries, strict=True):
            grader = args.grader or grader_of(file.task)
            model = names[file.folder]
            graded.append(grade_entries(model, file, rows, notes, grader, verifier))
    counts, cost = [tally(task) for task in graded], judge_cost(graded)
    if args.out:
        write(args.out, graded, counts, cost)
    print(report(counts, cost))
    return 0
