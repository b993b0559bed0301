"""What happened: the append-only log. Imports nothing of ours; ``projections`` and ``gateway`` import it."""
