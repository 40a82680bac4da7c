"""The report on millions of rows, and its page in a browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs import SCOREMUX
from proofs import Result, Scaled

ROWS, TASKS, PART = 5_000_000, 1_000, 16_384
NODE_MODULES = Path(os.environ.get("SCOREMUX_NODE_MODULES", "/nowhere"))
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def write_rows(folder: Path, rows: int, tasks: int) -> None:
    """Write an output in parts, as `scoremux score` does, and a truth with a second human and four groups."""
    chance = np.random.default_rng(0)
    human = chance.integers(0, 5, rows)
    (folder / "scored").mkdir()
    for number, first in enumerate(range(0, rows, PART)):
        place = np.arange(first, min(rows, first + PART))
        level = np.clip(human[place] + chance.choice([-1, 0, 0, 0, 1], len(place)), 0, 4)
        sure = 0.5 * chance.dirichlet(np.ones(5), len(place))
        sure[np.arange(len(place)), level] += 0.5
        columns = {
            "id": [f"r{n:09d}" for n in place],
            "task": [f"task-{n % tasks:04d}" for n in place],
            "status": ["OK"] * len(place),
            "level": pa.array(level, pa.int32()),
            "probabilities": pa.array(list(sure.astype(np.float32)), pa.list_(pa.float32())),
            "version": [f"{n % tasks:064x}" for n in place],
        }
        pq.write_table(pa.table(columns), folder / "scored" / f"part-{number:06}.parquet")
    order = chance.permutation(rows)
    again = np.clip(human + chance.choice([-1, 0, 0, 0, 1], rows), 0, 4)[order]
    truth = {
        "id": [f"r{n:09d}" for n in order],
        "level": human[order],
        "again": pa.array(again, mask=chance.random(rows) > 0.1),
        "group": chance.choice(["a", "b", "c", "d"], rows),
    }
    pq.write_table(pa.table(truth), folder / "truth.parquet")


def test_five_million_rows_of_a_thousand_tasks(tmp_path: Path, scaled: Scaled, result: Result) -> None:
    rows = scaled(ROWS)
    write_rows(tmp_path, rows, min(TASKS, rows))
    words = [SCOREMUX, "report", tmp_path / "scored", "--truth", tmp_path / "truth.parquet", "--column", "second=again"]
    words += ["--column", "group", "--out", tmp_path / "report.html"]
    # A process between, whose only child is the command: its largest memory is the command's.
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); r = resource.getrusage(-1)"
    code += "; print(r.ru_utime + r.ru_stime, r.ru_maxrss / 1e6)"
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True, text=True
    ).stdout
    took_s = time.perf_counter() - started
    computed_s, memory_gb = map(float, done.split()[-2:])
    figure = f"{took_s:.0f} s, of which {computed_s:.0f} s of processor time; {memory_gb:.2f} GB"
    result(f"report on {ROWS:,} rows, {TASKS:,} tasks, 4 groups", figure)
    assert computed_s <= 120
    assert memory_gb <= 2


AXE = """
import fs from 'fs';
import {createRequire} from 'module';
const require = createRequire(process.argv[2] + '/x.js');
const puppeteer = require('puppeteer-core');
const axe = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const browser = await puppeteer.launch({executablePath: process.argv[3], args: ['--no-sandbox'], headless: true});
const found = [];
for (const width of [360, 1280]) for (const value of ['light', 'dark']) {
  const page = await browser.newPage();
  await page.setBypassCSP(true);
  await page.setViewport({width, height: 900});
  await page.emulateMediaFeatures([{name: 'prefers-color-scheme', value}]);
  const requests = [];
  page.on('request', request => requests.push(request.url()));
  await page.goto('file://' + process.argv[4]);
  await page.evaluate(axe);
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
  const seen = await page.evaluate(values => axe.run(document, {runOnly: {type: 'tag', values}}), tags);
  for (const one of seen.violations) found.push(`${width} ${value}: ${one.id} ${one.nodes[0].html}`);
  if (requests.length !== 1) found.push(`${width} ${value}: requests ${requests}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  if (wide > width) found.push(`${width} ${value}: the page is ${wide} pixels wide`);
}
await browser.close();
console.log(found.join('\\n'));
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium in PATH")
@pytest.mark.skipif(
    not (NODE_MODULES / "axe-core").is_dir(),
    reason="no axe-core, puppeteer-core and html-validate in the folder $SCOREMUX_NODE_MODULES",
)
def test_the_page_in_a_browser(tmp_path: Path, result: Result) -> None:
    write_rows(tmp_path, 2_000, 20)
    page = tmp_path / "report.html"
    words = [SCOREMUX, "report", tmp_path / "scored", "--truth", tmp_path / "truth.parquet", "--column", "second=again"]
    subprocess.run([*map(str, words), "--column", "group", "--out", str(page)], check=True, capture_output=True)
    (tmp_path / "axe.mjs").write_text(AXE)
    modules = str(NODE_MODULES.resolve())
    node = ["node", str(tmp_path / "axe.mjs"), modules, str(CHROMIUM), str(page)]
    seen = subprocess.run(node, check=True, capture_output=True, text=True).stdout.strip()
    assert not seen
    subprocess.run([f"{modules}/.bin/html-validate", str(page)], check=True, cwd=NODE_MODULES.parent)
    result(
        "the report's page at 360 and 1280 pixels, light and dark", "no violation of AA (axe-core), no request, valid"
    )
