"""How a page's text is set."""

from __future__ import annotations

import pytest

from pipeline.sources.html import read_page, text_of

CODE = 'def f(a):\n    if a < 2 && a > 0:\n\n\n        return "&amp;"  \n\tx\n'


def _text(body: str, *, main_content: bool = False) -> str:
    return text_of(f"<body>{body}</body>", main_content=main_content)[1]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<p>one<p>two  <b>bold</b>\n line", "one\n\ntwo bold line"),
        ("<h1>Title</h1>text<h2>Next</h2><div>a</div><div>b</div>", "Title\n\ntext\n\nNext\n\na\nb"),
        ("<p>a<br>b<br><br>c", "a\nb\n\nc"),
        ("<ul><li>a<ul><li>b</ul><li>c</ul>", "• a\n  • b\n• c"),
        ('<ol start="9"><li>a<li>b</ol>', "9. a\n10. b"),
        ("<ul><li><p>a</p><p>b</p></ul>", "• a\n\nb"),
        ("<ol type=a start=26><li>a<li>b<li value=3>c</ol>", "z. a\naa. b\nc. c"),
        ("<ol type=I><li value=1994>a</ol><ol type=i><li>b</ol>", "MCMXCIV. a\n\ni. b"),
        ("<ul><li value=3>a</ul>", "• a"),
        ("<p>har&shy;bour\u00adless &shy;a", "harbourless a"),
        (
            "<p>港は西に\n開いている。\n 風は West\nに 来る 항구는\n서쪽",
            "港は西に開いている。風は West に 来る 항구는 서쪽",
        ),
        ("<p>the har<span class=pagenum>[Pg 12]</span>bour<h2>A<a class=headerlink>¶</a></h2>", "the harbour\n\nA"),
        ("<dl><dt>a<dd>b</dl>", "a\nb"),
        ("<table><tr><th>a<th>b<tr><td>1<td>2</table>", "a\tb\n1\t2"),
        ("<table><tr><td>a<td><td>c</table>", "a\t\tc"),
        ("<table><tr><td><p>a</p><td><p>b</p><tr><td><p>c</p><td>d</table>", "a\tb\nc\td"),
        ("<p>a &lt;b&gt; &amp;amp; &quot;c&quot; d&nbsp;e", 'a <b> &amp; "c" d e'),
        ("<p>a<script>b</script><style>c</style><button>d</button>e<!-- f --><svg><title>g</title></svg>", "ae"),
        (
            "<p>a<span hidden>b</span><span style='display: none'>c</span> d<div style='visibility:hidden'>e</div>",
            "a d",
        ),
        ("<p>x<sup>2</sup> and H<sub>2</sub>O", "x2 and H2O"),
        ("<p><img alt='T' src=t.png>he end <img alt='A tree in the wind'><img alt='\U0001f600'>", "The end \U0001f600"),
        ("<ruby>漢<rt>kan</rt></ruby><ruby>字<rp>(</rp><rt>ji</rt><rp>)</rp></ruby>", "漢字"),
        ("<noscript>a</noscript><template>b</template><textarea>c</textarea><p>d", "d"),
        ("<script><!-- <script></script> --></script><p>a", "a"),
        ("<script>if (a < b) '<p>no'; '</p>'</script><p>a", "a"),
        ("", ""),
        ("<", "<"),
        ("<p> &nbsp; <p>\n", ""),
    ],
)
def test_text(body: str, text: str) -> None:
    assert _text(body) == text


@pytest.mark.parametrize("main_content", [False, True])
@pytest.mark.parametrize(
    "markup",
    [
        "<pre>{}</pre>",
        "<pre><code class='language-python'>{}</code></pre>",
        "<div class=highlight><pre><span></span>{}</pre></div>",
        "<listing>{}</listing>",
    ],
)
def test_preformatted_text_comes_through_to_the_character(markup: str, main_content: bool) -> None:
    words = "<p>This paragraph tells, in so many words, what the code that follows is for and why it is here."
    assert CODE in _text(words + markup.format(_escaped(CODE)) + words, main_content=main_content) + "\n"
    assert _text(markup.format(_escaped(CODE)) + "<p>z").startswith(CODE)


def test_it_is_known_where_text_is_preformatted() -> None:
    page = f"<p>Ä &amp; ö<pre>{_escaped(CODE)}</pre><p>ü <pre>a<b>b</b>c\n</pre><xmp><p></xmp><table><td><pre>x</table>"
    read = read_page(page, main_content=False)
    assert [read.text[begin:end] for begin, end in read.verbatim] == [CODE, "abc\n", "<p>", "x"]


