"""Pixels of known stains, and both methods of normalisation in the usual steps of float64 numpy."""

from __future__ import annotations

import numpy as np

from pyramidai_mpi.models.stain.engine import StainEngine
from pyramidai_mpi.models.stain.graph import stain_graph
from pyramidai_mpi.models.stain.map import ReinhardTarget

HEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.07, 0.99, 0.11])
REINHARD = ReinhardTarget((-0.35, 0.01, -0.02), (0.12, 0.03, 0.02))
LMS_OF_RGB = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])


def stained(hematoxylin=HEMATOXYLIN, eosin=EOSIN, n=20000, seed=0, strength=1.0):
    """Pixels of known stains (n, 3): mixtures from pure to pure."""
    rng = np.random.default_rng(seed)
    amounts = strength * rng.uniform(0.4, 1.6, (n, 1)) * np.stack([share := rng.uniform(0, 1, n), 1 - share], axis=1)
    vectors = np.stack([hematoxylin / np.linalg.norm(hematoxylin), eosin / np.linalg.norm(eosin)])
    return np.rint(np.clip(240 * np.exp(-(amounts @ vectors)) - 1, 0, 255)).astype(np.uint8)


def densities_of(pixels):
    """Optical densities of the stained ones among pixels (n, 3)."""
    densities = -np.log((pixels.astype(float) + 1) / 240)
    return densities[(densities >= 0.15).all(axis=1)]


def lab_of(pixels):
    """l, alpha, beta of pixels (n, 3)."""
    log_lms = np.log10((pixels.astype(float) + 1) / 256 @ LMS_OF_RGB.T)
    long, medium, short = log_lms.T
    return np.stack(
        [
            (long + medium + short) / np.sqrt(3),
            (long + medium - 2 * short) / np.sqrt(6),
            (long - medium) / np.sqrt(2),
        ],
        axis=1,
    )


def plain_macenko(pixels, slide_pixels, target):
    """Macenko's method, float64 of any shape (..., 3)."""
    densities = densities_of(slide_pixels)
    _, _, directions = np.linalg.svd(np.cov(densities.T))
    plane = directions[:2] * np.where(directions[:2].sum(axis=1) < 0, -1, 1)[:, None]
    angles = np.arctan2(densities @ plane[1], densities @ plane[0])
    extremes = np.percentile(angles, [1, 99])
    stains = np.cos(extremes)[:, None] * plane[0] + np.sin(extremes)[:, None] * plane[1]
    stains = stains[np.argsort(-stains[:, 0])]  # hematoxylin takes more red
    strengths = np.percentile(np.linalg.lstsq(stains.T, densities.T, rcond=None)[0], 99, axis=1)
    own = np.linalg.lstsq(stains.T, -np.log((pixels.reshape(-1, 3).astype(float) + 1) / 240).T, rcond=None)[0]
    own *= (np.array(target.strengths) / strengths)[:, None]
    wanted = 240 * np.exp(-np.array([target.hematoxylin, target.eosin]).T @ own)
    return np.clip(wanted, 0, 255).T.reshape(pixels.shape)


def plain_reinhard(pixels, slide_pixels, target):
    """Reinhard's method, float64 of any shape (..., 3)."""
    densities = -np.log((slide_pixels.astype(float) + 1) / 240)
    tissue = lab_of(slide_pixels[(densities >= 0.15).all(axis=1)])
    lab = (lab_of(pixels.reshape(-1, 3)) - tissue.mean(axis=0)) / tissue.std(axis=0) * target.std + target.mean
    r3, r6, r2 = np.sqrt([3, 6, 2])
    log_lms = lab @ np.array([[r3 / 3, r6 / 6, r2 / 2], [r3 / 3, r6 / 6, -r2 / 2], [r3 / 3, -r6 / 3, 0]]).T
    return np.clip(256 * np.linalg.solve(LMS_OF_RGB, (10**log_lms).T).T - 1, 0, 255).reshape(pixels.shape)


def pixels_looked_at(slide, rule):
    """The pixels (n, 3) of a slide that decide its map: every fourth of every fourth row of at most 64 roots."""
    roots = rule.roots()
    chosen = roots[np.unique(np.linspace(0, len(roots) - 1, 64).astype(int))]
    tiles = [slide.pyramid.read_tile(int(tile["level"]), int(tile["col"]), int(tile["row"])) for tile in chosen]
    return np.concatenate([tile[::4, ::4].reshape(-1, 3) for tile in tiles])


def normaliser_of(stain):
    """What the program normalises tiles of a slide with."""
    return StainEngine(stain_graph(mixes_channels=stain.mixes_channels)).normaliser(stain)
