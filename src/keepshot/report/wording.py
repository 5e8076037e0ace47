"""Numbers as a reader wants them, and the sentences of the report, so that page, card and terminal say the same."""

from datetime import datetime

from keepshot.report.record import Estimate, Interval, Point, Report

ABSENT = "–"
DOES_NOT_FIT = "does not fit"
NO_ZERO_SHOT = "Zero-shot accuracy on the target was not measured"
VERDICTS = {"pass": "Pass", "fail": "Fail", "insufficient": "Insufficient evidence"}
DEFINITION = (
    "Retention at n shots is what the tuned model scores above chance on tasks it was not tuned for, divided by what "
    "the base model scored above chance on them, both summed over the tasks and with the same prompts. "
    "100% means that nothing was lost, 0% that examples in the prompt no longer help beyond guessing."
)
PROMPT_USE = (
    "Ask `on_target` for what the model was tuned for: a soft prompt stands before its inputs, and the figures for the "
    "target above were measured with it. Ask `model`, without the prompt, for everything else."
)
GROUPS = {
    "suite": "Tasks with inputs of their own",
    "own-input": "Tasks over the target's own inputs",
    "knowledge": "What is known by heart, from examples",
    "instructed": "What an instruction asks for",
    "instructed knowledge": "What is known by heart, with an instruction",
    "format matches target": "Answers in the target's format",
    "format differs": "Answers in another format",
    "inputs like target": "Inputs that look like the target's",
    "inputs unlike target": "Inputs that look otherwise",
    "families practised": "Families of tasks that training showed",
    "other families": "Families that it did not show",
}

ZERO_SHOT_GROUPS = ("instructed", "instructed knowledge")


def percent(value: float, digits: int = 0) -> str:
    """A rate in per cent.

    Example:
        >>> percent(0.914), percent(0.9144, 1), percent(-0.03), percent(-0.0004)
        ('91%', '91.4%', '−3%', '0%')
    """
    return f"{_fixed(100 * value, digits)}%"


def bracket(interval: Interval | None, digits: int = 0) -> str:
    """An interval of rates, in per cent.

    Example:
        >>> bracket(Interval(0.84, 0.97)), bracket(None)
        ('[84, 97]', '[–]')
    """
    if interval is None:
        return f"[{ABSENT}]"
    return f"[{_fixed(100 * interval.low, digits)}, {_fixed(100 * interval.high, digits)}]"


def estimate(value: Estimate | None, digits: int = 0) -> str:
    """A rate with its interval, in per cent.

    Example:
        >>> estimate(Estimate(0.91, Interval(0.84, 0.97))), estimate(None)
        ('91% [84, 97]', 'not measurable')
    """
    return "not measurable" if value is None else f"{percent(value.value, digits)} {bracket(value.interval, digits)}"


def accuracy(point: Point | None) -> str:
    """A point of a curve, to a tenth of a per cent."""
    return DOES_NOT_FIT if point is None else estimate(point.accuracy, 1)


def kept_at(report: Report, shots: int) -> str:
    """Retention at a shot count, or why there is none."""
    if shots not in report.retention.by_shots:
        return ABSENT
    if report.held_out.before.get(shots) is None:
        return DOES_NOT_FIT
    return estimate(report.retention.by_shots[shots])


def points(value: Estimate | None) -> str:
    """A difference of two rates, in percentage points and with its sign.

    Example:
        >>> points(Estimate(0.82, Interval(0.78, 0.86))), points(Estimate(-0.02, None)), points(None)
        ('+82 points [78, 86]', '−2 points [–]', 'not measured')
    """
    if value is None:
        return "not measured"
    number = _fixed(100 * value.value, 0)
    return f"{'' if number[0] in '−0' else '+'}{number} points {bracket(value.interval)}"


def duration(seconds: float | None) -> str:
    """A time span.

    Example:
        >>> duration(8.25), duration(192.0), duration(7260.0), duration(None)
        ('8.2 s', '3 min 12 s', '2 h 1 min', '–')
    """
    if seconds is None:
        return ABSENT
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def count(number: int | float | None) -> str:
    """A number of things, to three digits.

    Example:
        >>> count(320), count(98304), count(6_541_312), count(1.5e9), count(None)
        ('320', '98.3 k', '6.54 M', '1.50 G', '–')
    """
    if number is None:
        return ABSENT
    if number < 999.5:
        return f"{number:.0f}"
    power = next(power for power in (1, 2, 3, 4) if number < 999.5 * 1000**power or power == 4)
    number /= 1000**power
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f} {' kMGT'[power]}"


def memory(number: int | None) -> str:
    """A number of bytes.

    Example:
        >>> memory(1_610_612_736), memory(None)
        ('1.50 GiB', '–')
    """
    if number is None:
        return ABSENT
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def moment(created: str) -> str:
    """A time as a reader wants it; what is no ISO time stays as it is.

    Example:
        >>> moment("2025-03-14T09:26:53+00:00"), moment("in spring")
        ('14 March 2025, 09:26 UTC', 'in spring')
    """
    try:
        time = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{time.day} {time:%B %Y, %H:%M %Z}".rstrip()


