"""Load tests that people believe: open loop, every message followed to its receiver, one report per run."""
