"""What is left out of a page before it is parsed changes nothing of what is read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resiliparse.parse.html import HTMLTree

from pipeline.html import columns as c
from pipeline.html.scan import scan
from pipeline.html.slimming import slimmed

ATTRIBUTES = (
    *(
        " class=a",
        ' id="nav main"',
        " href='x>y'",
        " data-x",
        ' style="display:none"',
        " style='color: red'",
        " hidden",
    ),
    *(
        ' title="a<b"',
        " src=tex.png",
        ' src="a.png"',
        " alt=A",
        "/",
        ' x="1"y="2"',
        " =a",
        " b = c",
        ' a="',
        " onclick",
    ),
    *(
        ' type="math/tex; mode=display"',
        " type=math&#47;tex",
        " color=red",
        ' encoding="text/html"',
        " x=y/",
        " x='y'/",
    ),
)
NAMES = (
    *("p", "div", "a", "b", "i", "font", "span", "li", "table", "td", "h1", "pre", "br", "img", "input", "form", "col"),
    *("script", "style", "SCRIPT", "title", "textarea", "iframe", "xmp", "noscript", "noframes", "plaintext"),
    *("svg", "math", "mi", "desc", "foreignObject", "annotation-xml", "path", "g", "select", "option", "template"),
    *("frameset", "body", "head", "scriptx", "style\x0b"),
)
TEXTS = (
    *(
        "word ",
        "A sentence, with a stop. ",
        " ",
        "\n",
        "&amp;",
        "&nbsp;",
        "é",
        "日本",
        "<",
        ">",
        '"',
        "</",
        "</>",
        "</ p>",
    ),
    *(
        "<!-- c -->",
        "<!-->",
        "<!--->",
        "<!--",
        "-->",
        "--!>",
        "<!---!>",
        "<!doctype html>",
        "<?pi>",
        "<![CDATA[",
        "]]>",
    ),
    *("x < 1", "<script>", "</script>", "</script\x0b>", "<!--<script>", "if (a</b/.c) d", "<style>p{}", "</style>"),
)
TAGS = st.builds(
    lambda opening, name, attributes, closing: opening + name + "".join(attributes) + closing,
    st.sampled_from(["<", "<", "</"]),
    st.sampled_from(NAMES),
    st.lists(st.sampled_from(ATTRIBUTES), max_size=3),
    st.sampled_from([">", ">", ">", "/>", " />", "", "\n>"]),
)
PAGES = st.lists(st.one_of(TAGS, st.sampled_from(TEXTS)), max_size=25).map("".join)


def _read(page: str) -> tuple[object, ...]:
    """All that the tables of a page hold but where its text is; and what that is."""
    tree = HTMLTree.parse(page)
    found = scan(tree.body.outer_html if tree.body else str(tree))
    texts = [found.markup[begin:end].tobytes() for begin, end in found.pieces[:, [c.FROM, c.TO]].tolist()]
    pieces = found.pieces[:, [c.KIND, c.WITHIN]]
    tables = (found.elements, found.flags, found.blocks, pieces)
    return tree.title, found.depth, texts, *(np.array(table).tolist() for table in tables)


@given(PAGES)
@settings(deadline=None, max_examples=150)
def test_the_same_is_read(page: str) -> None:
    assert _read(slimmed(page)) == _read(page)


@pytest.mark.parametrize(
    ("page", "left"),
    [
        ('<p href="a" class=b data-c>d</p>', "<p class=b >d</p>"),
        ("<a href=x><img src='a.png' alt=b></a>", "<a ><img src alt=b></a>"),
        ("<p style='color: red' style='display:none'>", "<p style style='display:none'>"),
        ("<script src=a>b < c</script><STYLE>p{}</STYLE>d", "<script ></script><STYLE></STYLE>d"),
        ("<script type='math/tex'>a</script>", "<script type='math/tex'>a</script>"),
        ("<script><!--<script></script>--></script>a", "<script></script>a"),
        ("<!-- <script>a</script> --><p x>", "<!-- <script>a</script> --><p >"),
        ("<title><p x></title><textarea><p x></textarea>", "<title><p x></title><textarea><p x></textarea>"),
        ("<svg a=b><path d=c /><style>p{}</style></svg><p x>", "<svg a=b><path /><style>p{}</style></svg><p >"),
    ],
)
def test_what_is_left_of_a_page(page: str, left: str) -> None:
    assert slimmed(page) == left


@pytest.mark.parametrize(
    "beyond",
    [
        *("<svg><style><p>", "<svg></g>", "<svg><title/>", "<svg><select>", "<math><![CDATA[<p>]]>", "<frameset>"),
        *(
            "<select><svg>",
            "<select><style><p></style>",
            "<template><col>",
            "<plaintext>",
            "<script><!--<script>",
            "<p =a>",
        ),
    ],
)
def test_where_the_tree_decides_the_rest_stays(beyond: str) -> None:
    rest = "<p x>a</p><script>b</script><p y>c"
    assert slimmed(f"<p x>{beyond}{rest}") == f"<p >{beyond}{rest}"


def test_half_of_a_surrogate_pair_stays() -> None:
    assert slimmed("<p x>\ud800") == "<p x>\ud800"