def trainable(report: Report) -> str:
    """How many parameters moved, of how many."""
    moved, total = report.cost.trainable_parameters, report.cost.total_parameters
    if moved is None or not total:
        return count(moved)
    return f"{count(moved)} of {count(total)} ({percent(moved / total, 1)})"


def headline(report: Report) -> str:
    """The two numbers that matter, in one sentence."""
    before, after = report.target.before.get(0), report.target.after.get(0)
    if report.gain is None:
        first = NO_ZERO_SHOT
    elif before is None or after is None:
        first = f"Without examples, the target changed by {points(report.gain)}"
    else:
        start, end = percent(before.accuracy.value), percent(after.accuracy.value)
        verb = "rose" if after.accuracy.value > before.accuracy.value else "fell"
        change = f"stayed at {end}" if start == end else f"{verb} from {start} to {end}"
        first = f"Without examples, the target {change}"
    kept = report.retention.estimate
    second = "what was kept" if kept is None else estimate(kept)
    verb = "is not measurable" if kept is None else "was kept"
    return f"{first}; {second} of the few-shot ability on other tasks {verb}."


def retention_words(report: Report) -> str:
    """Retention at the headline's shot count, or why there is none."""
    if report.retention.estimate is None:
        return f"not measurable: {report.retention.reason or 'the report gives no reason'}"
    return estimate(report.retention.estimate)


def detectable_words(report: Report) -> str:
    """The drop that the evaluation could tell from none; empty where the report does not say."""
    drop = report.retention.minimum_detectable_drop
    return "" if drop is None else f"A drop of {percent(drop, 1)} or more would have been found four times out of five."


def verdict_words(report: Report) -> str:
    """What the gate's verdict means for this run, and what would help where the evidence does not decide."""
    allowed = percent(report.gate.max_drop)
    kept = report.retention.estimate
    if kept is None:
        return (
            f"What was kept is {retention_words(report).removesuffix('.')}. "
            "Held-out tasks that the base model can learn in context, more shots or a larger base model would help."
        )
    drop = f"The drop of {estimate(_drop(kept))}"
    if report.gate.verdict == "pass":
        return f"{drop} lies within the allowed {allowed}."
    if report.gate.verdict == "fail":
        return f"{drop} lies beyond the allowed {allowed}."
    if report.gate.reason:  # the gate has worked out what would help
        return f"{report.gate.reason[0].upper()}{report.gate.reason[1:].rstrip('.')}."
    return f"{drop} is not clearly on either side of the allowed {allowed}."


def further_reason(report: Report) -> str:
    """The gate's own reason; empty where the verdict's meaning already says it."""
    reason = report.gate.reason.rstrip(".")
    return "" if reason.casefold() in verdict_words(report).casefold() else reason


def summary_lines(report: Report) -> list[str]:
    """The run in one short paragraph for the terminal: gained, kept, and what the verdict means.

    Args:
        report: What the run found.
    """
    before, after = report.held_out.before.get(report.shots), report.held_out.after.get(report.shots)
    target = " → ".join(accuracy(curve.get(0)) for curve in (report.target.before, report.target.after))
    told = "" if report.gate.verdict == "insufficient" else detectable_words(report)  # the gate's reason has it too
    return [
        f"{NO_ZERO_SHOT}." if report.gain is None else f"Target, zero-shot: {target} ({points(report.gain)}).",
        f"Other tasks, {report.shots}-shot: {accuracy(before)} → {accuracy(after)}.",
        f"Few-shot ability kept: {retention_words(report).removesuffix('.')}. {told}".rstrip(),
        f"Gate: {VERDICTS[report.gate.verdict].lower()}. {verdict_words(report)}",
    ]


def _drop(kept: Estimate) -> Estimate:
    interval = kept.interval
    return Estimate(1 - kept.value, None if interval is None else Interval(1 - interval.high, 1 - interval.low))


def signed(value: float) -> str:
    """A difference of rates as a decimal with its sign.

    Example:
        >>> signed(0.123), signed(-0.5), signed(-0.001)
        ('+0.12', '−0.50', '0.00')
    """
    text = _fixed(value, 2)
    return f"+{text}" if value > 0 and float(text) else text


def _fixed(number: float, digits: int) -> str:
    """A decimal with a real minus sign, and no sign on a zero."""
    text = f"{number:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def learning_rate(value: float) -> str:
    """A learning rate, as short as it can be written.

    Example:
        >>> learning_rate(2e-5), learning_rate(0.00027), learning_rate(1.0)
        ('2e-5', '2.7e-4', '1e0')
    """
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
