"""Gaussian blur of image arrays: isotropic, anisotropic and shifted kernels."""

import numpy as np

MIN_VARIANCE = 0.01  # pixels^2: with this variance, the weight of neighbours is zero


def gaussian(size: int, covariance: np.ndarray, shift: float = 0.0) -> np.ndarray:
    """A kernel `(size, size)` that sums to 1.

    Args:
        size: size of the kernel in pixels. An even size has an additional row and column on one side; the centre is still a
            pixel, so that the image is not shifted.
        covariance: `(2, 2)` in pixels^2, rows and columns as (y, x).
        shift: offset of the Gaussian from the centre in pixels, down and right.
    """
    axis = np.arange(size) - size // 2 - shift
    offsets = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    distance = np.einsum("yxi,ij,yxj->yx", offsets, np.linalg.inv(covariance), offsets)
    kernel = np.exp(-0.5 * (distance - distance.min()))  # maximum 1, whatever the shift
    return kernel / kernel.sum()


def isotropic_kernel(size: int, sigma: float, shift: float = 0.0) -> np.ndarray:
    """An isotropic Gaussian with a standard deviation of `sigma` pixels, see `gaussian`."""
    return gaussian(size, np.eye(2) * max(sigma**2, MIN_VARIANCE), shift)


def anisotropic_kernel(size: int, variances: tuple[float, float], angle: float) -> np.ndarray:
    """A Gaussian with two variances (pixels^2) along axes rotated by `angle` radians."""
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return gaussian(size, rotation @ np.diag(np.maximum(variances, MIN_VARIANCE)) @ rotation.T)


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Filter `(H, W, C)` float32 with `kernel`, with reflection padding.

    The weight `kernel[centre + d]` is that of the pixel at offset d. Border pixels are not repeated.
    """
    from scipy.signal import fftconvolve  # here, because it takes most of a second and few models need it

    before, after = kernel.shape[0] // 2, (kernel.shape[0] - 1) // 2
    padded = np.pad(image, ((before, after), (before, after), (0, 0)), mode="reflect")
    return fftconvolve(padded, kernel[::-1, ::-1, None], mode="valid", axes=(0, 1)).astype(np.float32)
