"""The chaos test: the whole pipeline under load while everything fails, and a checker of what was promised."""
