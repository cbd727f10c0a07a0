"""`python -m kind reference IMAGES --output FILE`: statistics of anyone's images in ADM's format."""

from __future__ import annotations

import argparse

from kind.errors import UserError
from kind.stages.measure_files import check_writable, read_side


def reference_files(arguments: argparse.Namespace) -> None:
    from kind.evaluation.reference import NUM_IMAGES, NUM_VECTORS, save_reference

    if arguments.output.suffix != ".npz":
        raise UserError(f"--output: {arguments.output} must end in .npz")
    num_vectors = NUM_VECTORS if arguments.num_vectors is None else arguments.num_vectors
    num_images = NUM_IMAGES if arguments.num_images is None else arguments.num_images
    check_writable(arguments.output)
    side = read_side(arguments.images, arguments, num_vectors=num_vectors, num_images=num_images)
    if side.images is None:
        raise UserError(f"{arguments.images}: holds statistics already; a reference is made of images")
    protocol = {
        "set": arguments.set,
        "source": arguments.images.name,
        "decoding": side.images.decoding,
        "image_shape": list(side.images.shape),
    }
    save_reference(arguments.output, side.features, protocol)
    made = side.features.origin
    print(
        f"{arguments.output}: mu, sigma"
        f"{', mu_s, sigma_s' if side.features.spatial_statistics else ''} of {side.features.count:,} images as "
        f"{made.extractor} ({made.identity[:12]}) sees them; {side.features.num_vectors:,} features and "
        f"{len(side.features.images):,} images are kept in it"
    )
