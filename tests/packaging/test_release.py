"""A release: what it refuses, its notes, equal bytes of two builds; each page has its reader in the site."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

import hatch_build
from making import ROOT
from pages import tracked
from scoremux_server.triton.installation import BUNDLED_RELEASE
from site_pages import navigation
from tests.packaging import release

CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- New.\n\n## [0.1.0] - 2026-12-01\n\n- Old.\n"


@pytest.mark.parametrize("version", ["", "next", "v0.2.0", "0.2"])
def test_a_version_of_another_form_is_refused(version: str) -> None:
    with pytest.raises(SystemExit, match=r"not of the form 0\.2\.0"):
        release.check(version)


def test_notes_are_the_section_of_the_version_else_what_is_unreleased() -> None:
    assert release.notes(CHANGELOG, "0.1.0") == "# scoremux 0.1.0\n\n- Old.\n"
    assert release.notes(CHANGELOG, "0.2.0") == "# scoremux 0.2.0\n\n### Added\n\n- New.\n"
    with pytest.raises(SystemExit):
        release.notes("# Changelog\n", "0.2.0")


@pytest.mark.nightly
def test_two_builds_have_equal_bytes_and_name_what_scanners_do_not_see(tmp_path: Path) -> None:
    release.build_twice("9.8.7", tmp_path)
    unseen = {}
    for wheel in tmp_path.glob("*.whl"):
        with zipfile.ZipFile(wheel) as opened:
            (name,) = (name for name in opened.namelist() if ".dist-info/sboms/" in name)
            listed = json.loads(opened.read(name))
            if wheel.name.startswith("scoremux_desk"):
                assert "scoremux_desk/pages/catalogues/de.po" in opened.namelist()
        (unseen[listed["metadata"]["component"]["name"]],) = listed["components"][0]["components"]
    assert {name: found["name"] for name, found in unseen.items()} == {
        "scoremux": "tritonserver",
        "scoremux-desk": "swagger-ui-dist",
    }
    assert "{}.{}".format(*BUNDLED_RELEASE) in unseen["scoremux"]["description"]


def test_the_registrys_page_has_whole_links_where_the_repository_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    monkeypatch.setenv("SCOREMUX_REPOSITORY", "https://example.org/scoremux")
    monkeypatch.setenv("SCOREMUX_COMMIT", "0123abc")
    metadata: dict[str, Any] = {}
    hatch_build.PageHook(str(ROOT), {}).update(metadata)
    page = metadata["readme"]["text"]
    assert "(https://example.org/scoremux/blob/0123abc/docs/README.md)" in page
    assert 'src="https://example.org/scoremux/raw/0123abc/benchmarks/plots/peers.svg"' in page
    links = re.findall(r'(?:\]\(|src="|srcset=")([^)"\s]+)', page)
    assert len(links) >= 15 and all(link.startswith("https://") for link in links)
    assert metadata["urls"]["Source"] == "https://example.org/scoremux"
    monkeypatch.delenv("SCOREMUX_REPOSITORY")
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    metadata = {}
    hatch_build.PageHook(str(ROOT), {}).update(metadata)
    assert metadata == {"readme": {"content-type": "text/markdown", "text": readme}}


def test_every_page_has_a_reader() -> None:
    listed = [page for _, pages in navigation(tracked()) for page in pages]
    assert {"index.md", "engine/index.md", "CHANGELOG.md"} <= set(listed)
    assert len(listed) == len(tracked())
