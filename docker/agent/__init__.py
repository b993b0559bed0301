"""What runs inside a session: the echo agent, the stub model, and where real OpenCode is found."""
