"""Measured promises: each module is a command that runs the whole stack, hurts it, and prints what it measured."""
