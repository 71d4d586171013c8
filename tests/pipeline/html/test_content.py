"""What is a page's content."""

from __future__ import annotations

import pytest

from bench.fidelity.written import FOOTER, MENU, PAGES, SIDE, page_of
from pipeline.sources.html import read_page


@pytest.mark.parametrize("kind", PAGES)
def test_content_stays_and_the_rest_goes(kind: str) -> None:
    content, pieces = PAGES[kind]
    text = read_page(page_of(content), main_content=True).text
    assert [piece for piece in pieces if piece not in text] == []
    assert [piece for piece in (*MENU, *SIDE, *FOOTER) if piece in text] == []


def test_all_of_a_page_is_there_without() -> None:
    content, pieces = PAGES["article"]
    page = read_page(page_of(content), main_content=False)
    assert [piece for piece in (*pieces, *MENU, *SIDE, *FOOTER) if piece not in page.text] == []
    assert page.navigation == 0


def test_what_is_left_out_is_counted() -> None:
    content, _ = PAGES["article"]
    whole, main = (read_page(page_of(content), main_content=wanted) for wanted in (False, True))
    assert 0 < main.navigation <= len(whole.text)
    assert abs(len(whole.text) - len(main.text) - main.navigation) < 0.1 * len(whole.text)


def test_a_page_of_comments_alone_is_its_comments() -> None:
    words = "I have tried it on the old machine, and it ran through the night without any trouble at all."
    posts = "".join(f"<div class=comment><p>{number}: {words}</p></div>" for number in range(9))
    text = read_page(f"<body><div id=comments>{posts}</div></body>", main_content=True).text
    assert text.count(words) == 9


def test_comments_on_an_article_go() -> None:
    content, pieces = PAGES["article"]
    comment = "Nonsense from beginning to end, as anybody can see who has ever been there in the spring."
    text = read_page(page_of(content + f"<div id=comments><p>{comment}</p></div>"), main_content=True).text
    assert comment not in text
    assert pieces[0] in text


def test_a_paragraph_is_told_once() -> None:
    content, _ = PAGES["article"]
    caption = "<p>The harbour on the morning after the storm of 1953, seen from the tower of the old church.</p>"
    assert read_page(page_of(content + caption * 3), main_content=True).text.count("storm of 1953") == 1


def test_nor_where_its_links_lead_elsewhere() -> None:
    content, _ = PAGES["article"]
    again = "".join(
        f"<p>Tickets for the tour of the harbour and its old lighthouse are sold <a href=/{day}>on the quay</a>.</p>"
        for day in range(3)
    )
    assert read_page(page_of(content + again), main_content=True).text.count("Tickets for the tour") == 1


def test_a_little_page_is_not_lost() -> None:
    page = "<body><div class=sidebar><p>Closed on Mondays, open from nine to five on all other days.</p></div></body>"
    assert "Closed on Mondays" in read_page(page, main_content=True).text


def test_classes_that_say_nothing_of_most_of_a_page() -> None:
    content, pieces = PAGES["article"]
    page = f"<body class='nav-open'><div class='sidebar-left widget comments'>{content}</div></body>"
    assert [piece for piece in pieces if piece not in read_page(page, main_content=True).text] == []


def test_a_heading_and_code_go_with_their_text() -> None:
    content, pieces = PAGES["article"]
    more = "<h2>Rope</h2><pre>tie --to mast</pre><h3>Mast</h3>" + content
    text = read_page(page_of(content + more), main_content=True).text
    assert "Rope\n\ntie --to mast\n\nMast\n\n" in text
    assert pieces[0] in text


def test_a_table_is_kept_whole_and_one_of_links_is_navigation() -> None:
    content, _ = PAGES["article"]
    cells = "".join(
        f"<tr><td>{year}</td><td>{year % 97} ships of more than ten tons</td></tr>" for year in range(1840, 1860)
    )
    links = "".join(f"<tr><td><a href=/{year}>The year {year}</a></td></tr>" for year in range(1900, 1920))
    text = read_page(page_of(f"{content}<table>{cells}</table>{content}<table>{links}</table>"), main_content=True).text
    assert all(f"{year}\t{year % 97} ships" in text for year in range(1840, 1860))
    assert "The year 19" not in text


def test_a_page_of_more_blocks_than_anybody_wrote_is_data() -> None:
    page = read_page("<p>a" * 101_000 + "<nav><a href=b>c</a></nav>", main_content=True)
    assert page.text.count("a") == 101_000
    assert page.text.endswith("c")
