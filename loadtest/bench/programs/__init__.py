"""Processes of the bench that need no service: each reads its environment, works, and prints one line of report."""
