"""Each stage of the pipeline alone, beside its limit and its peers: `python -m loadtest bench`, docs/benchmarks.md."""
