"""Trees of messages, in which several replies answer one (OASST): of each the path that was ranked best.

A tree is a record (``prompt`` with its ``replies``, and theirs), or rows of one message each, with ``message_id`` and
``parent_id``, which `joined` puts together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.reasoning.unread import Unread

__all__ = ["Path", "best_path", "joined"]

_UNRANKED = 1 << 30


@dataclass(frozen=True)
class Path:
    """A conversation of a tree."""

    messages: list[Any]
    left_out: int
    """Messages of the tree that are not in it."""


def best_path(record: Mapping[str, Any]) -> Path | None:
    """From the root on the reply of the least rank, the first where none is ranked; None of what is no tree."""
    root = record if "replies" in record else record.get("prompt")
    if not isinstance(root, Mapping) or not isinstance(root.get("replies"), list):
        return None
    found: list[Any] = []
    node: Any = root
    while node is not None:
        found.append({"role": node.get("role"), "content": node.get("text", node.get("content"))})
        node = min(_replies(node), key=_rank, default=None)
    return Path(found, sum(1 for _ in _all(root)) - len(found))


def _replies(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Replies that nobody deleted, or found to be none."""
    replies = node.get("replies")
    return [
        each
        for each in (replies if isinstance(replies, list) else ())
        if isinstance(each, Mapping) and not each.get("deleted") and each.get("review_result") is not False
    ]


def _rank(node: Mapping[str, Any]) -> float:
    rank = node.get("rank")
    return rank if isinstance(rank, int | float) and rank == rank else _UNRANKED


def _all(root: Any) -> Iterator[Any]:
    """Every message of a tree."""
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.get("replies") or [] if isinstance(node, Mapping) else []


def joined(records: Iterable[tuple[str, int, Any]]) -> Iterator[tuple[str, int, Any]]:
    """The records, rows of trees behind the others of their file, as one record for each tree."""
    held: list[tuple[str, int, dict[str, Any]]] = []
    for name, number, record in records:
        if held and held[0][0] != name:
            yield from _trees(held)
            held = []
        if isinstance(record, Mapping) and {"message_id", "parent_id", "role"} <= record.keys():
            held.append((name, number, {**record, "replies": []}))
        else:
            yield name, number, record
    yield from _trees(held)


def _trees(rows: list[tuple[str, int, dict[str, Any]]]) -> Iterator[tuple[str, int, Any]]:
    known = {row["message_id"]: row for _, _, row in rows}
    roots = []
    for name, number, row in rows:
        parent = row["parent_id"]
        if not parent or parent != parent:  # NaN of a table
            roots.append((name, number, row))
        elif parent in known:
            known[parent]["replies"].append(row)
    reached = {id(node) for _, _, root in roots for node in _all(root)}
    yield from roots
    for name, number, row in rows:
        if id(row) not in reached:
            yield name, number, Unread(str(row.get("text", "")), "a message whose first question is not in the file")
