"""Prints how many lines the product has, and how many are code: `python tests/packaging/lines_of_code.py [FOLDER…]`."""

import ast
import io
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("client", "engine", "evidence", "export", "desk")
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    """Return how many lines of a module are neither blank nor a comment nor part of a docstring.

    A string that stands alone, such as one below a constant, counts as a docstring.
    """
    lines = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


if __name__ == "__main__":
    folders = [Path(word) for word in sys.argv[1:]] or [ROOT / folder for folder in FOLDERS]
    sources = [file.read_text(encoding="utf-8") for folder in folders for file in folder.rglob("*.py")]
    lines, of_code = sum(source.count("\n") for source in sources), sum(map(code_lines, sources))
    print(f"{lines:,} lines, {of_code:,} of code")
