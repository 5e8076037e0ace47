"""Tune in Python, look at what was kept, and decide.

python examples/retention_of_your_model.py
"""

import keepshot

config = {
    "model": "mini",
    "data": {"train": "mini:word-rule"},
    "method": ["full", "icl-mix"],
    "train": {"max_steps": 60, "per_device_train_batch_size": 32, "learning_rate": 2e-4},
    "evaluate": {"shots": [0, 4, 16], "sets": 4, "queries": 20},
}


def main() -> None:
    """Tune, then print the verdict and the tasks that lost most."""
    run = keepshot.tune(config, output="runs/example", resume=True, say=print)
    report = keepshot.read_report(run.path)
    print(keepshot.gate(run.path, max_drop=0.05))
    shots = report.retention.shots
    lost = {
        task.name: task.before[shots].accuracy.value - task.after[shots].accuracy.value
        for task in report.tasks
        if task.before[shots] and task.after[shots]
    }
    for name, drop in sorted(lost.items(), key=lambda pair: -pair[1])[:5]:
        print(f"{name}: {drop:+.2f} lost at {shots} shots")


if __name__ == "__main__":
    main()
