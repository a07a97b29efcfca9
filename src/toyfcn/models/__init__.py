"""Backbones, bilinear upsampling and the networks built from them."""
