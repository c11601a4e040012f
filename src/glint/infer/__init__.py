"""From a radiograph and queries to scores, points, boxes and masks on the pixel grid of the file."""
