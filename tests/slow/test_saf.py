"""Every SAF test response gets PEFT's level, through a real Triton."""

from pathlib import Path

from saf import compare_with_peft, needs_data, needs_minilm, read_rows
from waiting import Result, Scaled


@needs_minilm
@needs_data
def test_every_test_response_gets_pefts_level(saf_repository: Path, result: Result, scaled: Scaled) -> None:
    rows = read_rows()
    rows = rows[: scaled(len(rows))]
    difference = compare_with_peft(saf_repository, rows)
    result(f"levels unlike PEFT's, {len(rows)} SAF test responses through Triton", f"0; max |Δlogit| {difference:.1e}")
