"""XHTML that HTML would read otherwise."""

from __future__ import annotations

import pytest

from pipeline.html.closing import as_html, is_xhtml
from pipeline.sources.html import read_page

DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'
DOCTYPE = (
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">\n'
)


@pytest.mark.parametrize("head", [DECLARATION, DOCTYPE, DECLARATION + DOCTYPE, "<!-- a -->" + DOCTYPE])
@pytest.mark.parametrize(
    "name", ["title", "script", "iframe", "textarea", "style", "noscript", "xmp", "select", "svg", "a"]
)
@pytest.mark.parametrize("attributes", ["", " ", ' src="a>b/"', " a='1' b:c=\"2\"\n"])
def test_elements_that_close_themselves_swallow_nothing(head: str, name: str, attributes: str) -> None:
    page = f"{head}<html><body><{name}{attributes}/><p>The text.</p></body></html>"
    assert read_page(page, main_content=False).text == "The text."


def test_it_may_be_known_from_elsewhere() -> None:
    page = "<html><head><title/></head><body><p>The text.</p></body></html>"
    assert read_page(page, main_content=False, xhtml=True).text == "The text."
    assert not is_xhtml(page)
    assert not is_xhtml("<!DOCTYPE html><p>XHTML")


def test_html_stays_as_it_is() -> None:
    page = '<p>a<br/>b<img src="x"/>c <a b=c/>d'
    assert as_html(page) == page


def test_what_only_xml_has() -> None:
    page = DECLARATION + '<!DOCTYPE html [<!ENTITY a "b">\n<!ENTITY c "d">]>'
    page += "<html><body><p><![CDATA[a < b & <i>c</i>]]></p><p>]]> x</p></body></html>"
    assert read_page(page, main_content=False).text == "a < b & <i>c</i>\n\n]]> x"
