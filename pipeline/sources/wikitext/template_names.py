"""What the templates that belong to a sentence are called, by what becomes of them.

Names are the English wiki's unless a comment says otherwise; a template is mostly known by the same name, or by its
redirect, on the others. From the template pages of the wikis and the list of wtf_wikipedia (spencermountain, MIT).
"""

from __future__ import annotations

__all__ = ["FIXED", "NAMES"]

_WORDS = {
    "first": """
        refnec référence_nécessaire senza_fonte citation_needed_span clarify_span nowrap strikethrough comment
        подсказка сс3 nobr nobreak nobold small smaller big large larger abbr abbrv tooltip strong em var samp
        kbd mono sc smallcaps smallcaps2 sclass font noitalic italic bold nobold underline strike sub uline
        center centre left right visible_anchor vanchor not_a_typo notatypo unicode script linktext mvar math
        bigmath keypress key button no_selflink selflink country nihongo2 hani ill interlanguage_link
        link-interwiki interwiki_link interlanguage_link_multi chem2 gloss term nw no_wrap columns-list
        col-list blockindent block_indent no-break angbr angle_bracket ruby-ja 仮リンク ルビ ruby 임시링크 링크_없음
        internal_link_helper/en internal_link_helper нп нп2 нп3 нп4 нп5 не_переведено не_переведено_2
        не_переведено_3 не_переведено_5 не_перекладено iw link-en link-ja link-de link-fr link-ko link-ru
        link-es link-it 要出典範囲 要検証範囲 unbreakable petit grand noitalic corr lien liên_kết_ngôn_ngữ
        citazione_necessaria chiarire cita_requerida carece_de_fontes2 référence_souhaitée refsou refins
        référence_insuffisante passage_évasif passage_promotionnel passage_à_sourcer quand
    """,
    "last": """
        lang langue foreign_language transl transliteration translit xlit tlit color colour colored_link
        colorlink llang dil
        font_color fontcolor font_colour resize sort
        ipa api afi мфа ipa-all script/slavonic script/hebrew script/arabic wikt-lang
        nastaliq rtl-lang rtl lang2 язык вс
    """,
    "flag": "flag flagcountry flagu noflag",
    "second": "audio abbrlink pronunciation_link glossary_link glossarylink gli legend hover_title",
    "joined": "chem gaps",
    "cited": "harvtxt harvard_citation_text",
    "named": "sortname",
    "spaced": "date date_de_naissance",
    "measured": "unité unidad unidade fmtn число",
    "local measure": "m",
    "quoted": '"',
    "respell": "respell respelling",
    "slashes": "ipac-en ipac",
    "language": "langx",
    "ship": "ship sclass- sclass2",
    "code": "code tt",
    "tex": "tmath",
    "raised": "sup",
    "convert": "convert",
    "cvt": "cvt",
    "number": "formatnum nts number num",
    "fraction": "frac fraction sfrac sfraction bruch fracción fração",
    "value": "val",
    "power": "e esp x10^ x10",
    "power of ten": "10^",
    "root": "sqrt radic",
    "circa": "circa c. ca ca.",
    "floruit": "fl. fl floruit",
    "reign": "reign r. reigned",
    "born": "b. born",
    "died": "d. died",
    "as of": "as_of asof",
    "quote": """
        quote blockquote quotation cquote bquote rquote quote_frame poemquote poem_quote zitat citation_bloc
        citation_bloc2 cita citazione cytat citaat citat цитата цитата2 引用 引用文 인용문 인용 trích_dẫn kutipan alıntı
        اقتباس citação citação2 ציטוט ציטוטון lainaus idézet citát
    """,
    "guillemets": "citation citation_courte guil",
    "nuclide": "nuclide nuclide2 simplenuclide simplenuclide2",
    "list": "vunblist plainlist plain_list flatlist unbulleted_list ubl ublist ubli bulleted_list unbulleted flat_list",
    "inline list": "hlist",
    "nihongo": "nihongo nihongo_foot nihongo3 nihongo_krt",
    "zh": "zh zh-full",
    "korean": "korean",
    "music": "music",
    "dollars": "us$ usd us_dollar",
    "sic": "sic",
    "reading": "読み仮名 読み仮名_ruby不使用",
    "century": "s siècle siecle s-",
    "date": "start_date end_date dts birth_date birth_date_and_age death_date",
    "local": "le",
    "translated": "tsl",
    "invisible": "anchor anchors shy zwj clear",
}
"""Words that tell what becomes of a template, and names in lower case, `_` for a space."""

