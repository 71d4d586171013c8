"""Encodings of the web: tables, labels and order of the standards, stray bytes, and what nobody declared."""

from __future__ import annotations

import random

import pytest

from pipeline.sources.charset import NotText, decode
from pipeline.sources.prescan import declared_in
from pipeline.sources.whatwg import decode_as, name_of

KOREAN = "시장 골목에는 아침부터 사람들이 모여들어 물건을 사고판다. 서울의 봄은 짧고 여름은 길다. "
JAPANESE = "古い町の港は西に開けていて、風は潮とともに入ってくる。漁師たちは朝早く海に出る。"
RUSSIAN = "Гавань старого города открыта на запад, и ветер приходит сюда вместе с волнами прилива, шумя. "
GERMAN = "Der Hafen der alten Stadt öffnet sich nach Westen, und für die Schiffe gibt es große Kräne. "

# Characters that Python's codecs of these names lack or have elsewhere; from the standard's index files.
TABLES = [
    ("shift_jis", b"\x87\x40\x87\x8a\xfb\xfc\xee\xfc", "①㈱髙＂"),
    ("x-sjis", b"\x81\x60\x5c\x7e", "～\\~"),
    ("euc-kr", b"\xbc\xad\x8c\x63\x94\xee", "서똠뷁"),
    ("ks_c_5601-1987", "펲뷁".encode("cp949"), "펲뷁"),
    ("big5", b"\xa3\xe1\x87\xa5\xa1\x45\xa2\x41\xa1\xfe\xa2\x46", "€𤅡‧∕／￠"),
    ("big5-hkscs", "㗎佢哋".encode("big5hkscs"), "㗎佢哋"),
    ("gbk", b"\x80\xb0\xa1\xff\x31", "€啊\ufffd1"),
    ("gb2312", b"\xe9\x46\xa6\xd9\xa8\xbc", "镕︐ḿ"),
    ("euc-jp", b"\xad\xa1\xf9\xa1\xa1\xc1\x8f\xa2\xb7\x8f\xb0\xa1", "①纊～～丂"),
    ("iso-2022-jp", b"\x1b$B-!8E\x1b(J\\\x1b(I1\x1b(B\\", "①古¥ｱ\\"),
    ("iso-8859-1", b"\x80\x93\x81\xe9", "€“\x81é"),
    ("ascii", b"\x99", "™"),
    ("iso-8859-9", b"\x80\xfe\x8e", "€ş\x8e"),
    ("tis-620", b"\x80\xa1\xfb", "€ก๛"),
    ("iso-8859-11", b"\xdb", "\ufffd"),
    ("windows-1253", b"\xaa\x81", "\ufffd\x81"),
    ("windows-1255", b"\xca", "\u05ba"),
    ("koi8-u", b"\xae\xbe\xa4", "ўЎє"),
    ("koi8-ru", b"\xb4", "Є"),
    ("x-mac-cyrillic", b"\xdf\xff", "я€"),
    ("x-user-defined", b"a\x80\xff", "a\uf780\uf7ff"),
    ("utf-16", b"a\0\x41\x04", "a\u0441"),
    ("unicodefffe", b"\0a", "a"),
    ("iso-2022-kr", b"\x1b$)C", "\ufffd"),
    ("hz-gb-2312", b"~{<:~}", "\ufffd"),
]


