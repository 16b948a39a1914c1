"""Classification losses for roadwork."""
