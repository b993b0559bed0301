"""What it means: folds over the log. Reads events, never appends; imports only ``events``, and ``gateway`` it."""
