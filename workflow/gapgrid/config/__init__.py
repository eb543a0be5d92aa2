"""Reads and checks the YAML files of a grid; every mistake is reported at once."""
