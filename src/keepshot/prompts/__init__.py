"""Examples to token rows: plain, instruction and chat templates, answer spans, batches by length."""

from keepshot.prompts.batches import group_by_length
from keepshot.prompts.chat import ChatTemplate
from keepshot.prompts.encode import Row, TemplateName, choose_template, encode
from keepshot.prompts.template import INSTRUCTION, PLAIN, BlockTemplate, Prompt, Span, Template, VerbatimTemplate

__all__ = [
    "INSTRUCTION",
    "PLAIN",
    "BlockTemplate",
    "ChatTemplate",
    "Prompt",
    "Row",
    "Span",
    "Template",
    "TemplateName",
    "VerbatimTemplate",
    "choose_template",
    "encode",
    "group_by_length",
]