@pytest.mark.parametrize(("label", "body", "text"), TABLES, ids=[label for label, _, _ in TABLES])
def test_tables_of_the_standard(label: str, body: bytes, text: str) -> None:
    name = name_of(label)
    assert name
    assert decode_as(body, name) == text


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (" UTF8\n", "utf-8"),
        ("latin1", "windows-1252"),
        ("windows-31j", "shift_jis"),
        ("MS_Kanji", "shift_jis"),
        ("x-gbk", "gbk"),
        ("csgb2312", "gbk"),
        ("cn-big5", "big5"),
        ("windows-949", "euc-kr"),
        ("korean", "euc-kr"),
        ("dos-874", "windows-874"),
        ("x-x-big5", "big5"),
        ("iso88591", "windows-1252"),
        ("iso-8859-8-i", "iso-8859-8-i"),
        ("x-mac-roman", "macintosh"),
        ("cp866", "ibm866"),
        ("unicode", "utf-16le"),
        ("iso-10646-ucs-2", "utf-16le"),
        ("x-cp1251", "windows-1251"),
        ("hz-gb-2312", "replacement"),
        ("cp949", None),
        ("utf_8", None),
        ("\u212aoi8-r", None),
        ("no-such-charset", None),
        ("", None),
    ],
)
def test_labels_of_the_standard(label: str, name: str | None) -> None:
    assert name_of(label) == name


@pytest.mark.parametrize(
    ("label", "body", "text"),
    [
        ("euc-kr", b"\xb0\xa1\xff\xb0\xa1", "가\ufffd가"),
        ("euc-kr", b"\xb0<b>", "\ufffd<b>"),
        ("euc-kr", b"\xfe\xfe\xb0\xa1", "\ufffd가"),
        ("shift_jis", b"\x81<\xa0\x81", "\ufffd<\ufffd\ufffd"),
        ("big5", b"\xa4\x40\xa4\x3c\xff", "一\ufffd<\ufffd"),
        ("gb18030", b"\x81\x30a\xff\x81\x30\x81", "\ufffd0a\ufffd\ufffd"),
        ("euc-jp", b"\x8f\xa1<\x8e\xe0\xa4\xa2\x80", "\ufffd<\ufffdあ\ufffd"),
        ("iso-2022-jp", b'a\x80\x1b$B$"', "a\ufffdあ"),
        ("utf-8", b"\xe2\x82<\xc0\xaf", "\ufffd<\ufffd\ufffd"),
    ],
)
def test_a_broken_character_swallows_no_ascii(label: str, body: bytes, text: str) -> None:
    assert decode_as(body, label) == text


def _page(words: str, head: str = "") -> str:
    return f"<html><head>{head}<title>T</title></head><body><p>{words}</p></body></html>"


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("euc-kr", KOREAN),
        ("shift_jis", JAPANESE),
        ("gbk", "港口向西开放，风随潮水而来，渔民清晨出海。"),
        ("big5", "港口向西開放，風隨潮水而來，漁民清晨出海。"),
        ("utf-8", KOREAN),
    ],
)
def test_a_stray_byte_costs_a_character(encoding: str, words: str) -> None:
    codec = {"euc-kr": "cp949", "shift_jis": "cp932"}.get(encoding, encoding)
    whole = (words * 4).encode(codec)
    source = random.Random(0)
    for _ in range(20):
        at = source.choice([place for place in range(0, len(whole), 2) if whole[place] > 0x7F])
        body = whole[:at] + b"\xff" + whole[at:]
        for declared in (encoding, None) if encoding != "euc-jp" else (encoding,):  # detection falls for Big5
            text, found = decode(_page("X").replace("X", "{}").encode().replace(b"{}", body), declared, html=True)
            assert found == encoding or {found, encoding} == {"gbk", "gb18030"}
            kept = len(set(words) & set(text)) / len(set(words))
            assert kept > 0.9, (declared, text)
            assert 0 < text.count("\ufffd") <= 4


def test_utf_8_with_some_bad_bytes_is_utf_8() -> None:
    for words in (RUSSIAN, KOREAN, JAPANESE, GERMAN * 5):
        body = (words * 5).encode() + b"\xe9t\xe9 \xff"
        for declared in (None, "utf-8", "iso-8859-1", "windows-1251", "gbk"):
            text, found = decode(body, declared)
            assert (text[: len(words)], found) == (words, "utf-8")
            assert text.count("\ufffd") == 3


