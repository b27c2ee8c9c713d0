"""Images of samples as npz files: written atomically, and validated when read.

A file from outside may claim any size; header, shape and sizes are compared with the one shape of samples
before anything is unpacked.
"""

import hashlib
import io
import os
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy

from engine.atomic import sync_folder
from engine.contract import IMAGE_SIZE
from engine.errors import StoreError

UNREADABLE: Final = (  # what the zip and npy readers raise on bytes that they do not expect
    *(OSError, ValueError, EOFError, RuntimeError, NotImplementedError, SyntaxError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
SHAPE: Final = (IMAGE_SIZE, IMAGE_SIZE)
MEMBER: Final = "spectrogram.npy"
MAX_HEADER_BYTES: Final = 4096
MAX_BYTES: Final = IMAGE_SIZE * IMAGE_SIZE + MAX_HEADER_BYTES  # what the array may unpack to
MAX_FILE_BYTES: Final = 2 * MAX_BYTES


def image_hash(image: np.ndarray) -> str:
    """SHA-256 (hex) of the pixels, uint8[1024, 1024]."""
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()


def write_image(path: Path, image: np.ndarray) -> None:
    """`image` uint8[1024, 1024] as npz: aside, flushed, renamed. Raises StoreError naming the file."""
    write_whole(path, lambda file: np.savez_compressed(file, spectrogram=image))


def write_whole(path: Path, save: Callable[[Any], None]) -> None:
    """Replaces a file in one step by what `save` writes into an open binary one. Raises StoreError naming the file."""
    try:
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=".", delete=False) as file:
            try:
                save(file)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror or error}); check space and rights, then repeat"
        ) from error


def read_image(path: Path, expected_hash: str) -> np.ndarray:
    """uint8[1024, 1024], the caller's own. Raises StoreError, naming the file, on anything else."""
    try:
        if path.is_symlink() or path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"a link, or above {MAX_FILE_BYTES} bytes")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if [member.filename for member in members] != [MEMBER] or members[0].file_size > MAX_BYTES:
                raise ValueError(f"it should hold {MEMBER} alone, of at most {MAX_BYTES} bytes")
            content = archive.read(members[0])
        stream = io.BytesIO(content)
        if npy.read_magic(stream) != (1, 0):
            raise ValueError("not version 1.0 of the npy format")
        shape, by_columns, dtype = npy.read_array_header_1_0(stream, max_header_size=MAX_HEADER_BYTES)
        if shape != SHAPE or dtype != np.uint8 or by_columns:
            raise ValueError(f"{dtype}{list(shape)} instead of uint8{list(SHAPE)}")
        image = np.frombuffer(content, np.uint8, offset=stream.tell()).reshape(SHAPE).copy()
    except UNREADABLE as error:
        raise StoreError(f"{path}: not the image of a sample ({error}); remove the sample and add it again") from error
    if image_hash(image) != expected_hash:
        raise StoreError(f"{path}: the image is not the one that was added; remove the sample and add it again")
    return image
