"""Other people's programs doing the work of ours, as well as they can: docs/benchmarks.md says who, and how."""
