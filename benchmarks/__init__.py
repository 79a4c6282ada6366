"""What spcli is timed with: `cpu/` and `cuda/`, the same stem for the same subject, and `common/` for both."""
