"""The pages as a site with a search: `make pages` writes it into `.pages/site`.

The Markdown is taken as it is. README.md of a folder is the folder's index; files that pages link to are copied. The
references of options, Python names and HTTP operations are written from the code.
"""

import fnmatch
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from click import Context

import scoremux
from contracts_file import OPENAPI
from making import ROOT
from pages import tracked
from scoremux.app import build

OUT = ROOT / ".pages"
NAVIGATION: dict[str, list[str]] = {
    "Start": ["README.md", "docs/README.md", "examples/tutorial/README.md", "examples/[es]*/README.md"],
    "Engineer of a platform": [
        "client/README.md", "client/wire.md", "desk/README.md", "*/scoremux_desk/api/*.md", "reference/http.md",
        "reference/python.md",
    ],
    "Operator": [
        "engine/README.md", "engine/profile.md", "engine/front_door.md", "server_config/README.md",
        "engine/equal_bits.md", "benchmarks/*.md", "ADVANCED.md", "SECURITY.md", "reference/options.md",
    ],
    "Researcher": ["export/README.md", "export/training.md"],
    "Director": [
        "*/going_live.md", "evidence/README.md", "*/decisions.md", "*/scoremux_desk/README.md",
        "examples/conditions/README.md",
    ],
    "Project": ["CHANGELOG.md", "STABILITY.md", "CONTRIBUTING.md", "docs/decisions/*.md", "tests/slow/RESULTS.md"],
}  # fmt: skip
"""Reader → pages, as patterns; a pattern without a page is left out."""

_SEARCHED = ("holds", "exit status", "LEVEL_RANGE")
_LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)\s#]+)(?=[)#])")
_PICTURE = re.compile(r'(?:src|srcset)="([^":]+)"')


def make(out: Path) -> None:
    """Write the site's sources and build it; a broken link or anchor ends the program."""
    docs = out / "docs"
    shutil.rmtree(out, ignore_errors=True)
    pages = tracked()
    for page in pages:
        _write(docs / _place(page), _with_links(page, docs))
    references = {"options": options(), "python": python(), "http": http()}
    for name, text in references.items():
        _write(docs / "reference" / f"{name}.md", text)
    sections = list(navigation([*pages, *(f"reference/{name}.md" for name in references)]))
    lines = "".join(f"  {{ {json.dumps(title)} = {json.dumps(listed)} }},\n" for title, listed in sections)
    _write(
        out / "zensical.toml", f'[project]\nsite_name = "scoremux"\nnav = [\n{lines}]\n[project.theme]\nfont = false\n'
    )
    if subprocess.run([Path(sys.executable).with_name("zensical"), "build", "--strict"], cwd=out).returncode:
        sys.exit("a page has a broken link: zensical names it above")
    index = (out / "site/search.json").read_text(encoding="utf-8")
    if missing := [words for words in _SEARCHED if words not in index]:
        sys.exit(f"the search does not find {', '.join(missing)}")


