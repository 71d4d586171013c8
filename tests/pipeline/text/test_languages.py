from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.clean.section import CleanConfig, CleanRules
from pipeline.text.languages import SAME, THREE_LETTERS, base_code, row_of, understood
from pipeline.text.thresholds import ENGLISH, SCALES, rows, thresholds


@pytest.mark.parametrize(
    ("code", "language"),
    [
        *[(code, "ko") for code in ("ko", "KO", "ko-KR", "ko_kr", "kor", "kor_Hang", "Korean", "한국어")],
        *[("zh-CN", "zh"), ("zh-Hant-TW", "zh"), ("zho", "zh"), ("chi", "zh"), ("cmn_Hani", "zh"), ("Chinese", "zh")],
        *[("english", "en"), ("EN-gb", "en"), ("ger", "de"), ("Deutsch", "de"), ("nb", "no"), ("nn", "nn")],
        *[("iw", "he"), ("tgl", "tl"), ("fil", "tl"), ("ekk", "et"), ("fas", "fa"), ("arb", "ar"), ("yue", "yue")],
    ],
)
def test_codes_are_understood_however_they_are_written(code: str, language: str) -> None:
    assert understood(code) == language
    config = CleanConfig(languages=(code,), language_thresholds={code: 0.5})
    assert (config.languages, config.language_thresholds) == ((language,), {language: 0.5})
    assert CleanRules(languages=(code,)).languages == (language,)


@pytest.mark.parametrize(
    ("code", "right"),
    [
        *[("kr", "'ko' (Korean)"), ("KR", "'ko' (Korean)"), ("jp", "'ja' (Japanese)"), ("cn", "'zh'"), ("cz", "'cs'")],
        *[("ua", "'uk' (Ukrainian)"), ("gr", "'el'"), ("koraen", "'ko' (Korean)"), ("Germn", "'de'")],
    ],
)
def test_others_are_refused_and_the_right_one_named(code: str, right: str) -> None:
    with pytest.raises(ValidationError) as refused:
        CleanConfig(languages=(code,))
    assert right in str(refused.value)


def test_every_code_has_a_row() -> None:
    known = rows()
    assert len(known) > 1800
    assert set(THREE_LETTERS.values()) <= known.keys()
    assert set(SAME.values()) <= {*THREE_LETTERS}
    assert all(understood(code) == base_code(code) for code in (*THREE_LETTERS, *SAME))


def test_the_identifiers_languages_are_known_by_the_same_codes() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    told = {base_code(code) for code in LanguageIdentifier.from_model_file(MODEL_FILE).nb_classes}
    assert len(told & THREE_LETTERS.keys()) > 95
    without = {code for code in told if code not in THREE_LETTERS and code not in rows()}
    assert without <= {"zxx", "guw", "hbo", "sdh", "uzs", "grc", "ltg", "pcm", "gcr", "vec"}


@pytest.mark.parametrize(
    ("language", "text", "row"),
    [
        *[("en", "", ENGLISH), ("ko", "글", "kor_Hang"), ("zh", "字", "cmn_Hani"), ("tlh", "a", "tlh_Latn")],
        *[("sr", "Добар дан, како сте?", "srp_Cyrl"), ("sr", "Dobar dan, kako ste?", "srp_Latn")],
        *[("hi", "नमस्ते दुनिया", "hin_Deva"), ("hi", "namaste duniya", "hin_Latn"), ("hi", "123", "hin_Latn")],
        *[("uz", "Салом дунё", "uzn_Cyrl"), ("xx", "a", "xx")],
    ],
)
def test_the_script_of_the_text_chooses_the_row(language: str, text: str, row: str) -> None:
    found = row_of(language, text)
    assert found == row or (text == "123" and found.startswith("hin_"))


def test_facts_of_some_rows() -> None:
    korean, thai, german = (thresholds(row) for row in ("kor_Hang", "tha_Thai", "deu_Latn"))
    assert (korean.name, korean.min_word_length, korean.max_word_length) == ("Korean", 1, 6)
    assert (korean.alpha_words, korean.line_punctuation, korean.new_lines_per_word) == (0.791, 0.062, 0.196)
    assert (korean.repeated_lines, korean.top_n_grams[2], korean.repeated_n_grams[10]) == (0.374, 0.282, 0.127)
    assert {"의", "에서"} <= set(korean.stop_words)
    assert (thai.scale, SCALES["Thai"]) == (3.9, 3.9)
    assert thai.scaled({2: 0.2, 5: 0.1}) == {8: 0.2, 20: 0.1}
    assert korean.scaled({2: 0.2}) == {2: 0.2}
    assert german.min_word_length is None, "0 is off"
    assert all(1 not in row.top_n_grams.values() for scripts in rows().values() for row in scripts.values())


def test_what_has_no_row_is_asked_nothing_of_a_language() -> None:
    nothing = thresholds("xx")
    assert not any((nothing.stop_words, nothing.min_word_length, nothing.alpha_words, nothing.top_n_grams))


def test_codes_of_rewards_are_understood_as_well() -> None:
    from model.finetune_sections import GrpoConfig

    assert GrpoConfig(language="ko-KR").language == "ko"
    assert GrpoConfig().language == ""
    with pytest.raises(ValidationError, match="'ko' \\(Korean\\)"):
        GrpoConfig(language="kr")
