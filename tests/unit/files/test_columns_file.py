"""`columns.toml` beside the data: columns and words are named once, for each command that has `--column`."""

from pathlib import Path

import pytest

from scoremux_assess.labels.label_table import read_labels
from scoremux_assess.labels.labelled_row import label_columns
from scoremux_files.errors import InputError
from scoremux_files.rows.row_layout import column_names
from serving import run_here

WORDS = ("wrong", "partial", "correct")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = "".join(f"t,answer {n},{WORDS[n % 3]},s{n % 30}\n" for n in range(60))
    (tmp_path / "rows.csv").write_text(f"item,Antwort,Urteil,pupil\n{rows}")
    (tmp_path / "columns.toml").write_text(
        'task = "item"\ntext = "Antwort"\nlevel = "Urteil"\nstudent = "pupil"\n'
        "[levels]\nwrong = 0\npartial = 1\ncorrect = 2\n"
    )
    return tmp_path / "rows.csv"


def test_names_and_levels_of_the_file_count_for_every_command(data: Path) -> None:
    columns = label_columns(None, "level", data=data)
    assert (columns.task, columns.text, columns.level, columns.student) == ("item", "Antwort", "Urteil", "pupil")
    rows = read_labels([data], columns, ("task", "text", "level")).rows
    assert [row.level for row in rows[:3]] == [0, 1, 2] and rows[1].student == "s1"
    checked = run_here("train", data, "--check")
    assert (checked.returncode, checked.stderr) == (0, "") and "20 20 20" in checked.stdout


def test_option_overrides_one_name(data: Path) -> None:
    named = column_names(["text=item2"], data, id="id", text="text", group=())
    assert named == {"id": "id", "text": "item2", "group": ()}
    (data.parent / "columns.toml").write_text('group = ["region", "school"]\n')
    assert column_names(None, data, group=())["group"] == ("region", "school")
    assert column_names(["group=sex"], data, group=())["group"] == ("region", "school", "sex")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('lvl = "x"', "unknown key lvl; the keys are administration"),
        ("text = 3", 'text: give KEY = "NAME"'),
        ("[levels]\nright = 1.5", "under .levels. WORD = LEVEL"),
        ("text = ", "columns.toml is not TOML"),
    ],
)
def test_wrong_file_is_named(data: Path, content: str, complaint: str) -> None:
    (data.parent / "columns.toml").write_text(content)
    with pytest.raises(InputError, match=complaint):
        column_names(None, data, text="text")


def test_words_and_levels_without_rows_are_named_with_what_maps_them(data: Path) -> None:
    (data.parent / "columns.toml").write_text('task = "item"\ntext = "Antwort"\nlevel = "Urteil"\n')
    said = run_here("train", data, "--check").stderr
    assert 'under [levels] of columns.toml beside the file, give their levels: "correct" = …, "partial" = …' in said
    (data.parent / "columns.toml").unlink()
    data.write_text("task,text,level\n" + "".join(f"t,answer {n},{1 + n % 3}\n" for n in range(60)))
    said = run_here("train", data, "--check").stderr
    assert "its levels are 1, 2, 3, and no row has 0; if these are points, name the column with --column score=" in said
    assert run_here("train", data, "--check", "--column", "score=level").returncode == 0


def test_texts_in_the_column_of_levels_are_not_shown(data: Path) -> None:
    (data.parent / "columns.toml").unlink()
    said = run_here(
        "train", data, "--check", "--column", "task=item", "--column", "text=pupil", "--column", "level=Antwort"
    )
    assert "answer" not in said.stderr and said.returncode == 2


def test_check_exits_with_3_where_rows_cannot_be_used(data: Path) -> None:
    data.write_text(data.read_text() + "t,another,unsure,s1\n")
    checked = run_here("train", data, "--check")
    assert checked.returncode == 3 and "no number in Urteil or score" in checked.stdout


@pytest.mark.parametrize("suffix", [".xlsx", ".xls", ".ods"])
def test_workbook_is_refused_with_the_clicks_that_save_it(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"rows{suffix}").write_bytes(b"PK\x03\x04")
    for words in (("train", "--check"), ("score", "--out", tmp_path / "out", "--url", "localhost:9")):
        said = run_here(words[0], tmp_path / f"rows{suffix}", *words[1:]).stderr
        assert "in Excel, File > Save As > CSV UTF-8 writes the sheet as .csv" in said
