"""How much of what a given rate takes: costs read from results of the bench, multiplied, and printed as tables."""
