"""The named methods. To add one, add one value; the contract tests, `keepshot methods` and the config take it up."""

from dataclasses import dataclass
from typing import Literal

from keepshot.strategies.adapters import Lora
from keepshot.strategies.merge import Merge
from keepshot.strategies.soft_prompt import SoftPrompt
from keepshot.strategies.strategy import TARGET, ContextSpec, Penalty, StreamSpec, Term
from keepshot.strategies.trainable import Everything, Roles, Trainable


@dataclass(frozen=True, slots=True)
class Method:
    """A trainable set with a name.

    Attributes:
        name: As written in a config.
        trainable: Which numbers may move.
        trains: That in words.
        learning_rate: Used where the config gives none.
        cites: Where it comes from.
    """

    name: str
    trainable: Trainable
    trains: str
    learning_rate: float
    cites: str

    @property
    def costs(self) -> str:
        """Memory beside the weights: a float32 gradient and two moments of AdamW for every number that moves."""
        return "12 bytes for every weight" if isinstance(self.trainable, Everything) else "12 bytes for each of these"


NLL = Term()


@dataclass(frozen=True, slots=True)
class Addition:
    """A change to a strategy, with a name: what it brings, of which any part may be absent.

    Attributes:
        name: As written in a config.
        does: What it brings, in words.
        cites: Where it comes from.
        stream: What the model sees besides.
        term: What is minimised on that stream, or on the target's where there is none. The target's NLL is there
            already: as `term` it replaces that, with its weight.
        weight: Fraction of the loss beside the target's alone; None is the stream's share of the cost.
        penalty: What holds the numbers that move.
        prompt: What is trained first, and stands before the target's rows.
        merge: What becomes of the tuned weights before they are saved.
        alone: The trainable that it changes where a config names nothing else; None where it has to.
    """

    name: str
    does: str
    cites: str
    stream: StreamSpec | None = None
    term: Term | None = None
    weight: float | None = None
    penalty: Penalty | None = None
    prompt: SoftPrompt | None = None
    merge: Merge | None = None
    alone: str | None = None

    @property
    def costs(self) -> str:
        """Computation and memory, against the method without it at equal target rows."""
        found = []
        if self.stream is not None and self.stream.context is not None:
            found.append(f"{self.stream.shots[1] + 1} x the tokens, an index over the inputs")
        elif self.stream is not None and self.stream.share is not None:
            found.append(f"{1 / (1 - self.stream.share):.2f} x the tokens")
        elif self.stream is not None:
            found.append("logits of the questions' tokens")
        elif self.term is not None and self.term.asks_base:
            found.append("a forward pass over the target's rows, once")
        if self.penalty is not None:
            # The start, and its importance in 16 bits.
            least = 2 if self.penalty.prompts is None else 4
            found.append(f"{least} bytes for every number that moves ({least + 2} if the checkpoint's are of 32 bits)")
            if self.penalty.prompts is not None:
                found.append(f"{self.penalty.rows} rows forward and backward, once")
        if self.prompt is not None:
            steps = "as many steps" if self.prompt.steps is None else f"{self.prompt.steps} steps"
            found.append(f"{steps} without gradients of the weights before, {self.prompt.tokens} tokens in every row")
        if self.merge is not None:
            found.append("the base is read once more, after training")
        return ", ".join(found)


# Learning rates: 2e-5 is TRL's default for full fine-tuning. Subsets move fewer numbers and need larger steps
# (preservation_methods.md, section 5: 10 x for equal target accuracy); 2e-4 for LoRA as in arXiv 2106.09685.
FULL_RATE, SUBSET_RATE, LORA_RATE = 2e-5, 2e-4, 2e-4

# Starting points; the sum over all numbers that move is not divided by their count, as in both papers.
L2SP_STRENGTH, EWC_STRENGTH = 0.1, 0.2

METHODS = {
    method.name: method
    for method in (
        Method("full", Everything(), "all weights", FULL_RATE, "the plain baseline"),
        Method(
            "lora", Lora(), "rank-16 adapters on query and value (alpha 32, dropout .05)", LORA_RATE, "arXiv 2106.09685"
        ),
        Method("value", Roles(roles=("value",)), "the value matrices", SUBSET_RATE, "arXiv 2602.23197"),
        Method(
            "value-output",
            Roles(roles=("value", "output")),
            "the value and output matrices",
            SUBSET_RATE,
            "arXiv 2602.23197, with the output as part of the value path",
        ),
        Method(
            "query-key",
            Roles(roles=("query", "key")),
            "the query and key matrices (the theory's worst case)",
            SUBSET_RATE,
            "arXiv 2602.23197",
        ),
        Method(
            "attention",
            Roles(roles=("query", "key", "value", "output")),
            "all attention matrices",
            SUBSET_RATE,
            "the plain baseline among the subsets",
        ),
        Method(
            "lora-value",
            Lora(targets=("value",)),
            "rank-16 adapters on value alone",
            LORA_RATE,
            "arXiv 2106.09685 on the matrices of 2602.23197",
        ),
        Method(
            "dora",
            Lora(dora=True),
            "as `lora`, and the length of every row of these matrices apart from its direction",
            LORA_RATE,
            "arXiv 2402.09353",
        ),
        Method(
            "corda",
            Lora(start="corda"),
            "as `lora`, started at the components that few-shot prompts use least (sources.anchors, else self-anchors)",
            LORA_RATE,
            "arXiv 2406.05223, knowledge-preserved; the covariance of few-shot prompts is ours",
        ),
    )
}

