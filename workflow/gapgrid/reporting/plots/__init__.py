"""How figures are drawn: bars, curves, and what both share."""
