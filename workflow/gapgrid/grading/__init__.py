"""The rule step: extract an answer and compare it with the reference answer by named rules."""
