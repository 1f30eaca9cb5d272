"""The sections of a report, one file a subject; each makes blocks from the numbers of a page."""
