"""The report: one HTML file that opens offline, Markdown, or tables; blocks, figures and sections."""
