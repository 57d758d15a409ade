"""The benchmarks, from files on disk to batches on the device."""
