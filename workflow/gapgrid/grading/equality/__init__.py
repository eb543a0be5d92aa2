"""What answers mean: spelling, formulas, units, structure, and the comparison of two answers."""
