"""Numbers about generated images: features, distances to real images, class accuracy, nearness to training images."""

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
GET_INCEPTION = f"download torch-fidelity's {INCEPTION_FILE} and give its path as weights_path"
