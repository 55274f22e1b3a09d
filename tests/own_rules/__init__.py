"""Rules of our own over product code, for what ruff and bandit do not see; `make lint` runs them."""
