"""The code of this project: a network and a data set."""
