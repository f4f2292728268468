"""Blurring images as arrays with Gaussian kernels: round, oblong and shifted."""

import numpy as np

NARROWEST = 0.01  # pixels^2: a variance that leaves neighbours nothing


def gaussian(size: int, covariance: np.ndarray, shift: float = 0.0) -> np.ndarray:
    """A kernel `(size, size)` that sums to 1.

    Args:
        size: of the window in pixels. One of an even size has a column and a row more on one side; its centre stays a pixel,
            so that it moves nothing.
        covariance: `(2, 2)` in pixels^2, rows and columns as (y, x).
        shift: of the Gaussian against the centre, in pixels of both axes, down and right.
    """
    axis = np.arange(size) - size // 2 - shift
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    distance = np.einsum("yxi,ij,yxj->yx", places, np.linalg.inv(covariance), places)
    kernel = np.exp(-0.5 * (distance - distance.min()))  # at its largest 1, however far the shift
    return kernel / kernel.sum()


def round_kernel(size: int, sigma: float, shift: float = 0.0) -> np.ndarray:
    """An isotropic Gaussian of standard deviation `sigma` pixels, as `gaussian` has it."""
    return gaussian(size, np.eye(2) * max(sigma**2, NARROWEST), shift)


def oblong_kernel(size: int, variances: tuple[float, float], angle: float) -> np.ndarray:
    """A Gaussian with two variances (pixels^2) along axes that are turned by `angle` radians."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return gaussian(size, turn @ np.diag(np.maximum(variances, NARROWEST)) @ turn.T)


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Weigh the surroundings of every pixel of `(H, W, C)` float32 by `kernel`; beyond the border the image is mirrored.

    The weight `kernel[centre + d]` belongs to the pixel at distance d. The pixels of the border are not doubled.
    """
    from scipy.signal import fftconvolve  # here, for it takes most of a second, and few models need it

    before, after = kernel.shape[0] // 2, (kernel.shape[0] - 1) // 2
    padded = np.pad(image, ((before, after), (before, after), (0, 0)), mode="reflect")
    return fftconvolve(padded, kernel[::-1, ::-1, None], mode="valid", axes=(0, 1)).astype(np.float32)
