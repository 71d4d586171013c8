"""A page of answers that a person can read: question, answer, right or wrong, and the reasoning folded away."""

from __future__ import annotations

from html import escape

from model.facts.evaluation import CheckpointMarks, Evaluation, Marks, Sample

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


def samples_page(found: Evaluation, note: str) -> str:
    """HTML of all checkpoints' answers, question by question; nothing in it is loaded from elsewhere.

    Args:
        note: one paragraph on how the numbers came to be.
    """
    by_question: dict[str, list[Sample]] = {}
    for sample in found.samples:
        by_question.setdefault(sample.question, []).append(sample)
    lines = [
        "<!doctype html>",
        '<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>Answers</title><style>{_STYLE}</style>",
        "<main><h1>Answers</h1>",
        "<ul>",
        *(_mark(name, mark) for name, mark in found.checkpoints.items()),
        "</ul>",
        f'<p class="quiet">{escape(note)}</p>',
    ]
    for question, rows in by_question.items():
        lines.append(f"<article><h2>{escape(question)}</h2>")
        lines.append(f'<p class="quiet">Expected: {escape(rows[0].expected)}</p>')
        lines += [_answer(row) for row in rows]
        lines.append("</article>")
    return "\n".join([*lines, "</main></html>", ""])


def _mark(name: str, marks: CheckpointMarks) -> str:
    sampled = [
        f"{measure} {value:.1%} {_interval(*marks.sampled_interval(measure))}"
        for measure, value in marks.sampled.items()
    ]
    suites = [f"{escape(suite)}: {_share(taken)}" for suite, taken in (marks.suites or {}).items() if _share(taken)]
    more = "".join(f"<li>{line}</li>" for line in ([", ".join(sampled)] if sampled else []) + suites)
    return f"<li><b>{escape(name)}</b>: {_share(marks)}{f'<ul>{more}</ul>' if more else ''}</li>"


def _share(marks: Marks) -> str:
    if marks.accuracy is None or marks.interval is None:
        return ""
    return f"{marks.accuracy:.1%} of {marks.problems} right {_interval(*marks.interval)}"


def _interval(low: float, high: float) -> str:
    return f'<span class="quiet">(95 % interval {low:.1%} to {high:.1%})</span>'


def _answer(row: Sample) -> str:
    word = "right" if row.correct else "wrong"
    answer = row.answer or "(no answer)"
    shown = f"<pre>{escape(answer)}</pre> gives {escape(row.value)}" if row.program else escape(answer)
    folded = f"<details><summary>reasoning</summary><pre>{escape(row.reasoning)}</pre></details>"
    return (
        f'<div class="answer"><b>{escape(row.checkpoint)}</b>: {shown} <span class="{word}">{word}</span>'
        f"{folded if row.reasoning else ''}</div>"
    )
