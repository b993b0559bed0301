"""What can be asked of a session, how it is decided, and how it is carried out."""
