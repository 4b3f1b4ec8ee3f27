"""Looking at images: a browser of slices and tags, regions of interest, plain pictures."""
