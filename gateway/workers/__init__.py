"""Background jobs, small and alike: ``plan`` decides without waiting, ``carry_out`` acts."""
