"""What toyfcn-data does: check, download."""
