"""Examples to episodes: what stands together in a training row, and the demonstration sets of an evaluation."""

from keepshot.episodes.contexts import Contexts
from keepshot.episodes.demonstrations import DemonstrationSet, demonstration_set
from keepshot.episodes.dense import Dense
from keepshot.episodes.episode import Episode, Scored
from keepshot.episodes.neighbours import Neighbours
from keepshot.episodes.samplers import Bank, InstructedUniverse, KShot, Mixture, Sampler, Universe, ZeroShot
from keepshot.episodes.self_anchors import SelfAnchors
from keepshot.episodes.similarity import Bm25, Similarity

__all__ = [
    "Bank",
    "Bm25",
    "Contexts",
    "DemonstrationSet",
    "Dense",
    "Episode",
    "InstructedUniverse",
    "KShot",
    "Mixture",
    "Neighbours",
    "Sampler",
    "Scored",
    "SelfAnchors",
    "Similarity",
    "Universe",
    "ZeroShot",
    "demonstration_set",
]
