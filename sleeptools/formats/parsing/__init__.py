"""Parsers that several formats share: EDF headers and annotations, text, XML, stage labels."""
