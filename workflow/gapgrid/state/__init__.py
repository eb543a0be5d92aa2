"""What a grid should hold, and in which state each of its results is."""
