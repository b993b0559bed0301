"""The gateway: the only room that knows the others; nobody imports it."""
