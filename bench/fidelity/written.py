"""Pages written here, of kinds that extractors lose: code, tables, formulas, lists, posts, other languages.

Each has pieces that must be in the text as they are, and stands among menus, boxes and notices that must not. F1 over
these pieces, for ours and the peers.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path

from bench.fidelity.extractors import extractors_of, safely
from bench.table import Row, row

__all__ = ["FOOTER", "MENU", "PAGES", "SIDE", "page_of", "rows"]

MENU = ("Opening hours and tickets", "Newsletter archive", "Sign in to your account")
SIDE = ("Ten gardens you must see this year", "Recipes for a cold evening")
FOOTER = ("All rights reserved by the publishers", "Terms of use and privacy")
CODE = (
    'def mean(values):\n    """Of a list."""\n    if not values:\n        return None\n\n\n'
    "    return sum(values) / len(values)  # a < b && c"
)
_PROSE = (
    "The harbour was built in the twelfth century, when salt from the mines upstream was shipped to towns along the "
    "coast, and it has been changed by every generation since.",
    "Most of the old warehouses burned down in 1842; those that stand today were put up within ten years, of brick, by "
    "merchants who had learned, at some cost, what timber is worth in a fire.",
    "Nobody has counted the ships that lie in the mud below, but divers who look for them find one or two in a summer.",
)
_WORDS = {
    "German": (
        "Die Mühle am oberen See wurde 1724 gebaut und mahlte bis zum Ende des Krieges, danach stand sie leer.",
        "Heute gehört sie einem Verein, der sie an jedem zweiten Sonntag im Monat in Gang setzt und das Mehl verkauft.",
    ),
    "Russian": (
        "Старая мельница у верхнего озера была построена в 1724 году и работала до конца войны, потом опустела.",
        "Сегодня она принадлежит обществу, которое запускает её каждое второе воскресенье месяца и продаёт муку.",
    ),
    "Japanese": (
        "湖のほとりにある古い水車小屋は、1724年に建てられ、戦争が終わるまで粉をひいていたが、その後は空き家になった。",
        "今では保存会のものとなり、毎月第二日曜日に水車を動かして、ひいた粉を訪れた人々に売っている。",
    ),
    "Korean": (
        "호숫가의 오래된 물레방아는 1724년에 지어져 전쟁이 끝날 때까지 곡식을 빻았고, 그 뒤로는 비어 있었다.",
        "지금은 보존회가 맡아 매달 둘째 일요일마다 물레방아를 돌리고, 빻은 가루를 찾아온 사람들에게 판다.",
    ),
    "Arabic": (
        "بنيت الطاحونة القديمة عند البحيرة العليا عام 1724 وظلت تطحن الحبوب حتى نهاية الحرب ثم بقيت خالية.",
        "وهي اليوم ملك لجمعية تديرها في كل يوم أحد ثان من الشهر وتبيع الدقيق للزوار الذين يأتون من القرى المجاورة.",
    ),
    "Thai": (
        "โรงสีเก่าริมทะเลสาบตอนบนสร้างขึ้นในปี 1724 และสีข้าวจนสิ้นสงคราม หลังจากนั้นก็ถูกทิ้งร้างไว้หลายปี",
        "ปัจจุบันเป็นของสมาคมที่เปิดเดินเครื่องทุกวันอาทิตย์ที่สองของเดือนและขายแป้งให้แก่ผู้มาเยือน",
    ),
}


def _paragraphs(*texts: str) -> str:
    return "".join(f"<p>{html.escape(text, quote=False)}</p>" for text in texts)


PAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "article": (f"<h1>The old harbour</h1>{_paragraphs(*_PROSE)}", _PROSE),
    "code": (
        f"<h1>Means</h1>{_paragraphs(_PROSE[0])}<div class='highlight'><pre><code>{html.escape(CODE)}</code></pre>"
        f"</div>{_paragraphs(_PROSE[1])}",
        (_PROSE[0], CODE, _PROSE[1]),
    ),
    "table": (
        f"<h1>Ships</h1>{_paragraphs(_PROSE[0])}<table><thead><tr><th>Year</th><th>Ships</th></tr></thead><tbody>"
        "<tr><td>1840</td><td>212</td></tr><tr><td>1843</td><td>38</td></tr></tbody></table>" + _paragraphs(_PROSE[1]),
        ("Year\tShips\n1840\t212\n1843\t38", _PROSE[0], _PROSE[1]),
    ),
    "formulas": (
        f"<h1>Areas</h1>{_paragraphs(_PROSE[0])}<p>The area is <math alttext='a = \\pi r^2'><mi>a</mi></math>, and "
        "its length <script type='math/tex'>u = 2 \\pi r</script> by the same reasoning, as we saw above.</p>"
        + _paragraphs(_PROSE[2]),
        (r"a = \pi r^2", r"u = 2 \pi r", "by the same reasoning"),
    ),
    "list": (
        f"<h1>What to bring</h1>{_paragraphs(_PROSE[0])}<ul><li>a lamp that lasts until the morning</li><li>two ropes "
        f"of thirty metres each</li><li>bread, and something to drink</li></ul>{_paragraphs(_PROSE[1])}",
        ("a lamp that lasts until the morning", "two ropes of thirty metres each", "bread, and something to drink"),
    ),
    "posts": (
        "<h1>Which rope do you take?</h1>"
        + "".join(f"<div class='post'><div class='post-body'>{_paragraphs(text)}</div></div>" for text in _PROSE),
        _PROSE,
    ),
    **{language: (f"<h1>1724</h1>{_paragraphs(*texts)}", texts) for language, texts in _WORDS.items()},
}
"""By kind: the content of a page, and the pieces that must be in its text."""


def page_of(content: str) -> str:
    """A page around its content."""
    menu, side = ("".join(f"<li><a href='/{text}'>{text}</a></li>" for text in texts) for texts in (MENU, SIDE))
    return (
        f"<!DOCTYPE html><html><head><title>A page</title></head><body><header><nav><ul>{menu}</ul></nav></header>"
        f"<main><article>{content}</article></main><aside class='sidebar related'><h3>More</h3><ul>{side}</ul></aside>"
        f"<footer><p>{FOOTER[0]}</p><a href='/terms'>{FOOTER[1]}</a></footer></body></html>"
    )


def rows(data: Path | None, quick: bool) -> Iterable[Row]:
    """F1 over the pieces of each kind of page."""
    del data, quick
    extractors, missing = extractors_of()
    for kind, (content, pieces) in PAGES.items():
        scores = {}
        for name, extract in extractors.items():
            text = safely(extract, page_of(content))
            right = sum(piece in text for piece in pieces)
            wrong = sum(piece in text for piece in (*MENU, *SIDE, *FOOTER))
            scores[name] = 200 * right / (right + wrong + len(pieces))
        ours = scores.pop("ours")
        entry = row(f"written: {kind}: F1", "%", ours, {**scores, **dict.fromkeys(missing)}, None)
        yield entry | {"target": 100.0, "holds": ours == 100.0}
