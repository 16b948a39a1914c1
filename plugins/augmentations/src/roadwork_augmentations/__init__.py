"""Label-safe torchvision v2 augmentations for roadwork."""
