"""Ratios, side by side in one run: the last line of each benchmark is `ratio: X`."""
