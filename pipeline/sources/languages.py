"""Programming languages by the names of their files."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

__all__ = ["DATA", "LANGUAGES", "language_of"]

LANGUAGES: dict[str, tuple[str, ...]] = {
    "abap": ("abap",),
    "ada": ("adb", "ads"),
    "agda": ("agda", "lagda"),
    "alloy": ("als",),
    "antlr": ("g4",),
    "apex": ("apex", "trigger"),
    "applescript": ("applescript",),
    "asciidoc": ("adoc", "asciidoc"),
    "assembly": ("asm", "s", "nasm"),
    "astro": ("astro",),
    "augeas": ("aug",),
    "autohotkey": ("ahk",),
    "awk": ("awk",),
    "ballerina": ("bal",),
    "batch": ("bat", "cmd"),
    "bluespec": ("bsv",),
    "c": ("c", "h"),
    "c#": ("cs",),
    "c++": ("cc", "cpp", "cxx", "hh", "hpp", "hxx", "ino", "tcc", "ipp", "inl"),
    "cairo": ("cairo",),
    "clojure": ("clj", "cljc", "cljs", "edn"),
    "cmake": ("cmake",),
    "cobol": ("cob", "cbl", "cpy"),
    "coffeescript": ("coffee",),
    "common lisp": ("lisp", "lsp"),
    "crystal": ("cr",),
    "css": ("css", "less", "scss"),
    "cuda": ("cu", "cuh"),
    "cython": ("pyx", "pxd"),
    "d": ("d", "di"),
    "dart": ("dart",),
    "dockerfile": ("dockerfile",),
    "elixir": ("ex", "exs"),
    "elm": ("elm",),
    "emacs lisp": ("el",),
    "erb": ("erb",),
    "erlang": ("erl", "hrl", "escript"),
    "f#": ("fs", "fsi", "fsx"),
    "fish": ("fish",),
    "fortran": ("f", "f90", "f95", "f03", "f08", "for", "f77"),
    "gdscript": ("gd",),
    "glsl": ("glsl", "frag", "vert"),
    "go": ("go",),
    "graphql": ("graphql", "gql"),
    "groovy": ("groovy", "gradle", "gvy"),
    "haml": ("haml",),
    "handlebars": ("hbs", "mustache"),
    "haskell": ("hs", "lhs", "hsc"),
    "haxe": ("hx",),
    "hcl": ("tf", "hcl"),
    "hlsl": ("hlsl",),
    "html": ("html", "htm"),
    "idris": ("idr", "lidr"),
    "isabelle": ("thy",),
    "java": ("java",),
    "java server pages": ("jsp",),
    "javascript": ("js", "jsx", "mjs", "cjs"),
    "json": ("json", "jsonc"),
    "jsonnet": ("jsonnet", "libsonnet"),
    "julia": ("jl",),
    "kotlin": ("kt", "kts"),
    "lean": ("lean",),
    "lex": ("l", "ll"),
    "lua": ("lua", "rockspec"),
    "m4": ("m4",),
    "makefile": ("mk", "mak"),
    "maple": ("mpl",),
    "markdown": ("md", "markdown"),
    "mathematica": ("wl", "wls", "nb"),
    "matlab": ("m",),
    "metal": ("metal",),
    "move": ("move",),
    "nextflow": ("nf",),
    "nim": ("nim",),
    "nix": ("nix",),
    "objective-c": ("mm",),
    "ocaml": ("ml", "mli"),
    "opencl": ("cl",),
    "pascal": ("pas", "pp"),
    "perl": ("pl", "pm"),
    "php": ("php", "phtml"),
    "powershell": ("ps1", "psm1"),
    "prolog": ("pro",),
    "protocol buffer": ("proto",),
    "pug": ("pug",),
    "purescript": ("purs",),
    "python": ("py", "pyi", "pyw"),
    "qml": ("qml",),
    "r": ("r",),
    "r markdown": ("rmd", "qmd"),
    "racket": ("rkt",),
    "raku": ("raku", "rakumod"),
    "reason": ("re", "rei"),
    "restructuredtext": ("rst",),
    "ruby": ("rb", "rake", "gemspec"),
    "rust": ("rs",),
    "sas": ("sas",),
    "sass": ("sass",),
    "scala": ("scala", "sbt", "sc"),
    "scheme": ("scm", "ss"),
    "shell": ("sh", "bash", "zsh", "ksh"),
    "smalltalk": ("st",),
    "solidity": ("sol",),
    "sparql": ("rq", "sparql"),
    "sql": ("sql",),
    "stan": ("stan",),
    "standard ml": ("sml",),
    "starlark": ("bzl", "star"),
    "stata": ("do", "ado"),
    "stylus": ("styl",),
    "svelte": ("svelte",),
    "swift": ("swift",),
    "systemverilog": ("sv", "svh"),
    "tcl": ("tcl",),
    "tcsh": ("csh", "tcsh"),
    "tex": ("tex", "sty"),
    "thrift": ("thrift",),
    "toml": ("toml",),
    "twig": ("twig",),
    "typescript": ("ts", "tsx", "mts", "cts"),
    "vala": ("vala", "vapi"),
    "verilog": ("v", "vh"),
    "vhdl": ("vhd", "vhdl"),
    "visual basic": ("vb", "bas"),
    "vue": ("vue",),
    "vyper": ("vy",),
    "webassembly": ("wat",),
    "wgsl": ("wgsl",),
    "xslt": ("xsl", "xslt"),
    "yacc": ("y", "yy"),
    "yaml": ("yaml", "yml"),
    "zig": ("zig",),
}
DATA = frozenset({"json", "toml", "yaml"})
"""Languages whose files are mostly data."""

_BY_ENDING = {ending: language for language, endings in LANGUAGES.items() for ending in endings}
_BY_NAME = {
    **dict.fromkeys(("makefile", "gnumakefile", "makefile.am", "makefile.in", "kbuild"), "makefile"),
    **dict.fromkeys(("rakefile", "gemfile", "vagrantfile", "podfile", "fastfile", "brewfile", "guardfile"), "ruby"),
    **dict.fromkeys(("sconstruct", "sconscript", "wscript", "snakefile"), "python"),
    **dict.fromkeys(("build.bazel", "workspace.bazel", "module.bazel"), "starlark"),
    **{"dockerfile": "dockerfile", "containerfile": "dockerfile", "cmakelists.txt": "cmake", "jenkinsfile": "groovy"},
    **{"configure.ac": "m4", "meson.build": "meson", "meson_options.txt": "meson"},
}
_INTERPRETED = re.compile(rb"#! *(?:/[\w./-]*/)?(?:env +(?:-\S+ +|\w+=\S* +)*)?([a-zA-Z]+)[\d.]*(?=\s|\Z)")
_BY_INTERPRETER = {
    **dict.fromkeys(("sh", "bash", "dash", "zsh", "ksh", "ash"), "shell"),
    **dict.fromkeys(("node", "nodejs", "deno", "bun"), "javascript"),
    **{"python": "python", "pypy": "python", "perl": "perl", "ruby": "ruby", "php": "php", "lua": "lua", "awk": "awk"},
    **{"gawk": "awk", "tclsh": "tcl", "wish": "tcl", "expect": "tcl", "make": "makefile", "groovy": "groovy"},
    **{"rscript": "r", "julia": "julia", "fish": "fish", "csh": "tcsh", "tcsh": "tcsh", "escript": "erlang"},
    **{"elixir": "elixir", "runhaskell": "haskell", "guile": "scheme", "racket": "racket", "pwsh": "powershell"},
}
"""What runs a script, which then needs no ending."""


def language_of(path: str, content: bytes = b"") -> str | None:
    """The language of a file, by its name, or else by the interpreter that its first line calls; None if neither says.

    Args:
        content: its first bytes at least, where they are known.
    """
    name = PurePosixPath(path).name.lower()
    if found := _BY_NAME.get(name) or _BY_ENDING.get(name.rpartition(".")[2] if "." in name else ""):
        return found
    if name.startswith(("dockerfile.", "containerfile.", "makefile.")):
        return _BY_NAME[name.partition(".")[0]]
    called = _INTERPRETED.match(content)
    return _BY_INTERPRETER.get(called[1].decode().lower()) if called else None
