"""Classification heads for roadwork."""
