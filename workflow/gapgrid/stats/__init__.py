"""Intervals, significance, estimates and power, from outcomes per question and seed."""
