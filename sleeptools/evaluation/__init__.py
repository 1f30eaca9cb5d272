"""Agreement of predicted with scored stages, and every number of a report."""
