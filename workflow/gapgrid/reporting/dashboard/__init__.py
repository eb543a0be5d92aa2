"""The grid page: a heat map, cards of cells, and the script that opens them."""
