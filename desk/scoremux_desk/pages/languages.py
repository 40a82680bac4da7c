"""The languages of raters' pages: English is the source; `catalogues` has the others, in gettext's format."""

import gettext
import re
from functools import cache
from io import BytesIO
from pathlib import Path

import polib

LANGUAGES = {"en": "English", "de": "Deutsch"}
"""Code → the language's own name."""

LANGUAGE = "desk-language"
"""The cookie that keeps the choice of a language."""

SIGNS = {"en": str.maketrans("-", "−"), "de": str.maketrans("-.,", "−,.")}
"""Code → the signs of Python's numbers as people write them, for `str.translate`."""

_CATALOGUES = Path(__file__).with_name("catalogues")


@cache
def words_of(language: str) -> gettext.NullTranslations:
    """Return the translations to a language."""
    if language == "en":
        return gettext.NullTranslations()
    return gettext.GNUTranslations(BytesIO(polib.pofile(f"{_CATALOGUES}/{language}.po").to_binary()))


def preferred(accepted: str) -> str:
    """Return the first of our languages in a header Accept-Language, where browsers name the best first; else English.

    >>> preferred("de-AT,de;q=0.9,en;q=0.8"), preferred("fr,*;q=0.5"), preferred("")
    ('de', 'en', 'en')
    """
    return next((code for code in re.findall(r"(?:^|,)\s*([a-z]+)", accepted.lower()) if code in LANGUAGES), "en")