def test_xmp_is_no_markup() -> None:
    assert _text("<xmp><b>a</b> &lt;\n  c</xmp>") == "<b>a</b> &lt;\n  c"


def test_numbers_of_lines_are_no_code() -> None:
    table = "<table class=highlighttable><tr><td class=linenos><pre>1\n2</pre><td class=code><pre>a\n  b</pre></table>"
    assert _text(table) == "a\n  b"
    assert _text("<pre><span class=lineno>1</span>a\n<span class=lineno>2</span>b</pre>") == "a\nb"


def test_lines_of_code_that_are_elements() -> None:
    assert _text("<pre><div>a</div><div>  b</div></pre>") == "a\n  b"


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        ("<math alttext='x^2'><msup><mi>x</mi><mn>2</mn></msup></math>", r"\(x^2\)"),
        (
            "<math display='block'><semantics><mi>y</mi>"
            "<annotation encoding='application/x-tex'>y &lt; 1</annotation></semantics></math>",
            r"\[y < 1\]",
        ),
        ("<math><mi>x</mi><mo>=</mo><mn>1</mn></math>", "x=1"),
        ("<script type='math/tex'>a<b</script>", r"\(a<b\)"),
        ("<script type='math/tex; mode=display'>\n\\int\n</script>", r"\[\int\]"),
        ("<span class='MathJax_Preview'>a</span><script type='math/tex'>a</script>", r"\(a\)"),
        ("<img class='latex' alt='\\frac12' src='x.png'>", r"\(\frac12\)"),
        ("<img alt='$a_1$' src='https://s0.wp.com/latex.php?latex=a_1'>", "$a_1$"),
        (r"\(a_1\)", r"\(a_1\)"),
        ("<math><mfrac><mi>a</mi><msup><mi>b</mi><mn>2</mn></msup></mfrac></math>", r"\(\frac{a}{b^2}\)"),
        (
            "<math><mi>sin</mi><mo>\u2061</mo><msqrt><mi>x</mi><mo>&lt;</mo><mn>1</mn></msqrt></math>",
            r"\(\sin\sqrt{x<1}\)",
        ),
        (
            "<math display=block><munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi>"
            "</munderover></math>",
            r"\[∑_{i=1}^n\]",
        ),
        (
            "<m:math><m:mfenced open='['><m:mtable><m:mtr><m:mtd><m:mn>1</m:mn></m:mtd><m:mtd><m:mi>ab</m:mi></m:mtd>"
            "</m:mtr></m:mtable></m:mfenced><m:mover><m:mi>x</m:mi><m:mo>^</m:mo></m:mover></m:math>",
            r"\([\begin{matrix}1 & \mathrm{ab}\end{matrix})\hat{x}\)",
        ),
        (
            "<span class=mwe-math-element><span style='display: none'><math alttext='{\\displaystyle z}'><mi>z</mi>"
            "</math></span><img class=mwe-math-fallback-image-inline alt='{\\displaystyle z}' aria-hidden=true></span>",
            r"\({\displaystyle z}\)",
        ),
        (
            "<span class=katex><span class=katex-mathml><math><semantics><mi>k</mi><annotation "
            "encoding='application/x-tex'>k</annotation></semantics></math></span>"
            "<span class=katex-html aria-hidden=true>k</span></span>",
            r"\(k\)",
        ),
        (
            "<mjx-container class=MathJax><mjx-math aria-hidden=true>m</mjx-math><mjx-assistive-mml>"
            "<math alttext='m'><mi>m</mi></math></mjx-assistive-mml></mjx-container>",
            r"\(m\)",
        ),
    ],
)
def test_formulas_are_told_once_as_tex(formula: str, text: str) -> None:
    assert _text(f"<p>Let {formula} be.") == f"Let {text} be."
    assert _text(f"<p>{formula}") == text


def test_a_page_of_any_shape_is_read() -> None:
    shapes = (
        "<b><p></b>",
        "<table><p>a<tr>",
        "<svg><p>",
        "<math><a><b>",
        "</p>",
        "<pre><table>",
        "<li>",
        "<td>a",
        "<!--",
    )
    for first in shapes:
        for second in shapes:
            page = (first + second) * 20 + "end"
            for main_content in (False, True):
                text_of(page, main_content=main_content)
