"""A page of answers that a person can read: question, answer, right or wrong, and the thoughts folded away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["samples_page"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
article { border-top: 1px solid #ddd; padding: 1rem 0; } h2 { font-size: 1rem; margin: 0 0 .5rem; }
p.answer { margin: .3rem 0; } .right { color: #13733b; } .wrong { color: #a2231d; } .quiet { color: #666; }
details { margin: .2rem 0; } summary { cursor: pointer; color: #666; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f6; padding: .6rem; margin: .3rem 0; }
@media (prefers-color-scheme: dark) {
  body { background: #161616; color: #ddd; } pre { background: #222; } article { border-color: #333; }
  .right { color: #6fcf97; } .wrong { color: #eb8a84; } .quiet, summary { color: #999; } }
"""


def samples_page(samples: Sequence[Mapping[str, Any]], marks: Mapping[str, Mapping[str, Any]], note: str) -> str:
    """HTML of all checkpoints' answers, question by question; nothing in it is loaded from elsewhere.

    Args:
        samples: rows with checkpoint, question, reasoning, answer, value, expected, correct.
        marks: of each checkpoint: accuracy with its interval and, where they were taken, pass@k, maj@k and suites.
        note: one paragraph on how the numbers came to be.
    """
    by_question: dict[str, list[Mapping[str, Any]]] = {}
    for sample in samples:
        by_question.setdefault(str(sample["question"]), []).append(sample)
    lines = [
        "<!doctype html>",
        '<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>Answers</title><style>{_STYLE}</style>",
        "<h1>Answers</h1>",
        "<ul>",
        *(_mark(name, mark) for name, mark in marks.items()),
        "</ul>",
        f'<p class="quiet">{escape(note)}</p>',
    ]
    for question, rows in by_question.items():
        lines.append(f"<article><h2>{escape(question)}</h2>")
        lines.append(f'<p class="quiet">Expected: {escape(str(rows[0]["expected"]))}</p>')
        lines += [_answer(row) for row in rows]
        lines.append("</article>")
    return "\n".join([*lines, "</html>", ""])


def _mark(name: str, mark: Mapping[str, Any]) -> str:
    sampled = [
        f"{measure} {value:.1%} {_interval(*mark[f'{measure}_interval'])}"
        for measure, value in mark.items()
        if measure.startswith(("pass@", "maj@")) and not measure.endswith("_interval")
    ]
    suites = [
        f"{escape(suite)}: {_share(marks)}" for suite, marks in mark.get("suites", {}).items() if "accuracy" in marks
    ]
    more = "".join(f"<li>{line}</li>" for line in ([", ".join(sampled)] if sampled else []) + suites)
    return f"<li><b>{escape(name)}</b>: {_share(mark)}{f'<ul>{more}</ul>' if more else ''}</li>"


def _share(marks: Mapping[str, Any]) -> str:
    interval = _interval(marks["accuracy_low"], marks["accuracy_high"])
    return f"{marks['accuracy']:.1%} of {marks['problems']} right {interval}"


def _interval(low: float, high: float) -> str:
    return f'<span class="quiet">(95 % interval {low:.1%} to {high:.1%})</span>'


def _answer(row: Mapping[str, Any]) -> str:
    word, style = ("right", "right") if row["correct"] else ("wrong", "wrong")
    answer = str(row["answer"]) or "(no answer)"
    shown = f"<pre>{escape(answer)}</pre> gives {escape(str(row['value']))}" if row.get("program") else escape(answer)
    thoughts = str(row["reasoning"])
    folded = f"<details><summary>thoughts</summary><pre>{escape(thoughts)}</pre></details>" if thoughts else ""
    return (
        f'<div class="answer"><b>{escape(str(row["checkpoint"]))}</b>: {shown} <span class="{style}">{word}</span>'
        f"{folded}</div>"
    )
