"""Which documents go, by which rule, and for the sake of which other: a file of removals per file of documents.

One process decides as long as there are few documents (`pipeline.dedup.clusters`). Of more, the executor's tasks each
take a share: digests that are the same, bands that are the same, components by rounds (`pipeline.dedup.rounds`), the
least key of each cluster, and the removals of each file. The same rows come out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.pipeline.base import PipelineStep

from pipeline.dedup.clusters import KeyFiles, join, near_edges, near_nodes, same
from pipeline.dedup.rounds import EDGE, Limits, Passes, Work, components, edges_of
from pipeline.dedup.runs import forget, groups, is_new
from pipeline.dedup.section import DedupConfig
from pipeline.tasks.documents import run_pipeline

__all__ = ["write_removals"]

DIGEST = ("key", "node")
"""A document by a digest."""
MEMBER = ("key", "rank", "source", "id", "node")
"""A document of the cluster `key`, in the order of who stays."""
GONE = ("key",)
"""A document that another of its cluster comes before."""
NAMED = pa.schema([(GONE[0], pa.int64()), ("kept", pa.string()), ("kept_source", pa.string())])
"""With the one that stays."""


def write_removals(config: DedupConfig, work: Path, limits: Limits | None = None) -> None:
    """For each file the rows to remove, each with its rule, and the id and source of the document that stays.

    Reads `<work>/keys` and `<work>/pairs`, writes `<work>/removals`.
    """
    limits = limits or Limits()
    keys = KeyFiles(work / "keys")
    if int(keys.begins[-1]) <= limits.here:
        _decide_here(config, keys, work)
    else:
        _Decision(config, keys, work, limits).take()


def _decide_here(config: DedupConfig, keys: KeyFiles, work: Path) -> None:
    none = np.empty((0, 2), dtype=np.int64)
    exact = same(keys, "characters") if config.exact else none
    folded = same(keys, "words") if config.folded else none
    near = near_edges(work / "pairs", keys.begins) if config.minhash else none
    all_ = join(np.concatenate((exact, folded, near)))
    stays, kept = all_.winners(keys)
    is_gone = stays[all_.labels] != all_.nodes
    sources = pa.array([source for source, _ in kept], pa.string())
    names = pa.array([name for _, name in kept], pa.string())
    by_rule = {"folded": _after_others(folded, keys), "exact": _after_others(exact, keys)}
    for number, where in keys.split(all_.nodes):
        gone = is_gone[where]
        labels = pa.array(all_.labels[where][gone])
        _write(
            work / "removals", number, keys, all_.nodes[where][gone], names.take(labels), sources.take(labels), by_rule
        )


def _after_others(edges: np.ndarray, keys: KeyFiles) -> np.ndarray:
    """The documents before which another of their cluster comes, which may itself go by another rule."""
    clusters = join(edges)
    firsts, _ = clusters.winners(keys)
    found: np.ndarray = clusters.nodes[firsts[clusters.labels] != clusters.nodes]
    return found


def _write(
    folder: Path,
    number: int,
    keys: KeyFiles,
    gone: np.ndarray,
    kept: pa.Array,
    sources: pa.Array,
    by_rule: Mapping[str, np.ndarray],
) -> None:
    """The removals of one file: the sorted nodes `gone`, who stays for each, and the nodes of the stricter rules."""
    rules = np.full(len(gone), "minhash", dtype=object)
    for rule, nodes in by_rule.items():
        rules[np.isin(gone, nodes)] = rule
    columns = {
        "row": pa.array(gone - keys.begins[number], pa.uint32()),
        "rule": pa.array(rules.tolist(), pa.string()),
        "kept": kept,
        "kept_source": sources,
    }
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).combine_chunks(), folder / f"{number:05d}.parquet")


class _Decision:
    """The same by tasks of the executor."""

    def __init__(self, config: DedupConfig, keys: KeyFiles, work: Path, limits: Limits) -> None:
        self.config, self.keys, self.work = config, keys, work
        self.passes = Passes(work / "joining", limits)
        self.limits = limits
        self.files = _deal(np.diff(keys.begins).tolist(), limits.block)
        """Files of keys that one task reads, one after another."""

    def take(self) -> None:
        """Write the removals."""
        graphs: dict[str, Path] = {}
        if self.config.folded:
            graphs["folded"] = self._same("words", "folded")
        if self.config.exact:
            graphs["exact"] = self._same("characters", "exact")
        by_rule = {rule: self._gone(labels, rule, GONE) for rule, labels in graphs.items()}
        edges = list(graphs.values())
        if self.config.minhash:
            edges.append(self._near())
        labels = components(self.passes, edges, "all")
        for folder in edges:
            forget(folder)
        gone = self._gone(labels, "all", NAMED.names)
        step = _Removals(self.work / "removals", self.keys, self.files, gone, by_rule, self.limits)
        run_pipeline([step], len(self.files), self.passes.folder / "passes", "removals")
        for folder in (gone, *by_rule.values()):
            forget(folder)

    def _same(self, column: str, rule: str) -> Path:
        """Documents whose column of digests is the same, each with the first of them."""
        digests = self.passes.folder / f"{rule}-digests"
        self.passes.run(
            digests.name, lambda out: (_Digests(self.keys, self.files, column, out, self.limits), len(self.files))
        )
        self.passes.take(rule, _first_of_equals, [digests], DIGEST, EDGE, then_forget=[digests])
        return self.passes.folder / rule

    def _near(self) -> Path:
        """Edges between documents that share a band."""
        parts = _parts(self.work / "pairs", self.limits.task)
        self.passes.run("near", lambda out: (_Near(parts, self.keys.begins, out, self.limits), len(parts)))
        return self.passes.folder / "near"

    def _gone(self, labels: Path, name: str, columns: Sequence[str]) -> Path:
        """The documents that another of their cluster comes before, with what `columns` name of the one that stays."""
        members, gone = (self.passes.folder / f"{name}-{what}" for what in ("members", "gone"))
        self.passes.run(
            members.name, lambda out: (_Members(self.keys, self.files, labels, out, self.limits), len(self.files))
        )
        turn = _gone_named if "kept" in columns else _gone
        self.passes.take(gone.name, turn, [members], MEMBER, GONE, then_forget=[members])
        return gone


def _deal(counts: Sequence[int], most: int) -> list[list[int]]:
    """The numbers of the files of each task, in order; about `most` documents each."""
    tasks: list[list[int]] = []
    room = -1
    for number, count in enumerate(counts):
        if count > room:
            tasks.append([])
            room = most
        tasks[-1].append(number)
        room -= int(count)
    return tasks


def _parts(folder: Path, most: int) -> list[tuple[Path, int, int]]:
    """Ranges of pairs, by file, first and count; at least one, for a pass has a task."""
    parts = []
    for file in sorted(folder.glob("*.dups")):
        count = file.stat().st_size // 16
        parts += [(file, begin, min(most, count - begin)) for begin in range(0, count, most)] or [(file, 0, 0)]
    return parts


class _Digests(Work):
    """Sorts the documents of each file by a digest."""

    def __init__(self, keys: KeyFiles, files: list[list[int]], column: str, out: Path, limits: Limits) -> None:
        super().__init__(out, DIGEST, limits)
        self.keys, self.files, self.column = keys, files, column

    def rows(self, rank: int) -> Iterable[tuple[pa.Table, bool]]:
        for number in self.files[rank]:
            digests = self.keys.column(number, self.column)
            nodes = np.arange(self.keys.begins[number], self.keys.begins[number + 1])
            yield pa.table([digests, nodes], names=DIGEST), False


def _first_of_equals(rows: pa.Table, least: pa.Table) -> tuple[pa.Table, bool]:
    nodes, firsts = rows["node"].to_numpy(), least["node"].to_numpy()
    others = nodes != firsts
    heads = np.unique(firsts[others])  # with itself, for it is of the cluster; who is alone is of none
    return pa.table([np.append(nodes[others], heads), np.append(firsts[others], heads)], names=EDGE), False


class _Near(Work):
    """Edges from the pairs of the bands; those of a block become as few as its clusters need."""

    def __init__(self, parts: list[tuple[Path, int, int]], begins: np.ndarray, out: Path, limits: Limits) -> None:
        super().__init__(out, EDGE, limits)
        self.parts, self.begins = parts, begins

    def rows(self, rank: int) -> Iterator[tuple[pa.Table, bool]]:
        file, first, count = self.parts[rank]
        for begin in range(first, first + count, self.limits.block):
            most = min(self.limits.block, first + count - begin)
            star = join(near_nodes(file, self.begins, begin, most)).star()
            yield edges_of(star[:, 1], star[:, 0]), False


class _Members(Work):
    """The documents that have a copy, with the keys that decide who stays, by their cluster."""

    def __init__(self, keys: KeyFiles, files: list[list[int]], labels: Path, out: Path, limits: Limits) -> None:
        super().__init__(out, MEMBER, limits)
        self.keys, self.files, self.labels = keys, files, labels

    def rows(self, rank: int) -> Iterator[tuple[pa.Table, bool]]:
        for number in self.files[rank]:
            begin, end = (int(self.keys.begins[number + step]) for step in (0, 1))
            named: pa.Table | None = None
            last = -1
            for rows, _ in groups([self.labels], begin, end, EDGE, self.limits.block):
                once = is_new(rows, GONE) & (rows["key"].to_numpy() != last)  # the first of very many comes repeatedly
                rows, last = rows.filter(pa.array(once)), rows["key"][-1].as_py()
                named = named or self.keys.named(number)
                nodes = rows["key"].to_numpy()
                found = named.take(pa.array(nodes - begin))
                columns = [rows["other"], found["rank"], found["source"], found["id"], nodes]
                yield pa.table(columns, names=MEMBER), False


def _gone(rows: pa.Table, least: pa.Table) -> tuple[pa.Table, bool]:
    nodes = rows["node"].to_numpy()
    return pa.table([nodes[nodes != least["node"].to_numpy()]], names=GONE), False


def _gone_named(rows: pa.Table, least: pa.Table) -> tuple[pa.Table, bool]:
    is_gone = pa.array(rows["node"].to_numpy() != least["node"].to_numpy())
    table = pa.table([rows["node"], least["id"], least["source"]], names=NAMED.names)
    return table.filter(is_gone), False


class _Removals(PipelineStep):
    """Writes the removals of each file."""

    type = "DEDUP"
    name = "removals"

    def __init__(
        self,
        folder: Path,
        keys: KeyFiles,
        files: list[list[int]],
        gone: Path,
        by_rule: Mapping[str, Path],
        limits: Limits,
    ) -> None:
        super().__init__()
        self.folder, self.keys, self.files, self.limits = folder, keys, files, limits
        self.gone, self.by_rule = gone, by_rule

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        for number in self.files[rank]:
            named = self._of(self.gone, number)
            by_rule = {rule: self._of(folder, number)["key"].to_numpy() for rule, folder in self.by_rule.items()}
            nodes = named["key"].to_numpy()
            _write(self.folder, number, self.keys, nodes, named["kept"], named["kept_source"], by_rule)

    def _of(self, folder: Path, number: int) -> pa.Table:
        """What concerns one file: no more rows than it has documents."""
        begin, end = (int(self.keys.begins[number + step]) for step in (0, 1))
        found = [rows for rows, _ in groups([folder], begin, end, GONE, self.limits.block)]
        return pa.concat_tables(found) if found else NAMED.empty_table()
