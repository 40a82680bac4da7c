"""Finds the condition of responses to one task."""

from collections.abc import Sequence
from dataclasses import dataclass

from scoremux_client.errors import InputError
from scoremux_decide.conditions import language, profanity
from scoremux_decide.conditions.condition_rules import CODE, Conditions
from scoremux_decide.conditions.response import ResponseText, TaskTexts


@dataclass(frozen=True)
class ResponseCondition:
    """A response's condition. coded: whether the code takes the place of a score."""

    code: str
    coded: bool


class Finder:
    """Finds the condition of responses to one task.

    Args:
        languages: Languages that its responses may be in, unless the rule names them; without any, none is refused.
        where: The file with the rules, whose libraries are loaded now. Raises InputError naming one that is missing.
    """

    def __init__(
        self,
        conditions: Conditions,
        question: str = "",
        reference: str = "",
        languages: Sequence[str] = (),
        *,
        where: str = "",
    ) -> None:
        rule = conditions.language
        self._rules = conditions.rules
        self._task = TaskTexts(question, reference, (rule.languages if rule else ()) or languages)
        if not where:
            return
        try:
            if self._task.languages and rule:
                language.load()
            if conditions.profanity:
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
