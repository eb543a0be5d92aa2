"""The grid page: a heat map, cards of cells, and the little code that opens them."""
