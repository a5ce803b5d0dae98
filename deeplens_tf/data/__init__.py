"""From files to batches: reading, preparing, tf.data."""
