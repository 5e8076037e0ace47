"""Methods as values: streams, the trainable set, terms, and their names."""

from keepshot.strategies.frozen import adapter_fingerprint, fingerprint, verify_frozen
from keepshot.strategies.named import ADDITIONS, FULL_RATE, METHODS, Addition, Method, compose, resolve_method
from keepshot.strategies.strategy import TARGET, Strategy, StreamSpec, Term
from keepshot.strategies.terms import token_nll
from keepshot.strategies.trainable import (
    Everything,
    Lora,
    Pattern,
    Roles,
    Trainable,
    TrainableSet,
    apply_trainable,
    register_gradient_masks,
)

__all__ = [
    "ADDITIONS",
    "FULL_RATE",
    "METHODS",
    "TARGET",
    "Addition",
    "Everything",
    "Lora",
    "Method",
    "Pattern",
    "Roles",
    "Strategy",
    "StreamSpec",
    "Term",
    "Trainable",
    "TrainableSet",
    "adapter_fingerprint",
    "apply_trainable",
    "compose",
    "fingerprint",
    "register_gradient_masks",
    "resolve_method",
    "token_nll",
    "verify_frozen",
]