def test_what_is_said_must_fit() -> None:
    for declared, actual, words in (
        ("utf-8", "windows-1251", RUSSIAN),
        ("utf-8", "cp949", KOREAN),
        ("euc-kr", "windows-1251", RUSSIAN),
        ("shift_jis", "euc-jp", JAPANESE),
        ("utf-16", "windows-1251", RUSSIAN),
        ("us-ascii", "utf-8", KOREAN),
    ):
        assert decode(_page(words * 4).encode(actual), declared, html=True)[0] == _page(words * 4), (declared, actual)
    # But what fits is believed, as browsers do: a name for many encodings, or few characters that look like UTF-8.
    assert decode(RUSSIAN.encode("koi8-r"), "koi8-r") == (RUSSIAN, "koi8-r")
    assert decode("联通".encode("gbk"), "gbk") == ("联通", "gbk")
    assert decode(b"caf\xe9, caf\xe9", "iso-8859-1") == ("café, café", "windows-1252")
    assert decode(b"caf\xff and bar", "utf-8") == ("caf\ufffd and bar", "utf-8")


def test_what_servers_say_of_all_pages_is_not_believed_of_rubbish() -> None:
    for actual, words in (
        ("cp949", KOREAN),
        ("euc_jp", JAPANESE),
        ("cp1251", RUSSIAN),
        ("koi8-r", RUSSIAN),
        ("cp1250", "Łódź leży nad rzeką, a wiatr przychodzi ze wschodu; część łodzi śpi. "),
        ("cp1254", "Eski şehrin limanı batıya açılır ve rüzgâr gelgitle birlikte içeri girer. "),
    ):
        assert decode(_page(words * 4).encode(actual), "iso-8859-1", html=True)[0] == _page(words * 4), actual
    for words in (GERMAN, "ÉCOLE SUPÉRIEURE À GENÈVE, ÜBER ÖL. ", "Það er gott veður í dag, þó að ræður séu. "):
        found = decode(_page(words * 4).encode("cp1252"), "iso-8859-1", html=True)
        assert found == (_page(words * 4), "windows-1252")


def test_next_to_no_faults_are_none() -> None:
    """A few signs beside letters do not make Russian Arabic."""
    words = "Гавань открыта на запад, и ветер приходит с приливом; рыбаки выходят на рассвете. "
    assert decode((words * 4).encode("koi8-r"))[0] == words * 4


def test_the_order_of_the_standard() -> None:
    meta, xml = '<meta charset="koi8-r">', '<?xml version="1.0" encoding="windows-1251"?>'
    page = _page(RUSSIAN, meta)
    assert decode(b"\xef\xbb\xbf" + page.encode(), "koi8-r", html=True) == (page, "utf-8")
    assert decode(b"\xff\xfe" + page.encode("utf-16-le"), "utf-8", html=True) == (page, "utf-16le")
    assert decode(b"\xfe\xff" + page.encode("utf-16-be"), html=True) == (page, "utf-16be")
    assert decode(page.encode("cp1251"), "windows-1251", html=True) == (page, "windows-1251")  # before <meta>
    assert decode(page.encode("koi8-r"), html=True) == (page, "koi8-r")
    assert decode((xml + page).encode("koi8-r"), html=True)[1] == "koi8-r"  # <meta> before XML
    assert decode((xml + _page(RUSSIAN)).encode("cp1251"), html=True)[1] == "windows-1251"
    assert decode(_page(RUSSIAN, '<meta charset="utf-16">').encode("cp1251"), html=True)[1] == "windows-1251"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"<meta charset=euc-kr>", "euc-kr"),
        (b"<META CHARSET = 'EUC-KR' />", "euc-kr"),
        (b'<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">', "shift_jis"),
        (b"<meta content='text/html;charset=big5' http-equiv=content-type>", "big5"),
        (b'<meta name="a" content="text/html; charset=big5">', None),
        (b'<!-- <meta charset="big5"> --><meta charset="gbk">', "gbk"),
        (b'<!--><meta charset="gbk">', "gbk"),
        (b'<!-- <meta charset="big5">', None),
        (b'<title lang="<meta charset=big5>"></title><meta charset=gbk>', "gbk"),
        (b"<metadata charset=big5>", None),
        (b"<meta charset=no-such><meta charset=gbk>", "gbk"),
        (b"<meta charset=utf-16>", "utf-8"),
        (b"<meta charset=x-user-defined>", "windows-1252"),
        (b'<?xml version="1.0" encoding="EUC-JP"?><html>', "euc-jp"),
        (b"<?xml version='1.0' encoding='utf-16'?><html>", "utf-8"),
        (b"<\0?\0x\0m\0l\0", "utf-16le"),
        (b"x" * 2000 + b"<meta charset=gbk>", "gbk"),
        (b"x" * 20_000 + b"<meta charset=gbk>", None),
        (b"", None),
    ],
)
def test_what_a_page_says_itself(head: bytes, name: str | None) -> None:
    assert declared_in(head) == name


