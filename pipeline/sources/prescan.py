"""What the beginning of an HTML page says of its encoding: the prescan of the HTML standard (13.2.3.2).

The `<meta>` elements come first, then an XML declaration. The standard looks at 1,024 bytes beforehand, and heeds a
later `<meta>` when its parser meets it; both are one here.
"""

from __future__ import annotations

import re

from pipeline.sources.whatwg import name_of

__all__ = ["declared_in"]

ENOUGH = 1 << 14
"""Bytes in which a declaration is looked for."""
_VALUES = rb"(?:[^\"'>]|\"[^\"]*\"|'[^']*')*+"
_TAG = re.compile(
    rb"<!--(?:-?>|.*?-->|.*)|<meta(?=[\s/])(?P<meta>" + _VALUES + rb")|</?[a-z]" + _VALUES + rb"|<[!/?][^>]*+>?",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE = re.compile(rb"([^\s/>=]+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+)))?")
_CHARSET = re.compile(rb"charset\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s;\"']+))", re.IGNORECASE)
_XML = re.compile(rb"<\?xml[^>]*?\sencoding\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")


def declared_in(body: bytes) -> str | None:
    """The encoding that a page declares itself; None for none, and for a label that the standard does not know."""
    head = body[:ENOUGH]
    if head.startswith((b"<\0?\0x\0", b"\0<\0?\0x")):
        return "utf-16le" if head[0] else "utf-16be"
    for tag in _TAG.finditer(head):
        if tag["meta"] and (name := _of_meta(tag["meta"])):
            return name
    return _usable(_label(_XML.match(head)))


def _of_meta(text: bytes) -> str | None:
    attributes: dict[bytes, bytes] = {}
    for found in _ATTRIBUTE.finditer(text):
        attributes.setdefault(found[1].lower(), found[2] or found[3] or found[4] or b"")
    if b"charset" in attributes:
        return _usable(attributes[b"charset"])
    if attributes.get(b"http-equiv", b"").lower() == b"content-type":
        return _usable(_label(_CHARSET.search(attributes.get(b"content", b""))))
    return None


def _label(found: re.Match[bytes] | None) -> bytes:
    return b"".join(filter(None, found.groups())) if found else b""


def _usable(label: bytes) -> str | None:
    """The encoding of a label that was read as ASCII, and so cannot be UTF-16."""
    name = name_of(label.decode("latin-1"))
    return {"utf-16le": "utf-8", "utf-16be": "utf-8", "x-user-defined": "windows-1252"}.get(name or "", name)
