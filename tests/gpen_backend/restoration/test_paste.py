import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest

from gpen_backend.restoration.align import AlignedFace, align, template
from gpen_backend.restoration.blend import Blend
from gpen_backend.restoration.mask import face_mask
from gpen_backend.restoration.paste import Patch, paste_patches
from gpen_common.geometry import compose, resize_matrix

SIZE = 64


def photo(width: int, height: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def aligned(image: np.ndarray, scale: float) -> AlignedFace:
    middle = np.float32([image.shape[1] / 2, image.shape[0] / 2])
    return align(image, (template(SIZE) - SIZE / 2) * np.float32(scale) + middle, SIZE)


def patch(face: AlignedFace, target: np.ndarray, opacity: float = 1.0, grain: float = 1.0) -> Patch:
    return Patch(face, Blend(target.astype(np.float32), opacity, grain), face_mask(face.landmarks, SIZE))


@pytest.mark.parametrize("grain", [0.0, 0.5, 1.0])
def test_opacity_0_leaves_the_photo_bit_equal(grain):
    image = photo(120, 100)
    face = aligned(image, 1.3)
    np.testing.assert_array_equal(paste_patches(image, [patch(face, face.pixels * 0, 0.0, grain)]), image)


def test_a_flat_target_at_full_opacity_covers_the_face():
    image = photo(120, 100)
    pasted = paste_patches(image, [patch(aligned(image, 1.3), np.full((SIZE, SIZE, 3), 77), grain=0.0)])
    np.testing.assert_array_equal(pasted[46:54, 56:64], 77)


@pytest.mark.parametrize("scale", [0.5, 1.7])
def test_grain_keeps_detail_beyond_the_crops_resolution(scale):
    """If the network lightens by ten levels, every pixel of the photo becomes ten levels lighter."""
    image = (photo(160, 140) * 0.5 + 60).astype(np.uint8)
    face = aligned(image, scale)
    pasted = paste_patches(image, [patch(face, face.pixels.astype(np.float32) + 10)])
    middle = np.s_[66:74, 76:84]
    assert np.abs(pasted[middle].astype(int) - image[middle] - 10).max() <= 1


def test_pastes_into_an_enlarged_photo():
    image = photo(120, 100)
    face = aligned(image, 1.0)
    large = cv2.resize(image, (360, 300), interpolation=cv2.INTER_LANCZOS4)
    larger = replace(face, inverse_affine=compose(resize_matrix((120, 100), (360, 300)), face.inverse_affine))
    target = face.pixels.astype(np.float32) + 20
    small = paste_patches(image, [patch(face, target)]).astype(float) - image
    pasted = paste_patches(large, [patch(larger, target)]).astype(float) - large
    back = cv2.resize(pasted, (120, 100), interpolation=cv2.INTER_AREA)
    assert np.abs(back - small).mean() < 0.5
    assert pasted.shape == large.shape


def test_memory_does_not_grow_with_the_face():
    """A face as large as its photo takes the photo's copy, its mask and the memory of one strip."""
    image = np.zeros((3000, 4000, 3), np.uint8)
    face = aligned(image, 60)
    tracemalloc.start()
    paste_patches(image, [patch(face, np.full((SIZE, SIZE, 3), 90))])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    decided = 4 * image.shape[0] * image.shape[1]
    strip = 4 * 1024 * 1024
    assert peak < image.nbytes + decided + 40 * strip
