"""Where lm-eval's sample files hold what is graded, and the names of the graders.

Apart from the code that reads them, so that a command line can name them at once.
"""

GRADERS = ("boxed", "boxed_or_last_number")
GOLD_COLUMNS = ("final_answer", "answer", "solution")  # the first that a doc has
PROBLEM_COLUMNS = ("problem", "question")