NAMES = {name.replace("_", " "): kind for kind, names in _WORDS.items() for name in names.split()}
"""What becomes of a template, by its name in lower case."""

FIXED = {
    **dict.fromkeys(("nbsp", "nbs", "space", "spaces", "thinsp", "thin space", "hair space", "hairsp"), " "),
    **dict.fromkeys(("ndash", "endash", "en dash", "–"), "–"),
    **dict.fromkeys(("mdash", "emdash", "em dash", "—"), "—"),
    **dict.fromkeys(("snd", "spnd", "spndash", "spaced ndash", "spaced en dash", "snds", "dash", "–wbr"), " – "),
    **{"'s": "'s", "' s": "'s"},
    **dict.fromkeys(("mdashb", "smd", "spaced mdash", "spaced em dash"), " — "),
    **dict.fromkeys(("·", "middot", "dot", "•", "bull", "bullet", "*", "•w", "·w", "dot separator"), " · "),
    **dict.fromkeys(("'", "apostrophe", "apos"), "'"),
    **dict.fromkeys(("' \"", "'\"", "' \" ", "\" '", "\"'"), "'\""),
    **dict.fromkeys(("!", "pipe"), "|"),
    **{"=": "=", "(": "{", ")": "}", "((": "{{", "))": "}}", "lbrace": "{", "rbrace": "}", "!!": "||", "!-": "|-"},
    **{"(!": "{|", "!)": "|}", "[": "[", "]": "]", "bracket": "["},
    **{"okina": "ʻ", "'okina": "ʻ", "hamza": "ʼ", "ayin": "ʿ", "ayn": "ʿ", "asper": "ʽ", "saltillo": "ꞌ"},
    **{"times": "×", "minus": "−", "pm": "±", "plus or minus": "±", "plusmn": "±", "prime": "′", "pprime": "″"},
    **{
        "dagger": "†",
        "ddagger": "‡",
        "double dagger": "‡",
        "star": "★",
        "half": "½",
        "tick": "✓",
        "yes": "Yes",
        "no": "No",
    },
    **{"pi": "π", "pound sign": "£", "euro": "€", "ae": "Æ", "no.": "No.", "number sign": "#", "numero": "№"},
    **{
        "aut": "",
        "br": "\n",
        "-": "\n",
        "brk": "\n",
        "pb": "\n\n",
        "break": "\n",
        "paragraph break": "\n\n",
        "wbr": "",
    },
    **{"bc": "BC", "bce": "BCE", "ce": "CE", "ad": "AD", "a.d.": "AD", "av jc": "av. J.-C.", "av. j.-c.": "av. J.-C."},
    **{"apr jc": "apr. J.-C.", "ap jc": "apr. J.-C.", "a.c.": "a. C."},
    **{"er": "er", "re": "re", "ier": "Ier", "ire": "Ire", "1er": "1er", "1re": "1re", "mme": "Mme", "mgr": "Mgr"},
    **{"mlle": "Mlle", "dr": "Dr", "n°": "nº", "numéro": "nº"},
    **{"tm": "™", "ellipsis": "…", "...": "…", "asterisk": "*", "hash": "#", "colon": ":", "semicolon": ";"},
}
"""Templates that always say the same."""
