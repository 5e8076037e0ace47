"""What the retrieval index costs: a million rows indexed and queried, and its part of a training on real inputs.

    python -m benchmarks.retrieval [FILE] [--rows 1000000] [--embedded 1000000]

`--embedded` rows have vectors of 384 numbers around 20,000 centres in place of words, and are searched by FAISS. FILE
is a file of examples such as CLINC150's; without it only the synthetic rows are measured. The last line is the share
of a training's time that index and sampling take.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from keepshot.config import load_config
from keepshot.episodes import Bm25, Contexts, Dense, Neighbours
from keepshot.episodes.similarity import largest
from keepshot.files import read_json
from keepshot.keys import generator, key
from keepshot.runs import tune
from keepshot.runs.data import load_target
from keepshot.tasks.example import Example
from keepshot.tasks.universe import word

WORDS, LENGTH, ASKED = 30_000, 10, 200
CENTRES, WIDTH = 20_000, 384


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--embedded", type=int, default=0)
    options = parser.parse_args()
    if options.embedded:
        embedded(options.embedded)
    if options.rows:
        synthetic(options.rows)
    if options.file is not None:
        print(f"ratio: {overhead(options.file):.3f}")


def synthetic(rows: int) -> None:
    """Rows of ten words whose frequencies fall like 1 / rank, as in a language."""
    random = generator("benchmark", "retrieval")
    vocabulary = [word(random, 3, 9) for _ in range(WORDS)]
    weights = [1 / rank for rank in range(1, WORDS + 1)]
    drawn = iter(random.choices(vocabulary, weights, k=rows * LENGTH))
    examples = [Example(" ".join(next(drawn) for _ in range(LENGTH)), "x") for _ in range(rows)]
    start = time.perf_counter()
    similarity = Bm25([example.input for example in examples], "words")
    neighbours = Neighbours(examples, similarity)
    built = time.perf_counter()
    for row in random.sample(range(rows), ASKED):
        neighbours.of(row)
    asked = (time.perf_counter() - built) / ASKED
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{rows:,} rows: index {built - start:.0f} s, {1000 * asked:.1f} ms for the neighbours of one, {peak:.1f} GiB"
    )


def embedded(rows: int) -> None:
    """Rows whose embeddings crowd around centres, as those of sentences do: what is found, and what that costs."""
    random = np.random.default_rng(key("benchmark", "embedded"))
    centres = random.normal(size=(CENTRES, WIDTH)).astype(np.float32)
    vectors = centres[random.integers(CENTRES, size=rows)]
    vectors += 0.7 * random.normal(size=(rows, WIDTH)).astype(np.float32)
    texts = list(map(str, range(rows)))
    pool = Dense(texts, lambda asked: vectors[list(map(int, asked))])
    places = random.choice(rows, ASKED, replace=False)
    start = time.perf_counter()
    pool.nearest("0", 1)  # the lists are made when they are first asked
    built = time.perf_counter()
    found = [set(pool.nearest(str(place), 11)[0].tolist()) for place in places]
    asked = time.perf_counter()
    exact = [set(largest(pool.to(str(place)), 11)[0].tolist()) for place in places]
    compared = time.perf_counter()
    recall = np.mean([len(some & all_) - 1 for some, all_ in zip(found, exact, strict=True)]) / 10  # itself is no merit
    print(
        f"{rows:,} vectors: lists {built - start:.0f} s; {1000 * (asked - built) / ASKED:.1f} ms for the 10 nearest of "
        f"one, of which {recall:.3f} are found; all compared {1000 * (compared - asked) / ASKED:.1f} ms"
    )


def overhead(file: Path, steps: int = 5, batch: int = 16) -> float:
    """Index and sampling against a whole training of the bundled model on the same rows."""
    config = {"train": str(file)}
    train = load_target(load_config({"model": "mini", "data": config}).data, 0).train
    start = time.perf_counter()
    neighbours = Neighbours(train, Bm25([example.input for example in train]))
    built = time.perf_counter() - start
    sampler = Contexts("target", train, neighbours, 0)
    start = time.perf_counter()
    for index in range(steps * batch):
        sampler.draw(index)
    drawn = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        run = tune(
            load_config(
                {
                    "model": "mini",
                    "data": config,
                    "method": ["full", "ic-contrastive"],
                    "output": str(Path(folder) / "run"),
                    "train": {"max_steps": steps, "per_device_train_batch_size": batch, "save_strategy": "no"},
                    "evaluate": {"shots": [0], "sets": 2, "queries": 1},
                }
            )
        )
        seconds = read_json(run.training)["train_seconds"]
    epoch = seconds / (steps * batch) * len(train)
    print(
        f"{len(train):,} rows: index {built:.2f} s once, {1000 * drawn / (steps * batch):.2f} ms a row; training "
        f"{1000 * seconds / (steps * batch):.1f} ms a row, {epoch:.0f} s an epoch"
    )
    return (built + drawn / (steps * batch) * len(train)) / epoch


if __name__ == "__main__":
    main()
