"""Scripts behind the Makefile; nothing imports them but each other and the house test."""
