"""Numbers about generated images: features, distances to real images, class accuracy, nearness to training images."""
