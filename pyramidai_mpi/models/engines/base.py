"""What an engine must offer, whatever library is behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray


class SeenTiles(NamedTuple):
    """What networks are given of n tiles.

    Attributes
    ----------
    pixels
        uint8 (n, T, T, 3).
    positions
        float32 (n, 2), see `Grid.positions`; for networks that see them.
    """

    pixels: RgbArray
    positions: npt.NDArray[np.float32]


class Engine(Protocol):
    """One level's network, ready to run on one thread.

    The result for a tile must not depend on the other tiles of the call, on its place among them or on their number:
    bit for bit. Engines reach this by running one fixed batch shape, padded.
    """

    @property
    def backend(self) -> str:
        """The library that runs it."""
        ...

    @property
    def precision(self) -> str:
        """``float32`` or ``bfloat16``: what floating-point operations are computed in."""
        ...

    @property
    def batch_shape(self) -> int:
        """Tiles in the fixed shape that the network is run with."""
        ...

    @property
    def n_features(self) -> int:
        """Length of the feature vector, 0 when the network has none."""
        ...

    @property
    def sees_position(self) -> bool:
        """Whether it has to be told where tiles lie."""
        ...

    def predict(
        self, pixels: RgbArray, *, features: bool = False, positions: npt.NDArray[np.float32] | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """Class probabilities float32 (n, C), and features float32 (n, F) when asked, of uint8 (n, T, T, 3).

        Parameters
        ----------
        pixels
            The tiles.
        features
            Whether features are wanted.
        positions
            float32 (n, 2), where the tiles lie, see `Grid.positions`; of a network that does not see it nothing.
        """
        ...
