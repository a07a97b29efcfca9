"""toyfcn: an experiment framework for semantic segmentation, from FCN-LeNet to FCN-8s."""

__version__ = "0.1.0"
