"""From files or the embedded world to batches of samples."""
