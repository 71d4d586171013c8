"""How right the judge of answers is: ``python -m bench.answers [FILE ...] [--wrong] [--json FILE]``.

Of labelled answers, JSONL with ``expected``, ``answer``, ``right`` and a ``type`` or ``category``: the share of right
verdicts by type, wrong answers that were accepted, and seconds per thousand verdicts. The peer is math-verify alone, as
one calls it, over the same rows; it runs in a process of its own, for it evaluates what it reads. Without FILE the
tests' own set is judged.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.table import Row, row, show
from pipeline.reasoning.answers.judge import judge
from pipeline.reasoning.answers.types import AnswerType

__all__ = ["main", "measure"]

OWN = Path(__file__).parents[1] / "tests" / "pipeline" / "reasoning" / "answers" / "cases.jsonl"
PEER = """
import json, logging, sys
from math_verify import parse, verify
logging.disable(logging.CRITICAL)
def read(text):
    return parse(text if "$" in text or "\\\\boxed" in text else f"${text}$", parsing_timeout=2)
for line in sys.stdin:
    case = json.loads(line)
    try:
        verdict = bool(verify(read(case["expected"]), read(case["answer"]), timeout_seconds=2))
    except Exception:
        verdict = False
    print(json.dumps(verdict), flush=True)
"""
Case = dict[str, Any]


def main() -> None:
    """Measure, print a table, and with ``--json`` write its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, default=[OWN], help="labelled answers")
    parser.add_argument("--wrong", action="store_true", help="print every wrong verdict of ours")
    parser.add_argument("--no-peer", action="store_true", help="without math-verify, which takes minutes")
    parser.add_argument("--json", type=Path, help="where the rows go")
    chosen = parser.parse_args()
    rows: list[Row] = []
    for file in chosen.files:
        cases = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows += measure(file.stem, cases, peer=not chosen.no_peer, show_wrong=chosen.wrong)
    show(rows, chosen.json)


def measure(name: str, cases: Sequence[Case], *, peer: bool, show_wrong: bool = False) -> list[Row]:
    """Rows of one labelled set: by type, all together, wrong answers accepted, time."""
    started = time.process_time()
    verdicts = [_verdict(case) for case in cases]
    seconds = time.process_time() - started
    theirs = _peer(cases) if peer else None
    if show_wrong:
        for case, verdict in zip(cases, verdicts, strict=True):
            if verdict != case["right"]:
                print(f"{'accepted' if verdict else 'refused'}: {json.dumps(case, ensure_ascii=False)}")
    places: dict[str, list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        places[case.get("type") or case.get("category") or "all"].append(place)
    rows = [
        _share(f"{name}: {kind} ({len(mine)})", cases, verdicts, theirs, mine) for kind, mine in sorted(places.items())
    ]
    rows.append(_share(f"{name}: all ({len(cases)})", cases, verdicts, theirs, range(len(cases)), target=97.0))
    accepted = [_accepted(cases, found) for found in (verdicts, theirs) if found is not None]
    rows.append(row(f"{name}: wrong answers accepted", "answers", accepted[0], {}, 0.0, most=True))
    if theirs is not None:
        rows.append(row(f"{name}: wrong answers accepted by math-verify", "answers", accepted[1], {}, None))
    rows.append(row(f"{name}: processor time of 1,000 verdicts", "s", seconds / len(cases) * 1000, {}, None))
    return rows


def _verdict(case: Case) -> bool:
    declared = AnswerType(case["answer_type"]) if "answer_type" in case else None
    return judge(case["expected"], case["answer"], declared, case.get("choices", ()), case.get("question", ""))


def _peer(cases: Sequence[Case]) -> list[bool] | None:
    """Verdicts of math-verify, or None where it is not installed."""
    if importlib.util.find_spec("math_verify") is None:
        return None
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    done = subprocess.run([sys.executable, "-c", PEER], input=lines, capture_output=True, text=True, check=False)
    verdicts = [bool(json.loads(line)) for line in done.stdout.splitlines()]
    return verdicts + [False] * (len(cases) - len(verdicts))  # it may end itself: what it did not say is no verdict


def _share(
    metric: str,
    cases: Sequence[Case],
    ours: Sequence[bool],
    theirs: Sequence[bool] | None,
    places: Sequence[int],
    target: float | None = None,
) -> Row:
    """Right verdicts in per cent; the target is for ours alone, whatever the peer reaches."""

    def share(verdicts: Sequence[bool]) -> float:
        return 100 * sum(verdicts[place] == cases[place]["right"] for place in places) / len(places)

    found = row(metric, "% right", share(ours), {}, target)
    if theirs is not None:
        found["peers"] = {"math-verify": round(share(theirs), 2)}
    return found


def _accepted(cases: Sequence[Case], verdicts: Sequence[bool]) -> int:
    return sum(verdict and not case["right"] for case, verdict in zip(cases, verdicts, strict=True))


if __name__ == "__main__":
    main()
