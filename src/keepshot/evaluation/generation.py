"""Greedy decoding for answers that are too long or too free to be scored."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

import torch
from jaxtyping import Bool, Float, Int
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from keepshot.evaluation.memory import OUT_OF_MEMORY, halved
from keepshot.evaluation.scorer import PROBE_TOLERANCE, steady_length
from keepshot.models.load import CausalLM, quiet
from keepshot.prompts import Row

# Prompt tokens (padding included) and tokens to be written, in one batch: a bound for the cache.
BATCH_TOKENS = 32768


def generate(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    stop: Sequence[str],
    max_new_tokens: int,
    *,
    prompt: Float[Tensor, "tokens width"] | None = None,
    padded: bool = True,
) -> list[str]:
    """What greedy decoding writes in place of each row's last answer, up to a stop string or the end token.

    Args:
        model: In evaluation mode.
        tokenizer: The model's.
        rows: Prompts; the last answer and what follows is left out.
        stop: Writing ends before the first of these that follows more than white space, or is a special token.
        max_new_tokens: The most that is written.
        prompt: A soft prompt before every row; None is none.
        padded: Whether rows of different length may be written together, see `takes_padding`. Never where one is long
            enough for the model to turn its positions otherwise (LongRoPE).

    Raises:
        RunError: A single row does not fit the memory.
    """
    prompts = [row.ids[: row.answers[-1][0]] for row in rows]
    order = sorted(range(len(rows)), key=lambda i: len(prompts[i]), reverse=True)  # the largest batch comes first
    texts: dict[int, str] = {}
    budget = BATCH_TOKENS
    steady = steady_length(model)
    while order:
        width = (0 if prompt is None else len(prompt)) + len(prompts[order[0]]) + max_new_tokens
        batch = order[: max(1, budget // width)]
        if not padded or width > steady:
            batch = [i for i in batch if len(prompts[i]) == len(prompts[order[0]])]
        try:
            written = _write(model, tokenizer, [prompts[i] for i in batch], stop, max_new_tokens, prompt)
        except OUT_OF_MEMORY as error:
            budget = halved(error, len(batch) * width, width)
            continue
        texts.update(zip(batch, written, strict=True))
        order = order[len(batch) :]
    return [texts[i] for i in range(len(rows))]


def takes_padding(model: CausalLM) -> bool:
    """Whether a prompt gives the same logits behind padding as alone, tried on a few tokens.

    Architectures that keep a state instead of keys and values may read the padding.
    """
    vocabulary = model.config.get_text_config().vocab_size
    short, long = ([(3 + 7 * place) % vocabulary for place in range(count)] for count in (6, 40))

    def first(rows: Sequence[Sequence[int]]) -> Tensor:
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
        settings = GenerationConfig(
            max_new_tokens=1, do_sample=False, pad_token_id=0, return_dict_in_generate=True, output_logits=True
        )
        with quiet(), torch.inference_mode(), _own_settings_aside(model):
            found = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        return found.logits[0][0].float().log_softmax(-1)

    alone, together = first([short]), first([short, long])
    likely = alone.topk(min(5, len(alone))).indices
    return bool(((alone - together)[likely].abs() <= PROBE_TOLERANCE.get(model.dtype, 1e-3)).all())


def cut(text: str, stop: Sequence[str]) -> str:
    """The text without the white space around it, up to the first stop string in it.

    Example:
        >>> cut(" 42\\nQ: next", ["\\n", "Q:"])
        '42'
    """
    text = text.lstrip()
    return text[: min((at for end in stop if (at := text.find(end)) >= 0), default=len(text))].rstrip()


def end_tokens(model: CausalLM) -> list[int]:
    """The tokens that end what a model writes, as far as it says so itself.

    Example:
        >>> from keepshot.models.load import load_model
        >>> end_tokens(load_model("mini", device="cpu"))
        [0]
    """
    stated = model.generation_config.eos_token_id if model.generation_config else None
    return [stated] if isinstance(stated, int) else list(stated or ())


class _Stop(StoppingCriteria):
    """A row is done once its text holds a stop string."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, start: int, stop: Sequence[str]) -> None:
        self._tokenizer, self._start, self._stop = tokenizer, start, tuple(stop)

    def __call__(
        self, input_ids: Int[Tensor, "rows length"], scores: Float[Tensor, "..."] | None = None, **_: object
    ) -> Bool[Tensor, " rows"]:
        texts = self._tokenizer.batch_decode(input_ids[:, self._start :], skip_special_tokens=True)
        done = [any(end in text.lstrip() for end in self._stop) for text in texts]
        return torch.tensor(done, device=input_ids.device)


def _write(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[tuple[int, ...]],
    stop: Sequence[str],
    max_new_tokens: int,
    soft: Float[Tensor, "tokens width"] | None,
) -> list[str]:
    before = 0 if soft is None else len(soft)
    width = before + max(map(len, prompts))
    pad = tokenizer.pad_token_id or 0
    empty = [width - before - len(prompt) for prompt in prompts]
    ids = torch.tensor(
        [(pad,) * (left + before) + prompt for left, prompt in zip(empty, prompts, strict=True)], device=model.device
    )
    mask = torch.tensor([[0] * left + [1] * (width - left) for left in empty], device=model.device)
    inputs: dict[str, Tensor] = {"input_ids": ids}
    if soft is not None:
        embeds = model.get_input_embeddings()(ids).detach().clone()
        for row, left in enumerate(empty):
            embeds[row, left : left + before] = soft
        inputs = {"inputs_embeds": embeds}
    start = width if soft is None else 0  # of what is written: behind embeddings, transformers gives nothing else
    ends = end_tokens(model) or [token for token in (tokenizer.eos_token_id,) if token is not None]
    special = {str(token): place for place, token in tokenizer.added_tokens_decoder.items() if token.special}
    ends = list(dict.fromkeys([*ends, *(special[text] for text in stop if text in special)]))  # their text is not read
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad, eos_token_id=ends or None
    )
    with quiet(), torch.inference_mode(), _own_settings_aside(model):
        written = model.generate(
            **inputs,
            attention_mask=mask,
            generation_config=settings,
            stopping_criteria=StoppingCriteriaList([_Stop(tokenizer, start, stop)] if stop else []),
        )
    # Behind its end a row is filled up until the others end, too.
    answers = [list(takewhile(lambda token: token not in ends, row)) for row in written[:, start:].tolist()]
    return [cut(text, stop) for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]


@contextmanager
def _own_settings_aside(model: CausalLM) -> Iterator[None]:
    """Greedy decoding and nothing else: what a call leaves open, transformers takes from the model's own settings.

    Such as a penalty for repetition, which many instruct models come with.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    own, base.generation_config = base.generation_config, GenerationConfig()
    try:
        yield
    finally:
        base.generation_config = own
