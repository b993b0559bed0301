"""The doctor: looks at one thing after the other that a gateway needs, and says what is wrong and what to do."""
