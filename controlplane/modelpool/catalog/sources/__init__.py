"""A plug folder: a file for each way in which programs lay out models on a disk. See ``base``."""
