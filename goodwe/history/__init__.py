"""The history: what was made and what happened, kept for ever in one SQLite file; see HISTORY.md.

It knows no output. Whoever reads opens a `queries.Reader`, which can change nothing; whoever writes goes
through `archive.Archive`. sqlite3 is imported by these two alone, so what is off costs nothing.
"""
