"""The commit log on disk: record batches, segments, recovery, and the doors to disk, time and chance."""
