"""Tables of tasks to train: what is made of them, and what is refused by line."""

from pathlib import Path

import pytest

from pages import blocks
from scoremux_engine.errors import PackageError
from scoremux_engine.packages.task import Task
from scoremux_train.task_table import read_tasks


def write(path: Path, *lines: str) -> Path:
    path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    return path


def test_table_describes_many_tasks_as_on_the_page(tmp_path: Path) -> None:
    one = 'bio-1,0 0.5 1,"Why, {x}?\n""Really""?",,{question},{response}'
    tasks = read_tasks(write(tmp_path / "t.csv", "id,levels,question,template,first,second", one, "t-2,,Really?,,,"))
    assert tasks["t-2"] == {"id": "t-2", "question": "Really?"}
    task = Task.model_validate(tasks["bio-1"])
    assert (task.levels, task.question) == ((0, 0.5, 1), 'Why, {x}?\n"Really"?')
    assert task.input is not None and task.input.second == "{response}"
    (block,) = (block for block in blocks("export/README.md") if block.language == "csv")
    for fields in read_tasks(write(tmp_path / "page.csv", *block.text.splitlines())).values():
        assert Task.model_validate(fields).layout is not None


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["id,lvels", "t,0 1"], "line 2: unknown column 'lvels'; the columns are levels, id, "),
        (["id,id", "t,t"], "more than one column id"),
        (["levels", "0 1"], "line 2: the row has no id"),
        (["id,levels", 't,"0,5 1"'], "line 2: levels"),
        (["id,levels", "t"], "line 2: 1 columns, the header has 2"),
        (["id,levels", "t,0 1,2"], "line 2: 3 columns, the header has 2"),
        (["id,levels", ",0 1"], "line 2: the row has no id"),
        (["id", "t", "t"], "line 3: a second row for t"),
        (["id", '"t'], "line 2: a quote that is not closed"),
    ],
)
def test_wrong_table_is_refused_by_line(tmp_path: Path, lines: list[str], why: str) -> None:
    with pytest.raises(PackageError, match=why):
        read_tasks(write(tmp_path / "tasks.csv", *lines))


def test_levels_of_json_lines_are_a_list(tmp_path: Path) -> None:
    table = write(tmp_path / "tasks.jsonl", '{"id": "t", "levels": [0, 0.5]}', '{"id": "u", "levels": "0 1"}')
    assert [fields["levels"] for fields in read_tasks(table).values()] == [[0.0, 0.5], [0.0, 1.0]]
    for levels in ("[[0]]", '["many"]'):
        with pytest.raises(PackageError, match="line 1: levels: write numbers"):
            read_tasks(write(tmp_path / "wrong.jsonl", f'{{"id": "t", "levels": {levels}}}'))