UNDECLARED = [
    ("cp949", KOREAN),
    ("cp932", JAPANESE),
    ("euc_jp", JAPANESE),
    ("iso2022_jp", JAPANESE),
    ("gb18030", "港口向西开放，风随潮水而来，渔民清晨出海，傍晚归来。"),
    ("big5", "港口向西開放，風隨潮水而來，漁民清晨出海，傍晚歸來。"),
    ("cp1251", RUSSIAN),
    ("koi8-r", RUSSIAN),
    ("cp866", RUSSIAN),
    ("iso8859-5", RUSSIAN),
    ("mac-cyrillic", RUSSIAN),
    ("cp1252", GERMAN),
    ("cp1250", "Łódź leży nad rzeką, a wiatr przychodzi ze wschodu; część łodzi śpi. "),
    ("iso8859-2", "A régi város kikötője nyugatra nyílik, és a szél az árral jön; hűvös idő. "),
    ("cp1254", "Eski şehrin limanı batıya açılır ve rüzgâr gelgitle birlikte içeri girer. "),
    ("cp1253", "Το λιμάνι της παλιάς πόλης ανοίγει προς τα δυτικά και ο άνεμος έρχεται. "),
    ("cp1255", "הנמל של העיר העתיקה פתוח מערבה, והרוח באה עם הגאות. "),
    ("cp1256", "ميناء المدينة القديمة مفتوح على الغرب، والريح تأتي مع المد. "),
    ("cp874", "ท่าเรือของเมืองเก่าเปิดสู่ทิศตะวันตก และลมพัดเข้ามาพร้อมกับน้ำขึ้น "),
    ("utf-16-le", GERMAN),
    ("utf-16-be", GERMAN),
    ("utf-32-le", GERMAN),
]


@pytest.mark.parametrize(("codec", "words"), UNDECLARED, ids=[codec for codec, _ in UNDECLARED])
def test_undeclared(codec: str, words: str) -> None:
    for text in (words * 5, _page(words * 3)):
        found, encoding = decode(text.encode(codec), html=True)
        assert found == text, encoding


def test_the_domain_decides_where_the_text_does_not() -> None:
    body = "Ősz, hűvös idő.".encode("cp1250")
    assert decode(body, tld="hu")[0] == "Ősz, hűvös idő."


def test_replacement_encodings_give_nothing() -> None:
    for label in ("iso-2022-kr", "hz-gb-2312", "iso-2022-cn"):
        with pytest.raises(NotText):
            decode(b"~{<:Ky2;~}" * 20, label)


@pytest.mark.parametrize("declared", [None, "utf-8", "windows-1252", "euc-kr"])
def test_noise_is_no_text(declared: str | None) -> None:
    noise = bytes(byte for byte in random.Random(1).randbytes(5000) if byte)
    with pytest.raises(NotText):
        decode(noise, declared)


def test_plain_pages_keep_their_way() -> None:
    assert decode(b"plain", "utf-16") == ("plain", "utf-8")
    assert decode("für".encode(), "iso-8859-1") == ("für", "utf-8")
    assert decode(b"") == ("", "utf-8")
