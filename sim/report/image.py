"""Small pictures for heat maps: PNG with a palette, as a data URI that a page carries in itself."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int, int]  # red, green, blue, alpha; 0 to 255

# Seventeen colours along viridis (S. van der Walt and N. Smith, matplotlib 1.5, CC0); those between are interpolated.
_VIRIDIS = np.array(
    [
        (68, 1, 84), (72, 24, 106), (71, 45, 123), (66, 64, 134), (59, 82, 139), (51, 99, 141),
        (44, 114, 142), (38, 130, 142), (33, 145, 140), (31, 160, 136), (40, 174, 128), (63, 188, 115),
        (94, 201, 98), (132, 212, 75), (173, 220, 48), (216, 226, 25), (253, 231, 37),
    ]
)  # fmt: skip
LEVELS = 255


def viridis() -> tuple[Colour, ...]:
    """LEVELS colours from dark to light, after one at index 0 that is transparent."""
    at = np.linspace(0, len(_VIRIDIS) - 1, LEVELS)
    channels = [np.interp(at, np.arange(len(_VIRIDIS)), _VIRIDIS[:, k]).round().astype(int).tolist() for k in range(3)]
    return ((0, 0, 0, 0), *((r, g, b, 255) for r, g, b in zip(*channels, strict=True)))


def ink(levels: int) -> tuple[Colour, ...]:
    """Black from transparent (0) to opaque (`levels`, at most 255)."""
    return tuple((0, 0, 0, 255 * level // levels) for level in range(levels + 1))


def png(indices: NDArray[np.integer], palette: tuple[Colour, ...], enlarge: int = 4) -> str:
    """A data URI of a PNG (ISO/IEC 15948, indexed colour, 8 bits).

    Args:
        indices: into the palette, (height, width).
        palette: at most 256 colours.
        enlarge: pixels for each entry, both ways, so that viewers that smooth pictures blur only its rim.
    """
    picture = np.repeat(np.repeat(indices.astype(np.uint8), enlarge, axis=0), enlarge, axis=1)
    height, width = picture.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), picture], axis=1)  # filter 0 before each line
    chunks = (
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        _chunk(b"PLTE", bytes(channel for colour in palette for channel in colour[:3])),
        _chunk(b"tRNS", bytes(colour[3] for colour in palette)),
        _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
        _chunk(b"IEND", b""),
    )
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
