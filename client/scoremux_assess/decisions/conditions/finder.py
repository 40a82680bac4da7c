"""Finds the condition of responses to one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scoremux_assess.decisions.conditions.language import Identify, identify
from scoremux_assess.decisions.conditions.response import ResponseText, TaskTexts
from scoremux_assess.decisions.conditions.rules import CODE, Conditions


@dataclass(frozen=True)
class ResponseCondition:
    """A response's condition. coded: whether the code takes the place of a score."""

    code: str
    coded: bool


class Finder:
    """Finds the condition of responses to one task.

    Args:
        conditions: The rules.
        texts: The task's own texts, which a response may be copied from.
        languages: Languages that its responses may be in, unless the rule names them; without any, none is refused.
        identify: What tells a text's language.
    """

    def __init__(
        self,
        conditions: Conditions,
        texts: Sequence[str] = (),
        languages: Sequence[str] = (),
        identify: Identify = identify,
    ) -> None:
        rule = conditions.language
        self._rules = conditions.rules
        self._task = TaskTexts(texts, (rule.languages if rule else ()) or languages, identify)
        self.identifies = rule is not None and bool(self._task.languages)
        """Whether a response's language matters."""

    def find(self, text: str) -> ResponseCondition | None:
        """Return the condition of a response, None for one without."""
        if not self._rules:
            return None
        response = ResponseText(text, self._task)
        for rule in self._rules:
            if rule.applies(response):
                return ResponseCondition(rule.code, rule.action == CODE)
        return None
