"""The gated alignment of all sentences with all images as one operation, in several exact forms."""
