"""Parameter-efficient adapters and self-supervised objectives for roadwork."""
