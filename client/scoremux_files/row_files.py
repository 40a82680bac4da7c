"""Files of rows, for programs of your own: reading and writing .jsonl, .csv and .parquet, and the cells of a row."""

from scoremux_files.rows.readers import cell_text, chunks, read_rows, whole_number
from scoremux_files.rows.row_layout import RowLayout
from scoremux_files.rows.text_files import read_lines
from scoremux_files.rows.writers import check_kept, write_rows

__all__ = ["RowLayout", "cell_text", "check_kept", "chunks", "read_lines", "read_rows", "whole_number", "write_rows"]
