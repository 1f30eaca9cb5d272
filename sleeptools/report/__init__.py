"""The report: one HTML file that opens offline, a Markdown text, or tables."""
