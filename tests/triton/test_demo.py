"""`scoremux demo`, as a user sees it: report and desk are there, and Ctrl-C ends all."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from importlib import util
from pathlib import Path

import psutil
import pytest

from saf import needs_minilm
from scoremux import demo
from scoremux.app import main
from serving import SCOREMUX


@needs_minilm
@pytest.mark.nightly
def test_report_and_desk_are_there_until_ctrl_c(tmp_path: Path) -> None:
    words = [SCOREMUX, "demo", "--no-browser", "--folder", str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("ready"):
                break
        said = "".join(lines)
        found = re.search(r"report  file://(\S+)\ndesk    (\S+)  \(sign in as demo, password \S{12}\)", said)
        assert found, said
        assert "27 tasks in mixed batches" in said and " 0 rows with other bits in another order" in said
        assert "<title>" in Path(found[1]).read_text(encoding="utf-8")
        with urllib.request.urlopen(f"{found[2]}/login") as page:
            assert page.status == 200
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().endswith("stopped\n") and process.wait(60) == 0
    assert not any(child.is_running() for child in started)


def test_a_missing_package_is_one_sentence_with_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["scoremux", "demo"])
    for module, brings in demo._NEEDED.items():
        monkeypatch.setattr(demo, "find_spec", lambda name, gone=module: None if name == gone else util.find_spec("re"))
        with pytest.raises(SystemExit, match="2"):
            main()
        assert capsys.readouterr().err == f"scoremux: the demo needs {module}: pip install {brings}\n"
    assert not list(tmp_path.iterdir())


def test_the_shown_tasks_are_of_the_pages_language_and_get_several_levels() -> None:
    rows = [json.loads(line) for line in (demo.example() / "responses.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(task.startswith("en-") for task in demo._SHOWN)
    assert {row["task"] for row in rows} >= {*demo._SHOWN}
    assert len(list((demo.example() / "adapters").glob("*/task.json"))) == 27
