"""What is done to one signal: resampling, filters, scaling."""
