"""A shot curve against lm-evaluation-harness on the same prompts, and against what must be computed at least once.

    python -m benchmarks.evaluation

Four two-option tasks, 200 queries each, 0, 1, 2, 4, 8 and 16 shots, on the bundled model in float32. The harness
(`HFLM`, batches of 64, the same loaded model) gets the very texts; what is timed of it is `loglikelihood` alone, of
keepshot the whole evaluation from drawing demonstrations to items. Peak memory is that of two fresh processes.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.machine import matrix_rate
from keepshot.episodes import demonstration_set
from keepshot.evaluation import EvaluationPlan, evaluate_tasks
from keepshot.evaluation.scorer import shared_lengths
from keepshot.evaluation.tree import grow_tree, own_order
from keepshot.prompts import PLAIN, Prompt, encode
from keepshot.runs.subjects import load_subject
from keepshot.tasks.builtin import builtin_suite, builtin_target
from keepshot.tasks.example import Suite, Task
from keepshot.tasks.read import as_task

SHOTS = (0, 1, 2, 4, 8, 16)
PLAN = EvaluationPlan(SHOTS, sets=1, queries=200)
MEMORY_PLAN = EvaluationPlan((16,), sets=1, queries=64)
HARNESS_BATCH = 64
EVERYTHING = 10**9


def two_option_tasks() -> tuple[Task, ...]:
    """Tasks with two labels and at least 216 inputs, asked by options."""
    rule = builtin_target("word-rule")
    tasks = (*builtin_suite().tasks, as_task(rule.name, rule.test, rule.train))
    chosen = [task for task in tasks if len(task.labels) == 2 and len(task.examples) >= 216]
    return tuple(
        replace(task, scoring="options", examples=with_options(task, task.examples), pool=with_options(task, task.pool))
        for task in chosen
    )


def with_options(task: Task, examples):
    return tuple(replace(example, options=task.labels) for example in examples)


def prompts(task: Task, plan: EvaluationPlan) -> list[list[Prompt]]:
    """By shot count: every query with every option, as keepshot asks them."""
    drawn = demonstration_set(task, 0, sets=1, shots=max(plan.shots), queries=plan.queries, seed=plan.seed)
    return [
        [
            PLAIN.render([*drawn.demonstrations[:n], replace(query, output=option)])
            for query in drawn.queries
            for option in task.labels
        ]
        for n in plan.shots
    ]


def harness_accuracies(model, tokenizer, tasks, plan: EvaluationPlan) -> tuple[dict[tuple[str, int], float], float]:
    """Accuracy of every task and shot count by lm-evaluation-harness, and its seconds."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(
        pretrained=model, tokenizer=tokenizer, batch_size=HARNESS_BATCH, add_bos_token=True, device=str(model.device)
    )
    requests = []
    for task in tasks:
        for level in prompts(task, plan):
            for prompt in level:
                start, end = prompt.answers[-1]
                texts = (prompt.text[:start], prompt.text[start:end])
                requests.append(Instance("loglikelihood", doc={}, arguments=texts, idx=len(requests)))
    start = time.perf_counter()
    values = iter([value for value, _ in harness.loglikelihood(requests, disable_tqdm=True)])
    seconds = time.perf_counter() - start
    found = {}
    for task in tasks:
        queries = demonstration_set(
            task, 0, sets=1, shots=max(plan.shots), queries=plan.queries, seed=plan.seed
        ).queries
        for n in plan.shots:
            right = []
            for query in queries:
                likelihoods = [next(values) for _ in task.labels]
                right.append(task.labels[likelihoods.index(max(likelihoods))] == query.output)
            found[task.name, n] = sum(right) / len(right)
    return found, seconds


@dataclass
class Counter:
    """Tokens that a model computed."""

    tokens: int = 0


@contextmanager
def counted(model) -> Iterator[Counter]:
    """Count the tokens of every forward pass."""
    counter = Counter()

    def count(module, arguments, settings) -> None:
        counter.tokens += settings["input_ids"].numel()

    handle = model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield counter
    finally:
        handle.remove()


