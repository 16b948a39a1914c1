"""Decision policies and calibrators for roadwork."""