# lambda = 1, the default of the literature's formulas: the term weighs what the target's loss weighs.
EVEN = 0.5

_LAW = "arXiv 2604.01601 for the idea; the law is this project's"
CONTEXTS: tuple[tuple[Literal["random", "similar", "contrastive", "across"], str, str], ...] = (
    ("random", "drawn evenly", "arXiv 2512.19879"),
    ("similar", "those with the nearest inputs", "arXiv 2101.06804 in training"),
    ("contrastive", "one of them near (.45), a paraphrase (.10) or random, the others random", _LAW),
    ("across", "in half of the rows the nearest, in the others random", "this project's ablation of it"),
)

ADDITIONS = {
    addition.name: addition
    for addition in (
        Addition(
            "general",
            "general instruction data of sources.general, zero-shot, 10 % of the tokens; for the model mini, examples "
            "with an instruction of the bundled universe",
            "hypothesis H3 of the literature; arXiv 2502.06042 for replay",
            stream=StreamSpec(name="general", source="general", share=0.1),
            term=NLL,
        ),
        Addition(
            "icl-mix",
            "few-shot episodes of many other tasks (sources.icl), every answer trained on, 20 % of the tokens",
            "arXiv 2110.15943; 2506.11103 for training on every answer",
            stream=StreamSpec(name="icl-mix", sampler="k-shot", source="icl", share=0.2),
            term=NLL,
        ),
        Addition(
            "few-shot",
            "few-shot episodes of the target itself, the query's answer trained on, 20 % of the tokens, half of the "
            "loss (constant; `anneal: linear` lets it fall to 0)",
            "arXiv 2602.23197, the auxiliary few-shot loss",
            stream=StreamSpec(name="few-shot", sampler="k-shot", share=0.2, scored="last"),
            term=NLL,
            weight=EVEN,
        ),
        Addition(
            "icl-kl",
            "few-shot prompts of other tasks (sources.anchors), KL from the base at every answer, no labels used, 10 % "
            "of the tokens, half of the loss",
            "this project",
            stream=StreamSpec(name="icl-kl", sampler="k-shot", source="anchors", share=0.1, shots=(1, 8)),
            term=Term(kind="kl"),
            weight=EVEN,
        ),
        Addition(
            "self-anchor",
            "no further data: the target's inputs under arbitrary functions, KL from the base at every answer but a "
            "row's first, 10 % of the tokens, half of the loss",
            "this project",
            # A row's first question is the target's own zero-shot prompt, on which the base must not be kept.
            stream=StreamSpec(name="self-anchor", sampler="self-anchor", share=0.1, shots=(8, 16), scored="later"),
            term=Term(kind="kl"),
            weight=EVEN,
        ),
        Addition(
            "task-kl",
            "KL from the base at every answer of the target's own rows, half of the loss",
            "arXiv 1606.09282 (learning without forgetting)",
            term=Term(kind="kl"),
            weight=EVEN,
        ),
        Addition(
            "target-masked-kl",
            "KL from the base on the target's own rows over all tokens but the right one, which it does not oppose, "
            "half of the loss",
            "arXiv 2605.29498; direction, weight and temperature are ours",
            term=Term(kind="masked-kl"),
            weight=EVEN,
        ),
        Addition(
            "token-masking",
            "no loss on answer tokens of the target that the base held less probable than .4; a row that would lose "
            "all of them keeps them",
            "arXiv 2501.14315 (perplexity above 2.5); the guard is ours",
            term=Term(least=0.4),
        ),
        Addition(
            "l2sp",
            "a pull of every number that moves towards where it started",
            "arXiv 1802.01483",
            penalty=Penalty(kind="l2sp", strength=L2SP_STRENGTH),
        ),
        Addition(
            "ewc",
            "the same, stronger where the base's answers to few-shot prompts depend on the number (diagonal Fisher "
            "information; prompts are self-anchors unless `sampler: k-shot` and a `source` say otherwise)",
            "arXiv 1612.00796; few-shot prompts with the base's own answers are ours",
            penalty=Penalty(kind="ewc", strength=EWC_STRENGTH),
        ),
        *(
            Addition(
                f"ic-{kind}",
                f"the target's rows behind 5 demonstrations of its own data, {which}; the query's answer is trained on",
                cites,
                stream=StreamSpec(
                    name=TARGET, sampler="context", shots=(5, 5), scored="last", context=ContextSpec(kind=kind)
                ),
            )
            for kind, which, cites in CONTEXTS
        ),
        Addition(
            "all-tokens",
            "every token of the target's rows trained on, questions too, as where a trainer masks nothing",
            "the default of language modelling; arXiv 2410.04691 tunes so",
            stream=StreamSpec(name=TARGET, scored="row"),
        ),
        Addition(
            "promot",
            "two stages: first a soft prompt of 20 vectors on the target, all weights frozen; then the weights, the "
            "prompt frozen before the target's rows; kept for the target and left away elsewhere (alone: with `full`)",
            "arXiv 2211.00635 (ProMoT); length, optimiser and learning rate of the prompt are ours",
            prompt=SoftPrompt(),
            alone="full",
        ),
        Addition(
            "wise-ft",
            "after training, half of the way back to the base: what is saved is (1 - a) base + a tuned, a = .5 "
            "(`coefficient`; `keepshot rescue` searches for one; alone: with `full`)",
            "arXiv 2109.01903",
            merge=Merge(),
            alone="full",
        ),
    )
}

AUTO = "auto"
# What the comparison in docs/methods.md supports: it needs no data but the target's own.
RECOMMENDED = ("full", "self-anchor", "ewc")
