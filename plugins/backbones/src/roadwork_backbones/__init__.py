"""Backbones for roadwork from transformers and torchvision."""
