"""One file a command; nobody imports them."""
