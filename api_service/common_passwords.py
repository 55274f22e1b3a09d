"""Which passwords are tried first. A short list of words and a few rules: what is guessed is put together from these.

Only what has twelve characters or more need be known here. It is no substitute for a limit on how often one may try.
"""

import re
from typing import Final

_MIN_DIFFERENT: Final = 5
_ROWS: Final = (
    *("abcdefghijklmnopqrstuvwxyz", "0123456789012345678901234567890", "qwertyuiopasdfghjklzxcvbnm"),
    *("qwertyuiop[]asdfghjkl;'zxcvbnm,./", "qwertzuiopasdfghjklyxcvbnm", "azertyuiopqsdfghjklmwxcvbn"),
    *("1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p", "1q2w3e4r5t6y7u8i9o0p", "qazwsxedcrfvtgbyhnujmikolp", "!@#$%^&*()_+"),
    "1234qwerasdfzxcv",
)
_WORDS: Final = (
    *("password", "passwort", "passw0rd", "p@ssword", "p@ssw0rd", "pass", "letmein", "welcome", "iloveyou", "admin"),
    *("administrator", "root", "login", "secret", "change", "me", "default", "master", "monkey", "dragon"),
    *("football", "baseball", "basketball", "superman", "batman", "sunshine", "princess", "shadow", "michael"),
    *("trustno1", "whatever", "starwars", "qwerty", "qwertz", "azerty", "abc", "test", "testing", "user", "guest"),
    *("hello", "world", "summer", "winter", "spring", "autumn", "monday", "friday", "january", "december", "access"),
    *("company", "temp", "temporary", "internet", "computer", "samsung", "google", "liverpool", "chelsea", "arsenal"),
    *("notification", "notifications", "pipeline", "notify", "my", "the", "is", "new", "old", "love"),
)
_PUT_TOGETHER: Final = re.compile(f"(?:{'|'.join(_WORDS)}|[0-9\\W_])+")
_CORRECT: Final = ("correcthorsebatterystaple", "correct horse battery staple", "correct-horse-battery-staple")


def is_common(password: str) -> bool:
    """Say whether a password is hardly better than none.

    Hardly any character differs; it is a piece repeated, or a stretch of the keyboard or the alphabet, either way; or
    it is put together from the commonest words, digits and signs alone.
    """
    lower = password.lower()
    if len(set(lower)) < _MIN_DIFFERENT or lower in _CORRECT:
        return True
    if lower in (lower + lower)[1:-1]:  # a piece, repeated
        return True
    if any(lower in row or lower[::-1] in row for row in _ROWS):
        return True
    return any(map(str.isalpha, lower)) and _PUT_TOGETHER.fullmatch(lower) is not None
