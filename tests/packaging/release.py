"""Build a release from a clean tree: `make release VERSION=0.2.0`. Publishing it is a person's step.

Output, in `dist/VERSION/`: wheels and sdists of every distribution, built twice with equal bytes; `pylock.EXTRA.toml`
for serving machines; `notes.md`, cut from the changelog; SHA256SUMS. The commit gets the tag `vVERSION`.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = [path.parent for path in (ROOT / "pyproject.toml", ROOT / "desk/pyproject.toml") if path.exists()]
LOCKED = ("serve", "gpu")
PYTHONS = ("3.10", "3.11", "3.12")
_VERSION = re.compile(r"\d+\.\d+\.\d+(rc\d+)?")
_CLIENT = "import scoremux_client; print(scoremux_client.ScoringClient.__name__)"


def main(version: str, again: bool = False) -> None:
    """Build, try and tag a version; again: build one that has its tag, and no more."""
    check(version, again)
    out = ROOT / "dist" / version
    shutil.rmtree(out, ignore_errors=True)
    build_twice(version, out)
    (out / "notes.md").write_text(notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version), encoding="utf-8")
    for extra in LOCKED:
        lock(extra, out / f"pylock.{extra}.toml")
    sums = "".join(f"{digest(path)}  {path.name}\n" for path in sorted(out.iterdir()))
    (out / "SHA256SUMS").write_text(sums)
    if again:
        return
    try_wheels(version, out)
    git("tag", "--annotate", f"v{version}", "--message", f"scoremux {version}")
    print(
        f"{out.relative_to(ROOT)} is ready, and this commit has the tag v{version}; CONTRIBUTING.md says how to publish"
    )


def check(version: str, again: bool = False) -> None:
    """Refuse a version that is not one, a tree with changes, and a tag that exists, or with `again` another commit."""
    if not _VERSION.fullmatch(version):
        sys.exit(f"VERSION is {version!r}, not of the form 0.2.0; run make release VERSION=0.2.0")
    if changes := git("status", "--porcelain"):
        sys.exit(f"the tree has changes; commit them first:\n{changes}")
    tagged = git("tag", "--list", f"v{version}")
    if tagged and not again:
        sys.exit(f"the tag v{version} exists; choose the next version")
    if again and (not tagged or git("rev-parse", f"v{version}^{{commit}}") != git("rev-parse", "HEAD")):
        sys.exit(f"this commit has no tag v{version}; run git checkout v{version}")


def build_twice(version: str, out: Path) -> None:
    """Build wheels and sdists into `out`. Builds that differ in one byte end the program."""
    with tempfile.TemporaryDirectory() as again:
        for folder in (out, Path(again)):
            build(version, folder)
        names = sorted(path.name for path in out.iterdir())
        assert names == sorted(path.name for path in Path(again).iterdir())
        different = [name for name in names if (out / name).read_bytes() != (Path(again) / name).read_bytes()]
    if different:
        sys.exit(f"two builds of one commit differ: {', '.join(different)}")
    if wrong := [name for name in names if f"-{version}" not in name]:
        sys.exit(f"these have another version than {version}: {', '.join(wrong)}")


def build(version: str, out: Path) -> None:
    """Build from a clean checkout, so that no ignored file gets in."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x"], cwd=folder, input=archive, check=True)
        for distribution in DISTRIBUTIONS:
            source = Path(folder) / distribution.relative_to(ROOT)
            run([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source], environment(version))


def environment(version: str) -> dict[str, str]:
    """Return variables that fix the version and the times of a build."""
    made = {"SETUPTOOLS_SCM_PRETEND_VERSION": version, "SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct")}
    return {**os.environ, **made, "SCOREMUX_COMMIT": git("rev-parse", "HEAD")}


def notes(changelog: str, version: str) -> str:
    """Return the changelog's section of a version, or of what is unreleased."""
    for title in (version, "Unreleased"):
        _, heading, rest = changelog.partition(f"\n## [{title}]")
        if heading:
            return f"# scoremux {version}\n{rest.partition(chr(10))[2].partition(f'{chr(10)}## [')[0].rstrip()}\n"
    sys.exit(f"CHANGELOG.md has no section for {version}")


def lock(extra: str, path: Path) -> None:
    """Write the exact versions and digests of what an extra installs (PEP 751)."""
    override = ROOT / "server_config/requirements/images.override"
    words = ["pip", "compile", "pyproject.toml", "--extra", extra, "--universal", "--python-version", "3.10"]
    uv = Path(sys.executable).with_name("uv")
    run(
        [uv, *words, "--override", override, "--format", "pylock.toml", "--no-header", "--quiet", "--output-file", path]
    )


def try_wheels(version: str, out: Path) -> None:
    """Install the wheels in a fresh environment of each Python at hand, and run the demo there, beside no checkout."""
    for number in PYTHONS:
        if python := at_hand(number):
            with tempfile.TemporaryDirectory() as folder:
                began = time.monotonic()
                demo(version, python, Path(folder), sorted(out.glob("*.whl")))
                print(
                    f"Python {number}: the wheels were installed, and the demo ran, in {time.monotonic() - began:.0f} s"
                )
        else:
            print(f"Python {number} is not in PATH: the wheels were not tried with it")


def demo(version: str, python: str, folder: Path, wheels: list[Path]) -> None:
    """Install the client alone, then all that the demo needs, and run the demo."""
    made = folder / "venv"
    run([python, "-m", "venv", made])
    install = [made / "bin/pip", "install", "--quiet"]
    run([*install, wheels[0]])
    run([made / "bin/python", "-c", _CLIENT], cwd=folder)
    constraints = ["--constraint", ROOT / "tests/parity/constraints.txt"]
    run([*install, *constraints, f"{wheels[0]}[serve,export,assess]", *wheels[1:]])
    run([*install, "--no-deps", "--requirement", ROOT / "examples/saf/requirements.txt"])
    printed = subprocess.run([made / "bin/scoremux", "--version"], check=True, capture_output=True, text=True).stdout
    if f" {version}, commit {git('rev-parse', 'HEAD')[:12]}" not in printed:
        sys.exit(f"the wheel says {printed.strip()}, not {version} and this commit")
    words = [made / "bin/scoremux", "demo", "--no-browser"]
    with subprocess.Popen(
        words, env={**os.environ, "HF_HUB_OFFLINE": "1"}, cwd=folder, stdout=subprocess.PIPE
    ) as shown:
        assert shown.stdout
        if not any(line.startswith(b"ready") for line in shown.stdout):
            sys.exit("the demo did not get as far as report and desk")
        shown.terminate()


def at_hand(number: str) -> str | None:
    """Return a Python of a version, None where this machine has none that starts."""
    if sys.version.startswith(f"{number}."):
        return sys.executable
    python = shutil.which(f"python{number}")
    starts = python and not subprocess.run([python, "-c", ""], capture_output=True).returncode
    return python if starts else None


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def run(words: list[str | Path], variables: Mapping[str, str] | None = None, cwd: Path | str = ROOT) -> None:
    """Run a step; the program ends where it fails."""
    if status := subprocess.run(words, env=variables, cwd=cwd).returncode:
        sys.exit(f"{' '.join(map(str, words))} ended with {status}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:] == ["--again"])
