"""What the file formats share: EDF headers and annotations, text tables, XML, stage labels."""
