"""Apple's CoreML."""
