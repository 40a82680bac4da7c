"""Lists docstrings with "what" in place of a noun, and crowded folders: `python tests/packaging/plain_words.py`.

A clause with "what" takes the place of a noun where it begins a sentence, or follows a preposition or a verb such as
"return": "Return what tells one of its rows from all others." should be "Return the key of a row." Questions are left
out: "Say what is wrong", "It depends on what the header says".
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("client", "engine", "evidence", "export", "desk")
MOST_MODULES = 12
VERBS = "(return|write|yield|give|keep|read|add|remove|leave|send|take|print|hold|compare|choose|delete)s?"
PREPOSITIONS = "of|from|with|for|in|by|(?<!depends )(?<!depend )on|to|than|beside|beyond|without|as"
CLAUSE = re.compile(rf"(?:^|[.:;] |\b(?:{VERBS}|{PREPOSITIONS}) )what\b(?! to )[^.:;?]*(?=[.:;]|$)", re.IGNORECASE)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def clauses(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line of each docstring of a module that has such a clause, and its first one."""
    for node in ast.walk(ast.parse(source)):
        docstring = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
        if docstring and (found := CLAUSE.search(" ".join(docstring.split()))):
            yield node.body[0].lineno, found.group().strip(".:; ")


def product() -> list[Path]:
    """Return the modules of the product."""
    return sorted(file for folder in FOLDERS for file in (ROOT / folder).glob("scoremux*/**/*.py"))


def crowded() -> dict[str, int]:
    """Return folders with more than `MOST_MODULES` modules, `__init__` aside."""
    counts = Counter(str(file.parent.relative_to(ROOT)) for file in product() if file.name != "__init__.py")
    return {folder: count for folder, count in counts.items() if count > MOST_MODULES}


if __name__ == "__main__":
    found = {file: sorted(clauses(file.read_text(encoding="utf-8"))) for file in product()}
    for file, places in found.items():
        name = str(file.relative_to(ROOT))
        if places and (not sys.argv[1:] or name.startswith(tuple(sys.argv[1:]))):
            print(*(f"{name}:{line}: {clause}" for line, clause in places), sep="\n")
    print(f"{sum(map(len, found.values()))} docstrings; folders of more than {MOST_MODULES} modules: {crowded()}")
