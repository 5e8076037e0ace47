"""What fine-tuning does to in-context learning, where it can be computed exactly: one layer of linear attention.

Closed forms stand beside their equations: `risk` (the master formula), `pretrained`, `full`, `value`, `label_weight`.
`simulate` samples prompts, `training` trains the real module, `checks` holds the three against each other, `explore`
and `figures` show what follows.

Reference:
    C. Lee, J. Sohn, K. Lee, arXiv 2602.23197.
"""