def needed_tokens(tokenizer, tasks, plan: EvaluationPlan) -> int:
    """Every growing context once, and per shot count every distinct beginning of queries with options once."""
    total = 0
    for task in tasks:
        levels = [encode(level, tokenizer) for level in prompts(task, plan)]
        lengths = shared_lengths(levels)
        own = (
            len(grow_tree(rows, own_order(rows, n), n, EVERYTHING).ids) for rows, n in zip(levels, lengths, strict=True)
        )
        total += lengths[-1] + sum(own)
    return total


def peak_bytes(side: str) -> int:
    """Peak memory of a fresh process that asks 16 shots x 64 queries of one task, above what the loaded model takes."""
    command = [sys.executable, "-m", "benchmarks.evaluation", side]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_peak(side: str) -> int:
    subject, tasks = load_subject("mini", "plain"), two_option_tasks()[:1]
    warm = EvaluationPlan((0,), sets=1, queries=2)

    def ask(plan: EvaluationPlan) -> None:
        if side == "keepshot":
            evaluate_tasks(subject, Suite("memory", tasks), plan)
        else:
            harness_accuracies(subject.backend.model, subject.tokenizer, tasks, plan)

    ask(warm)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is held now (Linux)
    before = resident("VmRSS")
    ask(MEMORY_PLAN)
    return resident("VmHWM") - before


def resident(field: str) -> int:
    """Bytes by the kernel's account of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def main() -> None:
    """Print times, tokens, memory, and last the ratio of the harness's time to keepshot's."""
    subject = load_subject("mini", "plain")
    model, tokenizer = subject.backend.model, subject.tokenizer
    tasks = two_option_tasks()
    suite = Suite("benchmark", tasks)
    evaluate_tasks(subject, suite, EvaluationPlan((0,), sets=1, queries=2))  # buffers, kernels, the probe

    with counted(model) as computed:
        start = time.perf_counter()
        found = evaluate_tasks(subject, suite, PLAN)
        seconds = time.perf_counter() - start
    start = time.perf_counter()
    evaluate_tasks(subject, suite, replace(PLAN, shots=(16,)))
    largest_s = time.perf_counter() - start
    expected, harness_s = harness_accuracies(model, tokenizer, tasks, PLAN)
    _, harness_16_s = harness_accuracies(model, tokenizer, tasks, replace(PLAN, shots=(16,)))
    ours = {(task.name, n): found.accuracy(task.name, n)[0] for task in tasks for n in SHOTS}
    different = [cell for cell in expected if abs(expected[cell] - ours[cell]) > 1e-9]

    rate = matrix_rate()
    parameters = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name)
    needed = needed_tokens(tokenizer, tasks, PLAN)
    floor_s = needed * 2 * parameters / rate
    memory = {side: peak_bytes(side) for side in ("keepshot", "harness")}
    print(f"{len(tasks)} tasks ({', '.join(task.name for task in tasks)}), {PLAN.queries} queries, shots {SHOTS}")
    print(f"threads: {torch.get_num_threads()}, matrix rate {rate / 1e9:.0f} GFLOP/s")
    print(f"accuracies that differ from the harness's: {len(different)} of {len(expected)} {different}")
    print(f"keepshot: {seconds:.2f} s; lm-evaluation-harness: {harness_s:.2f} s")
    print(f"tokens computed: {computed.tokens:,}, needed: {needed:,} (ratio to needed {computed.tokens / needed:.3f})")
    print(f"time floor of the needed tokens: {floor_s:.2f} s (ratio to floor {seconds / floor_s:.2f})")
    alone = needed_tokens(tokenizer, tasks, replace(PLAN, shots=(16,)))
    print(f"six-point curve over its 16-shot point alone: {seconds / largest_s:.2f}", end=" ")
    print(f"(needed tokens {needed / alone:.2f}); over the harness's 16-shot point: {seconds / harness_16_s:.2f}")
    print(f"peak memory above the model, 16 shots x {MEMORY_PLAN.queries} queries: keepshot", end=" ")
    print(f"{memory['keepshot'] / 2**20:.0f} MiB, lm-evaluation-harness {memory['harness'] / 2**20:.0f} MiB")
    print(f"ratio: {harness_s / seconds:.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure_peak(sys.argv[1]))
    else:
        main()
