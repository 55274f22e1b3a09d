"""`python -m loadtest.k6`: write profiles.js anew, after a change of profiles.toml."""

from loadtest.k6 import PROFILES, script

if __name__ == "__main__":
    PROFILES.write_text(script(), encoding="utf-8")
