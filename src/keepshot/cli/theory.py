"""`keepshot theory`: the linear-attention laboratory."""

from pathlib import Path
from typing import Annotated

import typer

from keepshot.cli import show
from keepshot.errors import ConfigError

theory_app = typer.Typer(
    help="The linear-attention laboratory: what fine-tuning does to in-context learning, exactly.\n\n"
    "Example: keepshot theory explore --n 20 --angle 180",
    no_args_is_help=True,
)

Seed = Annotated[int, typer.Option("--seed", min=0, help="Of every draw.")]


@theory_app.command("check")
def check(
    seed: Seed = 0,
    prompts: Annotated[
        int, typer.Option("--prompts", min=1, help="Of each Monte-Carlo comparison; rounded up to 20,000.")
    ] = 1_000_000,
) -> None:
    """Compare every closed form with Monte Carlo, gradients and training; exit 0 if all hold, else 1.

    Example: keepshot theory check
    """
    from keepshot.theory.checks import check as compare

    lines = failed = 0
    for line in compare(seed=seed, prompts=prompts):
        lines += 1
        failed += not line.holds
        show.say(f"{'ok  ' if line.holds else 'FAIL'}  {line.witness:<11}  {line.claim:<68}  {line.found}")
    show.say(f"{lines - failed} of {lines} hold" + (f"; {failed} do not" if failed else ""))
    if failed:
        raise typer.Exit(1)


@theory_app.command("explore")
def explore(
    dimension: Annotated[int | None, typer.Option("--d", min=1, help="Input features. [default: 5]")] = None,
    context: Annotated[int, typer.Option("--m", min=1, help="Examples in a pretraining prompt.")] = 20,
    shots: Annotated[int, typer.Option("--n", min=0, help="Examples in the prompt.")] = 20,
    sigma: Annotated[
        float,
        typer.Option("--sigma", min=0, help="Standard deviation of the noise; its square is the least error."),
    ] = 0.1**0.5,
    spectrum: Annotated[
        str | None, typer.Option("--spectrum", help="Variances of the inputs, such as 2,1,0.5; instead of --d.")
    ] = None,
    angle: Annotated[float, typer.Option("--angle", help="Of the task to the target, in degrees.")] = 0.0,
    w: Annotated[
        float | None, typer.Option("--w", help="Instead of the w that each method leads to; see docs/theory.md.")
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", help="pretrained, full, value or value+few-shot. [default: all]")
    ] = None,
) -> None:
    """Answer one question from the closed forms, in a second.

    Example: keepshot theory explore --d 8 --n 4 --angle 90 --method value
    """
    from keepshot.theory.explore import METHODS, Question, answer_lines, ask
    from keepshot.theory.regression import from_spectrum

    if spectrum is not None and dimension is not None:
        raise ConfigError("--spectrum says how many features there are; give it or --d, not both")
    chosen = tuple(name for name in METHODS if method in (None, name))
    if not chosen:
        raise ConfigError(f"--method is one of {', '.join(METHODS)}, not {method!r}")
    variances = [1.0] * (dimension or 5) if spectrum is None else _numbers(spectrum)
    question = Question(from_spectrum(variances, sigma**2), context=context, shots=shots, angle=angle, w=w)
    for line in answer_lines(question, ask(question, chosen)):
        show.say(line)


@theory_app.command("figures")
def figures(
    output: Annotated[Path, typer.Option("--output", help="A new folder.")] = Path("runs/theory"),
    monte_carlo: Annotated[bool, typer.Option("--monte-carlo", help="Also points from sampled prompts.")] = False,
    train: Annotated[bool, typer.Option("--train", help="Also points from trained models, in some minutes.")] = False,
    prompts: Annotated[int, typer.Option("--prompts", min=1, help="Of each Monte-Carlo point.")] = 200_000,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trained models of each method.")] = 1,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of each training.")] = 5_000,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Prompts in a step of training.")] = 5_000,
    seed: Seed = 0,
) -> None:
    """Draw the paper's figures: PNG, SVG, CSV and theory.json.

    Example: keepshot theory figures --output runs/theory --monte-carlo
    """
    from keepshot.theory.figures import Sampling
    from keepshot.theory.figures import figures as write

    sampling = Sampling(
        prompts=prompts if monte_carlo else 0, seeds=seeds if train else 0, steps=steps, batch=batch, seed=seed
    )
    write(output, sampling, show.say)
    show.say(f"written: {output}")


@theory_app.command("contexts")
def contexts(
    output: Annotated[Path | None, typer.Option("--output", help="A new folder for the figure and its data.")] = None,
) -> None:
    """What each kind of context in training leads to, in two minimal models; seconds.

    Example: keepshot theory contexts --output runs/contexts
    """
    from keepshot.files import check_replaceable
    from keepshot.theory.context_figure import MARK, context_table, end_points, write_contexts

    if output is not None:
        check_replaceable(output, MARK)
    ends = end_points()
    for line in context_table(ends):
        show.say(line)
    if output is not None:
        write_contexts(output, ends)
        show.say(f"written: {output}")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--spectrum is a list of positive numbers such as 2,1,0.5, not {text!r}") from None
