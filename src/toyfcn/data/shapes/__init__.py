"""The drawn world: a toy VOC."""
