"""Prompts and what is learned after them, from columns, templates or chats."""

from __future__ import annotations

from typing import Any

from avil_fast.config.text_tasks import TextTaskConfig
from avil_fast.errors import AvilError, reason
from avil_fast.tasks.text import templates
from avil_fast.tasks.text.labels import is_missing, meaning
from avil_fast.tasks.text.tables import SourceTable

Prompted = tuple[list[str], list[str], list[tuple[str, ...]]]
"""Prompts, what is learned after each, and the texts that a prompt is made of."""


def prompted(task: str, config: TextTaskConfig, table: SourceTable, tokenizer: Any) -> Prompted:
    """The prompt and the completion of every row, as the task's settings have them.

    Raises:
        AvilError: a column is missing, a text empty, a template wrong, or a chat none; names file and line.
    """
    columns, setting = config.columns, f"tasks.{task}"
    if columns.messages is not None:
        return _chats(table, columns.messages, f"{setting}.columns.messages", tokenizer)
    if config.completion is None and columns.completion is None:
        texts = table.texts(columns.text, f"{setting}.columns.text")
        return [""] * len(texts), texts, [(text,) for text in texts]
    if config.completion is not None:
        learned, _ = _filled(table, config.completion, f"{setting}.completion", optional=False)
    else:
        learned = table.texts(str(columns.completion), f"{setting}.columns.completion")
    if config.prompt is not None:
        prompts, sources = _filled(table, config.prompt, f"{setting}.prompt", optional=True)
    elif columns.prompt is not None:
        prompts = table.texts(columns.prompt, f"{setting}.columns.prompt")
        sources = [(prompt,) for prompt in prompts]
    else:
        prompts, sources = [""] * len(learned), [()]
    if not any(sources):  # the prompt is the same for all rows
        sources = [(text,) for text in learned]
    return prompts, learned, sources


def _filled(
    table: SourceTable, template: str, setting: str, optional: bool
) -> tuple[list[str], list[tuple[str, ...]]]:
    """A template with the values of every row, and these values; they may be empty if that is `optional`."""
    names = templates.fields(template, table.names, setting, table.name)
    columns = {name: table.column(name, setting) for name in names}
    classes = {name: table.classes(name) for name in names}
    texts, sources = [], []
    for row in range(len(table)):
        values = {name: meaning(columns[name][row], classes[name]) for name in names}
        for name, value in values.items():
            if is_missing(value) and not (optional and value == ""):
                raise AvilError(f"{table.where(row)}: the {name} is missing; fill it in, or leave the row out")
        texts.append(templates.fill(template, values))
        sources.append(tuple(str(value) for value in values.values()))
    return texts, sources


def _chats(table: SourceTable, column: str, setting: str, tokenizer: Any) -> Prompted:
    if getattr(tokenizer, "chat_template", None) is None:
        raise AvilError(f"{setting} is {column!r}, but the model's tokenizer has no chat template; use prompt")
    prompts, learned, sources = [], [], []
    for row, messages in enumerate(table.column(column, setting)):
        if not _is_chat(messages):
            raise AvilError(
                f"{table.where(row)}: the {column} must be a list of two or more {{role, content}} with texts, of "
                f"which the last has the role assistant; correct it, or leave the row out"
            )
        try:
            prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
            whole = tokenizer.apply_chat_template(messages, tokenize=False)
        except Exception as error:  # a template is code of its own, and raises what it likes
            raise AvilError(
                f"{table.where(row)}: the chat template refuses it: {reason(error)}; correct it or leave it out"
            ) from error
        if not whole.startswith(prompt) or whole == prompt:
            raise AvilError(
                f"{table.where(row)}: the chat template changes the prompt when the answer follows; use prompt "
                f"and completion instead of messages"
            )
        prompts.append(prompt)
        learned.append(whole.removeprefix(prompt))
        sources.append(tuple(message["content"] for message in messages[:-1]))
    return prompts, learned, sources


def _is_chat(messages: Any) -> bool:
    return (
        isinstance(messages, list)
        and len(messages) >= 2
        and all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in messages)
        and messages[-1].get("role") == "assistant"
        and bool(messages[-1]["content"].strip())
    )
