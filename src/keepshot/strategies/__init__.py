"""Methods as values: streams, the trainable set, terms, and their names."""

from keepshot.strategies.adapters import Lora, tensors_to_save
from keepshot.strategies.compose import Change, compose
from keepshot.strategies.frozen import adapter_fingerprint, fingerprint, verify_frozen
from keepshot.strategies.knowledge import Prompts
from keepshot.strategies.named import ADDITIONS, AUTO, FULL_RATE, METHODS, RECOMMENDED, Addition, Method
from keepshot.strategies.strategy import TARGET, ContextSpec, Penalty, Strategy, StreamSpec, Term
from keepshot.strategies.terms import token_nll
from keepshot.strategies.trainable import (
    Everything,
    Pattern,
    Roles,
    Trainable,
    TrainableSet,
    apply_trainable,
    register_gradient_masks,
)
from keepshot.strategies.written import CUSTOM, resolve_method

__all__ = [
    "ADDITIONS",
    "AUTO",
    "CUSTOM",
    "FULL_RATE",
    "METHODS",
    "RECOMMENDED",
    "TARGET",
    "Addition",
    "Change",
    "ContextSpec",
    "Everything",
    "Lora",
    "Method",
    "Pattern",
    "Penalty",
    "Prompts",
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
    "tensors_to_save",
    "token_nll",
    "verify_frozen",
]
