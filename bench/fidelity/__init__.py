"""How true the text is that comes out of each kind of input, ours beside its peers; see `bench.fidelity.__main__`.

A file here measures one kind. It has

    def rows(data: Path | None, quick: bool) -> Iterable[Row]

where `data` is the folder of what was fetched for measuring, with a folder inside for each collection, and is found by
its name, so that a new kind is a new file and nothing else. What a file cannot do without and does not find, it asks
for by `bench.fidelity.needs.folder`, which says where it is to be had.
"""