def navigation(pages: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each reader with their pages. A page that no reader has is an error."""
    left = set(pages)
    for title, patterns in NAVIGATION.items():
        listed = [page for pattern in patterns for page in pages if fnmatch.fnmatchcase(page, pattern)]
        left -= set(listed)
        yield title, [_place(page) for page in listed]
    if left:
        sys.exit(f"no reader has these pages: {', '.join(sorted(left))}; add them to NAVIGATION in {__file__}")


def options() -> str:
    """Return every command with its help and options."""
    lines = ["# Commands and options\n"]
    command = typer.main.get_command(build())
    for path, under in _commands(command, Context(command, info_name="scoremux")):
        shown = [p for p in under.params if p.param_type_name == "option" and not p.hidden]
        lines += [f"## {path}\n", _text(under.help), ""]
        if shown:
            lines += ["| option | default | meaning |", "|---|---|---|"]
        for option in shown:
            has_default = option.default not in (None, "", ()) and not option.is_flag and not callable(option.default)
            default = f"`{option.default}`" if has_default else ""
            lines.append(f"| `{option.opts[0]}` | {default} | {_cell(option.help)} |")
        lines.append("")
    return "\n".join(lines)


def python() -> str:
    """Return the public names, with signatures and docstrings."""
    lines = ["# Python\n"]
    for package in ("scoremux", "scoremux_client", "scoremux_engine"):
        lines.append(f"## {package}\n")
        for name in dir(scoremux) if package == "scoremux" else import_module(package).__all__:
            value = getattr(import_module(package), name)
            lines += [f"### {name}\n", *_described(name, value)]
            methods = inspect.getmembers(value, inspect.isfunction) if inspect.isclass(value) else []
            for method, function in methods:
                if not method.startswith("_") and function.__doc__:
                    lines += [f"#### {name}.{method}\n", *_described(method, function)]
    return "\n".join(lines)


def http() -> str:
    """Return the API's operations and schemas, from its OpenAPI file."""
    described: Any = json.loads(OPENAPI.read_text(encoding="utf-8"))
    lines = ["# HTTP operations\n"]
    for path, at in described["paths"].items():
        for method, operation in at.items():
            lines += [f"## {method.upper()} {path}\n", _text(operation.get("description")), ""]
            lines += ["| status | meaning |", "|---|---|"]
            lines += [
                f"| {status} | {_cell(answer['description'])} |" for status, answer in operation["responses"].items()
            ]
            lines.append("")
    for name, schema in described["components"]["schemas"].items():
        lines += [f"## {name}\n", _text(schema.get("description")), "", "| field | meaning |", "|---|---|"]
        lines += [f"| `{f}` | {_cell(s.get('description'))} |" for f, s in schema.get("properties", {}).items()]
        lines.append("")
    return "\n".join(lines)


def _described(name: str, value: Any) -> list[str]:
    try:
        signature = f"{name}{inspect.signature(value)}"
    except (TypeError, ValueError):
        signature = name
    return ["```python", signature, "```", "", "```text", inspect.getdoc(value) or "", "```", ""]


def _commands(command: Any, context: Context) -> Iterator[tuple[str, Any]]:
    yield context.command_path, command
    for name, under in sorted(getattr(command, "commands", {}).items()):
        if not under.hidden:
            yield from _commands(under, Context(under, parent=context, info_name=name))


def _text(text: str | None) -> str:
    return re.sub(r"<(?=\w)", "&lt;", inspect.cleandoc(text or "").replace("\f", "").replace("\b", ""))


def _cell(text: str | None) -> str:
    return _text(text).replace("|", "\\|").replace("\n", " ")


def _place(page: str) -> str:
    """Return a page's place in the site: README.md is the index of its folder."""
    return re.sub(r"(^|/)README\.md$", r"\1index.md", page)


def _with_links(page: str, docs: Path) -> str:
    """Return a page whose links are those of the site; copy the files that it links to."""

    def place(link: re.Match[str]) -> str:
        target = ((ROOT / page).parent / link[1]).resolve()
        relative = target.relative_to(ROOT)
        if target.is_dir():
            files = sorted(path.name for path in target.iterdir() if path.is_file())
            listing = f"# {relative}\n\n" + "".join(f"- [{name}](files/{name})\n" for name in files)
            _write(docs / relative / "index.md", listing)
            for name in files:
                _copy(target / name, docs / relative / "files" / name)
            return f"{link[1]}/index.md"
        if target.suffix != ".md":
            _copy(target, docs / relative)
        return _place(link[1])

    text = (ROOT / page).read_text(encoding="utf-8")
    for picture in _PICTURE.findall(text):
        target = ((ROOT / page).parent / picture).resolve()
        _copy(target, docs / target.relative_to(ROOT))
    return _LINK.sub(place, text)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    make(OUT)
