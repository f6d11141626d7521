"""Fits a Gaussian process to few, noisy rows: each coordinate has a length of its own, held back by a weak prior."""

import warnings
from collections.abc import Callable
from math import log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel

Array = npt.NDArray[np.float64]
STEPS = 25
"""The most steps of the optimiser that fits the lengths."""
LENGTH, SPREAD = 0.6, 1.0
"""The prior of a length: log-normal around LENGTH·√d, with this deviation of its logarithm."""


def first_kernel(dimensions: int) -> Kernel:
    """Returns the kernel before anything is known: Matérn 5/2 with one length per coordinate, and noise."""
    lengths = np.full(dimensions, LENGTH * sqrt(dimensions))
    return ConstantKernel(1.0, (0.1, 4.0)) * Matern(lengths, (0.05, 50.0), nu=2.5) + WhiteKernel(0.2, (1e-2, 1.0))


def fitted_kernel(x: Array, y: Array, start: Kernel) -> Kernel:
    """Returns the kernel with the most probable lengths and noise, given rows x (n, d) with values y (n,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length or the noise may end at its bound
        return _regressor(start, _most_probable).fit(x, y).kernel_


def condition(x: Array, y: Array, kernel: Kernel) -> GaussianProcessRegressor:
    """Returns the process with this kernel, conditioned on rows x (n, d) with values y (n,)."""
    return _regressor(kernel, None).fit(x, y)


def predict(process: GaussianProcessRegressor, x: Array) -> tuple[Array, Array]:
    """Returns the expected value and its deviation, without noise, of each row of x (n, d)."""
    noise = float(process.kernel_.k2.noise_level)
    mean, deviation = process.predict(x, return_std=True)
    return mean, np.sqrt(np.maximum(deviation**2 - noise, 1e-12))


def predict_mean(process: GaussianProcessRegressor, x: Array) -> tuple[float, float]:
    """Returns the expected mean of the rows of x (n, d) and its deviation, without noise."""
    mean, covariance = process.predict(x, return_cov=True)
    noise = float(process.kernel_.k2.noise_level) * len(x)
    return float(mean.mean()), float(np.sqrt(max(covariance.sum() - noise, 1e-12)) / len(x))


def _regressor(kernel: Kernel, optimizer: Any) -> GaussianProcessRegressor:
    return GaussianProcessRegressor(kernel, alpha=1e-8, optimizer=optimizer, copy_X_train=False)


def _most_probable(loss: Callable[[Array], tuple[float, Array]], start: Array, bounds: Array) -> tuple[Array, float]:
    """Minimises scikit-learn's loss over the logarithms (variance, lengths, noise) together with the lengths' prior."""
    lengths = slice(1, len(start) - 1)
    middle = log(LENGTH * sqrt(len(start) - 2))

    def with_prior(theta: Array) -> tuple[float, Array]:
        value, slope = loss(theta)
        off = (theta[lengths] - middle) / SPREAD
        slope = slope.copy()
        slope[lengths] += off / SPREAD
        return value + 0.5 * float(off @ off), slope

    found = minimize(with_prior, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": STEPS})
    return found.x, float(found.fun)
