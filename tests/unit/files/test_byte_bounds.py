"""Long texts and long stretches of bad rows cost no more memory than a few: bounds are in bytes as well."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from scoremux_batch.in_process import run
from scoremux_batch.job import Job
from scoremux_batch.journal import Journal
from scoremux_batch.sources import expand
from scoremux_client import Response, ScoringClient
from scoremux_client.calls.request_size import REQUEST_BYTES, RequestSize
from scoremux_client.rows import Row
from scoremux_client.testing import FakeTransport
from scoremux_files.rows.row_layout import RowLayout

LONG = 300_000
WINDOW = 2
MOST_HELD = 2 * WINDOW * REQUEST_BYTES + LONG


def fake() -> FakeTransport:
    return FakeTransport({"t": [0, 1]})


class Source:
    """Long rows, all different, that know how many bytes of them were taken and not given back yet."""

    def __init__(self, rows: int) -> None:
        self.rows, self.taken = rows, 0

    def __iter__(self) -> Iterator[Response]:
        for number in range(self.rows):
            self.taken += LONG
            yield Response("t", str(number).ljust(LONG), str(number))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([1], (1, False)), ([3, 1], (2, False)), ([2, 2], (2, False)), ([2, 2, 1], (2, True)), ([5, 0], (1, True))],
    ids=str,
)
def test_so_many_rows_fit_into_a_request(sizes: list[int], expected: tuple[int, bool]) -> None:
    rows = [Row(Response("t", "x" * (size * REQUEST_BYTES // 4))) for size in sizes]
    assert RequestSize().cut(rows) == expected


def test_requests_of_long_rows_carry_fewer_and_their_source_is_read_a_few_megabytes_ahead() -> None:
    transport = fake()
    sizes = [LONG] * 40 + [1] * 300 + [REQUEST_BYTES + 1, 1, LONG]
    texts = [str(number).ljust(size) for number, size in enumerate(sizes)]
    scored = ScoringClient(transport, window=WINDOW).score([Response("t", t, str(n)) for n, t in enumerate(texts)])
    assert [row.id for row in scored] == [str(n) for n in range(len(sizes))]
    carried = [[len(response.text) for response in request] for request in transport.requests]
    assert all(sum(request) <= REQUEST_BYTES or len(request) == 1 for request in carried)
    assert sorted(size for request in carried for size in request) == sorted(map(len, texts))
    source, returned = Source(120), 0
    for _ in ScoringClient(fake(), window=WINDOW).score_iter(source):
        assert source.taken - returned <= MOST_HELD
        returned += LONG
    assert returned == 120 * LONG


def peak_bytes(folder: Path, bad: int) -> int:
    """Run a job of so many bad rows between two good ones, and return what it held at most."""
    folder.mkdir()
    good = '{"task": "t", "text": "x"}\n'
    (folder / "in.jsonl").write_text(good + "{\n" * bad + good)
    out = folder / "out"
    out.mkdir()
    job = Job(expand([str(folder / "in.jsonl")], out), RowLayout(part_rows=500))
    with Journal(out, job) as journal, ScoringClient(fake()) as client:
        tracemalloc.start()
        run(out, job, journal, client, lambda *_: None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (journal.state.rows, journal.state.rejected) == (2, bad)
    assert len(list((out / "_rejected").iterdir())) == (bad + 2) // 500 + 1
    return peak


def test_a_long_stretch_of_bad_rows_is_written_as_it_is_read(tmp_path: Path) -> None:
    peak_bytes(tmp_path / "first", 1)  # what is imported at first use
    assert peak_bytes(tmp_path / "stretch", 20_000) < 1_500_000
