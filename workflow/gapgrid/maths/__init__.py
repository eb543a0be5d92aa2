"""What answers mean: their spelling, the grammar of formulas, units, and the chain of rules that compares them. `answers` leads here."""
