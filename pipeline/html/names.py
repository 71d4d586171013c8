"""What the names in a page tell: of elements, how they stand in the text; of classes, ids and roles, what they hold.

The words of classes are those of published extractors: Trafilatura's expressions (`xpaths.py`, Barbaresi 2021, ACL
demo), Readability's (Arc90; Mozilla's `Readability.js`) and Resiliparse's (`extract/filters.rs`), all under Apache-2.0.
They are looked for by an automaton (Aho and Corasick 1975) in one pass over the attribute, however many they are.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

__all__ = [
    "ATTRIBUTES",
    "BLOCK",
    "CLASSES",
    "GAP",
    "MASKS",
    "NEXT",
    "RAW",
    "SKIPPED",
    "SYMBOLS",
    "SYMBOL_OF",
    "TAGS",
    "TAG_HASHES",
    "TAG_IDS",
    "TAG_TRAITS",
    "VOID",
    "fnv",
    "hash_table",
]

BLOCK, VOID, RAW, SKIPPED, GAP = 1, 2, 4, 8, 16
"""Traits of an element: it stands on lines of its own; has no content; its content is no markup; is not shown; has an
empty line before and after it."""

_TRAITS = {
    BLOCK: "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption "
    "figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li listing main menu nav ol optgroup option p "
    "plaintext pre search section summary table tbody td tfoot th thead tr ul xmp",
    VOID: "area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr",
    RAW: "iframe noembed noframes plaintext script style xmp",
    SKIPPED: "applet audio button canvas datalist embed frameset head iframe input map meter noembed noframes noscript "
    "object optgroup option progress rp rt rtc script select style svg template textarea title video",
    GAP: "article blockquote dl figure h1 h2 h3 h4 h5 h6 header hr listing ol p plaintext pre table ul xmp",
}
_PLAIN = "a annotation annotation-xml b code desc foreignobject i label math mjx-container q semantics span strong em"
TAGS = {name: number for number, name in enumerate(sorted({*" ".join(_TRAITS.values()).split(), *_PLAIN.split()}), 1)}
"""Number of each element that is known here; 0 is any other."""


def fnv(name: bytes) -> int:
    """Hash of a name (FNV-1a, 64 bits: Fowler, Noll and Vo)."""
    value = 0xCBF29CE484222325
    for byte in name:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def hash_table(names: dict[str, int]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int16]]:
    """Hashes and numbers in an open hash table of 1,024 places."""
    hashes, numbers = np.zeros(1024, np.uint64), np.zeros(1024, np.int16)
    for name, number in names.items():
        place = (value := fnv(name.encode())) & 1023
        while hashes[place]:
            place = (place + 1) & 1023
        hashes[place], numbers[place] = value, number
    return hashes, numbers


TAG_HASHES, TAG_IDS = hash_table(TAGS)
TAG_TRAITS = np.zeros(len(TAGS) + 1, np.int16)
for _trait, _names in _TRAITS.items():
    for _name in _names.split():
        TAG_TRAITS[TAGS[_name]] |= _trait

ATTRIBUTES = {
    name: fnv(name.encode())
    for name in (
        *("class", "id", "role", "itemprop", "style", "hidden", "aria-hidden", "type", "alt", "alttext", "display"),
        *("encoding", "src", "start", "value", "mode"),
    )
}

CLASSES: dict[str, str] = {
    # A space stands for the edge of a word: anything but a letter, or a capital after a small letter.
    "navigation": " nav |navbar|navi |navigation| subnav|navbox| menu |menu |breadcrumb|bread crumb| pager |pagination|"
    " skip link| skip to |toolbar| topbar| top bar| tabs | toc | sitemap | jump ",
    "footer": "footer| foot |colophon|copyright| legal | contentinfo |disclaimer|imprint| bottom ",
    "header": "header |masthead| banner | page head |site head| topic head ",
    "sidebar": "sidebar| side bar|side column| rail |right col|rightcol|left col|leftcol| aside | secondary |widget|"
    "complementary| sidenav",
    "share": " share|sharing|sharedaddy| social|sociable|addthis|addtoany| follow | facebook | twitter | whatsapp |"
    " pinterest | likes | like button ",
    "newsletter": "newsletter|subscribe|subscription|syndication| signup | sign up |mailchimp|optin| rss | email ",
    "related": " related|similar|recommend| more on | more from |read more|readmore|most popular|most read| popular |"
    "trending|teaser| next |prev |previous|stories |read next|also read|upnext|promo |promobox|see also|"
    " suggest|latest | recent | carousel| slider | slide |infinite scroll|mvp post add|outbrain|taboola|"
    " jp relatedposts",
    "comments": "comment |comments|commentlist|commentbox|disqus|respond |reply |replies|discussion|shoutbox|"
    "reader comments|akismet|livefyre|guestbook",
    "meta": "meta | meta|byline|by line| date |dateline|timestamp| time |published|posted on|postedon| tags |tag list|"
    "tag cloud|tagcloud| tag |category|categories| cats |cat links|postinfo|post info|entry info|article info|"
    " rating|submitted|post details| views | stats | infoline| subline | permalink ",
    "author": "author|about the|bio | vcard |user info|user profile|avatar|profile |contributor| writer ",
    "advert": " ad | ads |advert| adsense| adslot|ad container| sponsor|paid content| dfp |criteo|affiliate|commercial|"
    " anzeige|werbung|donate",
    "consent": "cookie|consent|gdpr| modal|popup|overlay|lightbox|paywall| premium |permission|noscript|onetrust|"
    " dialog | alert | notice | message ",
    "hidden": " hidden |screen reader| sr only |visually hidden|visuallyhidden|noprint|hide print| hide |akismet|"
    "assistive text| invisible | print only | printonly | nodisplay | dnone ",
    "caption": "caption|credit|gallery| thumb | wp caption|attachment|embed |embedded|embed|mediainfo| figure | image |"
    "photo| img | picture | media | video ",
    "form": " search |searchform| login | log in |button| btn | form |options|toggle| input | cart | register |"
    " contact | expand ",
    "strong": "article body|articlebody|article content|article text|articletext|article_body|entry content|"
    "post content|postcontent|post body|postbody|post entry|post text|story body|storybody|story content|"
    "storycontent|body text|bodytext|article detail|theme content|blog content|single content|wpb text column|"
    "field body|text content|content body|contentbody|content main|page content|main content|maincontent|"
    "fulltext|full text|articlecontent|entry body|field name body|mw parser output|article main|articlemain|"
    "rich text|richtext|post message|post full|blog post ",
    "content": " article | post | entry | hentry | story | content | main | text | body | single | blog | page |"
    "paragraph| lead | intro | summary | prose | markdown | answer | question | message body | description |"
    "recipe|ingredient|instruction",
    "quote": "quote|factbox|infobox| box | aside | callout| highlight | sidebar box ",
    "math": " tex | latex | mathtex | math | formula |mwe math|latex|codecogs",
    "number": " lineno| linenos | line number | line numbers | linenumber | linenumbers | ln num | blob num |"
    " hljs ln numbers",
    "anchor": " headerlink | header link | heading anchor | anchor link | anchorjs link |editsection|"
    " pagenum | pageno | pgnum ",
    "rendered": "katex html|mathjax|math jax| mjx ",
}  # fmt: skip
"""What a class, id or role tells of an element, by the words in it."""

SYMBOLS = 28
"""Letters without case, digits, and all else, which is the edge of a word."""
_EDGE = 0
SYMBOL_OF = np.zeros(256, np.uint8)
"""Symbol of each byte."""
for _letter in range(26):
    SYMBOL_OF[ord("a") + _letter] = SYMBOL_OF[ord("A") + _letter] = _letter + 1
SYMBOL_OF[ord("0") : ord("9") + 1] = 27


def _symbols(word: str) -> list[int]:
    return [ord(letter) - ord("a") + 1 if letter.isalpha() else 27 if letter.isdigit() else _EDGE for letter in word]


def _automaton() -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
    """Next state by state and symbol, negative where something is found there; what is found, a bit for each class."""
    table, masks = [[-1] * SYMBOLS], [0]
    for bit, words in enumerate(CLASSES.values()):
        for word in words.split("|"):
            state = 0
            for symbol in _symbols(word):
                if table[state][symbol] < 0:
                    table[state][symbol] = len(table)
                    table.append([-1] * SYMBOLS)
                    masks.append(0)
                state = table[state][symbol]
            masks[state] |= 1 << bit
    fall, waiting = [0] * len(table), deque([0])
    while waiting:
        state = waiting.popleft()
        for symbol in range(SYMBOLS):
            after = table[state][symbol]
            there = table[fall[state]][symbol] if state else 0
            if after < 0:
                table[state][symbol] = there
            else:
                fall[after] = there
                masks[after] |= masks[there]
                waiting.append(after)
    said = np.array(masks, np.int64)
    states = np.array(table, np.int16)
    return np.where(said[states] != 0, -states, states).astype(np.int16), said


NEXT, MASKS = _automaton()
