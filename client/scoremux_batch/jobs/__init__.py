"""Jobs of programs: a file is scored a part at a time; the output of jobs is read with its texts; rows are erased."""

from scoremux_batch.jobs.job_folder import JobFolder
from scoremux_batch.jobs.scored_rows import Origin, alerts_of, scored_rows, texts_of
from scoremux_batch.people import ForPeople

__all__ = ["ForPeople", "JobFolder", "Origin", "alerts_of", "scored_rows", "texts_of"]
