"""Task files of lm-evaluation-harness as tasks, whose prompts are the harness's own to the character.

What a file says in data and Jinja is read as version 0.4.13 reads it. What would need foreign code, or would be
measured otherwise here, is refused by the name of its key: a task is never silently another. See `docs/lm-eval.md`.
"""

from keepshot.tasks.lm_eval.reader import data_files, lm_eval_task
from keepshot.tasks.lm_eval.task_file import TaskFile, load_task_file

__all__ = ["TaskFile", "data_files", "lm_eval_task", "load_task_file"]
