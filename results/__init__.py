"""The study behind the table of results: `python -m results --help`, and protocol.md."""
