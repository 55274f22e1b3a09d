"""The one error that ends a run."""


class RunError(Exception):
    """The run cannot go on: it neither held nor failed. The message says why, in a sentence."""
