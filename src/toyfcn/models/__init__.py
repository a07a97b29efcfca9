"""Trunks, bilinear upsampling and the FCN that joins them."""
