"""Cuts: where a job's slices begin and what their parts are called, as a job would find that reads file after file."""

from __future__ import annotations

from pathlib import Path

from batch_jobs import write_sources
from scoremux_cli.batch import cuts
from scoremux_cli.batch.cuts import Cut
from scoremux_cli.batch.journal import Done, Job
from scoremux_cli.batch.slices import read_slices, read_source
from scoremux_cli.batch.sources import expand
from scoremux_files.rows.records import ReadPosition, RowLayout


def make(tmp_path: Path) -> Job:
    """A job of files of all kinds without ids, with bad rows, empty files and a last slice without rows among them."""
    write_sources(tmp_path / "in", 300)
    (tmp_path / "in" / "a.jsonl").write_text("")
    (tmp_path / "in" / "b.csv").write_text("task,text\n" + "t,x\n" * 20)
    return Job(expand([str(tmp_path / "in")], tmp_path / "out"), RowLayout(id="no", part_rows=10))


def expected(job: Job, done: Done) -> list[Cut]:
    """Return the cuts as reading one file after the other comes to them."""
    found, part, source, place = [], done.parts, done.source, done.place
    for index, slice_ in read_slices(job, done.source, done.place):
        if index != source:
            source, place = index, ReadPosition(row=place.row)
        found.append(Cut(index, place, part))
        part, place = part + bool(slice_.ids or slice_.rejected), slice_.after
    return found


def found(job: Job, done: Done) -> list[Cut]:
    files = range(done.source, len(job.sources))
    return cuts.number([f for i in files for f in cuts.find(job, i, cuts.start(i, done))], done)


def test_cuts_are_those_of_a_job_that_reads_file_after_file(tmp_path: Path) -> None:
    job = make(tmp_path)
    every = found(job, Done())
    assert every == expected(job, Done())
    assert len({cut.source for cut in every}) == len(job.sources) == 5


def test_cuts_of_a_job_that_goes_on_are_the_rest(tmp_path: Path) -> None:
    job = make(tmp_path)
    every = found(job, Done())
    for at in range(0, len(every), 7):
        done = Done(parts=every[at].part, source=every[at].source, place=every[at].place)
        assert found(job, done) == every[at:]


def test_a_cut_alone_gives_the_slice_with_its_numbers(tmp_path: Path) -> None:
    job = make(tmp_path)
    slices = [slice_ for _, slice_ in read_slices(job)]
    alone = [next(read_source(job, cut.source, cut.place)) for cut in found(job, Done())]
    assert [(s.ids, s.texts, s.lines, s.rejected, s.done) for s in alone] == [
        (s.ids, s.texts, s.lines, s.rejected, s.done) for s in slices
    ]
