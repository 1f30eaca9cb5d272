"""Signal processing of single channels: resampling, filters, scaling."""
