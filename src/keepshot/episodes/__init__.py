"""Examples to episodes: what stands together in a training row, and the demonstration sets of an evaluation."""

from keepshot.episodes.demonstrations import DemonstrationSet, demonstration_set
from keepshot.episodes.episode import Episode, Scored
from keepshot.episodes.samplers import Bank, InstructedUniverse, KShot, Mixture, Sampler, Universe, ZeroShot
from keepshot.episodes.self_anchors import SelfAnchors

__all__ = [
    "Bank",
    "DemonstrationSet",
    "Episode",
    "InstructedUniverse",
    "KShot",
    "Mixture",
    "Sampler",
    "Scored",
    "SelfAnchors",
    "Universe",
    "ZeroShot",
    "demonstration_set",
]
