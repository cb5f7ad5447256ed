"""Words of others in messages, which are to be one line."""

from __future__ import annotations

MOST_LETTERS = 100


def shortened(word: str) -> str:
    """A word, or its first hundred letters where there are more."""
    return word if len(word) <= MOST_LETTERS else f"{word[:MOST_LETTERS]}..."
