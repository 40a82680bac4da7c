"""Finds the condition of responses to one task."""

from collections.abc import Sequence
from dataclasses import dataclass

from scoremux_client.errors import InputError
from scoremux_decide.conditions import language, profanity
from scoremux_decide.conditions.response import ResponseText, TaskTexts
from scoremux_decide.conditions.rules import CODE, Conditions, LanguageRule, ProfanityRule


@dataclass(frozen=True)
class ResponseCondition:
    """A response's condition. coded: whether the code takes the place of a score."""

    code: str
    coded: bool


class Finder:
    """Finds the condition of responses to one task.

    Args:
        languages: Languages that its responses may be in, unless the rule names them; without any, none is refused.
    """

    def __init__(
        self, conditions: Conditions, question: str = "", reference: str = "", languages: Sequence[str] = ()
    ) -> None:
        rule = conditions.language
        self._rules = conditions.rules
        self._task = TaskTexts(question, reference, (rule.languages if rule else ()) or languages)

    def require(self, where: str) -> None:
        """Load what the rules need; where: names the file with the rules. Raises InputError naming what is missing."""
        try:
            if self._task.languages and any(isinstance(rule, LanguageRule) for rule in self._rules):
                language.load()
            if any(isinstance(rule, ProfanityRule) for rule in self._rules):
                profanity.listed_words("english")
        except InputError as error:
            raise InputError(f"{where}: {error}") from error

    def find(self, text: str) -> ResponseCondition | None:
        """Return the condition that the first rule finds that applies, None where no rule does."""
        if not self._rules:
            return None
        response = ResponseText(text, self._task)
        for rule in self._rules:
            if rule.applies(response):
                return ResponseCondition(rule.code, rule.action == CODE)
        return None
