"""Programming languages by the names of their files."""

from __future__ import annotations

from pathlib import PurePosixPath

__all__ = ["DATA", "LANGUAGES", "language_of"]

LANGUAGES: dict[str, tuple[str, ...]] = {
    "ada": ("adb", "ads"),
    "assembly": ("asm", "s"),
    "awk": ("awk",),
    "batch": ("bat", "cmd"),
    "c": ("c", "h"),
    "c#": ("cs",),
    "c++": ("cc", "cpp", "cxx", "hh", "hpp", "hxx", "ino"),
    "clojure": ("clj", "cljc", "cljs"),
    "cmake": ("cmake",),
    "common lisp": ("lisp", "lsp"),
    "css": ("css", "less", "scss"),
    "cuda": ("cu", "cuh"),
    "cython": ("pyx", "pxd"),
    "dart": ("dart",),
    "elixir": ("ex", "exs"),
    "elm": ("elm",),
    "emacs lisp": ("el",),
    "erlang": ("erl", "hrl"),
    "f#": ("fs", "fsi", "fsx"),
    "fortran": ("f", "f90", "f95", "f03", "f08", "for"),
    "glsl": ("glsl", "frag", "vert"),
    "go": ("go",),
    "groovy": ("groovy", "gradle"),
    "haskell": ("hs", "lhs"),
    "html": ("html", "htm"),
    "java": ("java",),
    "javascript": ("js", "jsx", "mjs", "cjs"),
    "json": ("json",),
    "julia": ("jl",),
    "kotlin": ("kt", "kts"),
    "lean": ("lean",),
    "lua": ("lua",),
    "maple": ("mpl",),
    "markdown": ("md", "markdown"),
    "matlab": ("m",),
    "ocaml": ("ml", "mli"),
    "pascal": ("pas", "pp"),
    "perl": ("pl", "pm"),
    "php": ("php",),
    "powershell": ("ps1", "psm1"),
    "prolog": ("pro",),
    "protocol buffer": ("proto",),
    "python": ("py", "pyi"),
    "r": ("r",),
    "racket": ("rkt",),
    "restructuredtext": ("rst",),
    "ruby": ("rb",),
    "rust": ("rs",),
    "scala": ("scala",),
    "scheme": ("scm", "ss"),
    "shell": ("sh", "bash", "zsh", "ksh"),
    "smalltalk": ("st",),
    "solidity": ("sol",),
    "sql": ("sql",),
    "standard ml": ("sml",),
    "swift": ("swift",),
    "systemverilog": ("sv", "svh"),
    "tcl": ("tcl",),
    "tex": ("tex",),
    "thrift": ("thrift",),
    "typescript": ("ts", "tsx"),
    "verilog": ("v",),
    "vhdl": ("vhd", "vhdl"),
    "visual basic": ("vb", "bas"),
    "yaml": ("yaml", "yml"),
    "zig": ("zig",),
}
"""Language to the endings of its files."""
DATA = frozenset({"json", "yaml"})
"""Languages whose files are mostly data."""

_BY_ENDING = {ending: language for language, endings in LANGUAGES.items() for ending in endings}
_BY_NAME = {"makefile": "makefile", "gnumakefile": "makefile", "dockerfile": "dockerfile", "cmakelists.txt": "cmake"}


def language_of(path: str) -> str | None:
    """The language of a file, None if its name says nothing."""
    name = PurePosixPath(path).name.lower()
    return _BY_NAME.get(name) or _BY_ENDING.get(name.rpartition(".")[2] if "." in name else "")
