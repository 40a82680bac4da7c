"""A batch job: reads files, writes parts, and keeps a journal, from which it resumes after a crash."""
