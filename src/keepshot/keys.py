"""Keyed randomness: every draw is a function of what it is for, never of what was drawn before.

A running generator ties each prompt to the order of visits, the number of workers and the point of resumption. A key
does not: `generator(seed, "demonstrations", task, set)` gives the same draws wherever and whenever it is asked.
"""

import hashlib
import json
import random

Part = str | int


def key(*parts: Part) -> int:
    """A 63-bit integer that identifies `parts`; stable over processes, platforms and Python versions.

    Example:
        >>> key(0, "demonstrations", "capitals", 3) == key(0, "demonstrations", "capitals", 3)
        True
        >>> key("a", "b") == key("ab")
        False
    """
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: Part) -> random.Random:
    """A fresh generator for one purpose; see `key`.

    Example:
        >>> generator(0, "split").random() == generator(0, "split").random()
        True
    """
    return random.Random(key(*parts))


def permutation(length: int, *parts: Part) -> list[int]:
    """The numbers 0 … length-1 in a keyed order.

    Example:
        >>> sorted(permutation(5, 0, "shuffle"))
        [0, 1, 2, 3, 4]
    """
    order = list(range(length))
    generator(*parts).shuffle(order)
    return order
