"""Who may do what: API keys with roles, session tokens, the role of every route."""
