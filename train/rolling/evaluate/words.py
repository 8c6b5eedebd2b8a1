"""What a reader's answers say of a stream: logits of every attribute, piece by piece or window by
window, as `train.rolling.reader.read` gives them."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from train.evaluate.metrics import Array
from train.rolling.evaluate.prompts import most_frequent
from train.rolling.reader import right, seen
from train.scenes.scene import Words

Found = dict[str, Tensor]  # attribute -> [pieces, values]
OWN = ("hair_name", "cut", "glasses")  # what makes a character one to be recognised


def part(found: Found, rows: slice) -> Found:
    return {name: logits[rows] for name, logits in found.items()}


def answers(found: Found) -> dict[str, Array]:
    """Attribute -> number of the value that is read, [pieces]."""
    return {name: logits.argmax(1).numpy() for name, logits in found.items()}


def words_read(found: Found, words: Words) -> Array:
    """bool [pieces, words]: which of the words are read."""
    as_asked = right(found, [words] * len(next(iter(found.values()))))
    return np.array([as_asked[name] for name in words]).T


def shuffled(found: Found, others: Sequence[Words]) -> float:
    """Share of other prompts' words that are read, less that of guessing the most frequent."""
    guess, pieces = most_frequent(), len(next(iter(found.values())))
    more = [
        seen(found, [words] * pieces)["words_seen"]
        - np.mean([guess[name] == value for name, value in words.items()])
        for words in others
    ]
    return float(np.mean(more)) if more else float("nan")


def held(found: Found, words: Words) -> Array:
    """[pieces]: share of what makes a character, of that which the prompt names or shows without
    words, that is read as in the first piece."""
    read = answers(found)
    return np.mean([read[name] == read[name][0] for name in OWN if name in words], axis=0)
