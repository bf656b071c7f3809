"""Decoding and resizing is most of the work of reading an image, so it is done once and kept on disk, ready to be mapped.

An entry is a `.npy` file named by the digest of the image file's bytes and of what was done to it, with a checksum and the
original's size after the pixels. Any number of processes may share the folder: an entry appears whole by a rename, writers
take turns under a file lock, and the sum of all entries never exceeds the bound, because the least recently used ones are
removed first.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelwise.folders import cache_folder
from pixelwise.geometry.homography import Size

LIMIT = 20 * 2**30
"""Bytes of all entries together, unless PIXELWISE_CACHE_LIMIT says otherwise."""
MOST_OPEN = 16384
"""Entries mapped at a time; systems allow a process 65530 maps."""
KEPT = 0.9
"""Share of the bound that eviction leaves, so that it is rare."""
FORMAT = 1
"""Part of every key; raised when entries or the ways of making them change."""
_FOOTER = struct.Struct("<QII")
_DTYPES = {np.dtype(np.uint8): torch.uint8, np.dtype(np.float32): torch.float32}


class Picture(NamedTuple):
    """The values of an image, label map, depth or normals, and the (height, width) of the original it was made from."""

    values: Tensor
    original_size: Size


class Cache:
    """Pictures on disk, bounded in total and shared between processes.

    Attributes:
        folder: Where the entries are.
        limit: Largest sum of their sizes in bytes; a larger picture is not kept.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        self.folder = folder or cache_folder() / "pixels"
        self.limit = int(os.environ.get("PIXELWISE_CACHE_LIMIT", LIMIT)) if limit is None else limit
        self._open: dict[tuple[Path, str], Picture] = {}
        self._digests: dict[Path, tuple[tuple[int, int], str]] = {}

    def __getstate__(self) -> tuple[Path, int]:
        return self.folder, self.limit

    def __setstate__(self, state: tuple[Path, int]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def get(self, path: Path, preparation: str, build: Callable[[], Picture]) -> Picture:
        """Return what `build` makes from the file at `path`, from the cache where it is there.

        Args:
            path: The file; its contents are the key, so copies share an entry and a changed file gets a new one.
            preparation: Everything else the values depend on.
            build: Makes the picture, uint8 or float32; called if there is no sound entry.

        Returns:
            The picture, mapped copy-on-write: changing it changes no file. A cache that cannot be written only makes
            things slower.
        """
        found = self._open.get((path, preparation))
        if found is None:
            try:
                key = f"{FORMAT} {self._digest(path)} {preparation}"
            except OSError:
                return build()
            name = hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
            entry = self.folder / name[:2] / f"{name}.npy"
            found = _mapped(entry)
            if found is None:
                found = build()
                self._write(entry, found)
                return found
            if len(self._open) >= MOST_OPEN:
                self._open.clear()
            self._open[path, preparation] = found
        return found

    def _digest(self, path: Path) -> str:
        state = path.stat()
        stamp = (state.st_size, state.st_mtime_ns)
        known = self._digests.get(path)
        if known is None or known[0] != stamp:
            known = (stamp, hashlib.blake2b(path.read_bytes(), digest_size=20).hexdigest())
            self._digests[path] = known
        return known[1]

    def _write(self, entry: Path, picture: Picture) -> None:
        """Add an entry if it fits, counting it before it exists, so that a crash can only make the count too large."""
        array = picture.values.contiguous().numpy()
        header, footer = _header(array), _FOOTER.pack(_checksum(array), *picture.original_size)
        size = len(header) + array.nbytes + len(footer)
        if size > self.limit:
            return
        with suppress(OSError), _locked(self.folder) as total:
            if entry.exists():  # by another process in the meantime, or damaged
                if _mapped(entry) is not None:
                    return
                entry.unlink()
            used = _read_total(total)
            if used is None or used + size > self.limit:
                used = self._evict(size)
            _write_total(total, used + size)
            self._place(entry, header, array.data, footer)

    def _place(self, entry: Path, *parts: bytes | memoryview) -> None:
        draft = self.folder / "draft"
        with draft.open("wb", buffering=0) as file:
            os.writev(file.fileno(), parts)
        try:
            draft.replace(entry)
        except FileNotFoundError:
            entry.parent.mkdir()
            draft.replace(entry)

    def _evict(self, size: int) -> int:
        """Remove the entries used longest ago until `size` more bytes fit; return what the rest holds."""
        (self.folder / "draft").unlink(missing_ok=True)
        entries = sorted((state.st_mtime_ns, state.st_size, path) for path, state in self._entries())
        used = sum(length for _, length, _ in entries)
        room = used if used + size <= self.limit else min(int(KEPT * self.limit), self.limit - size)
        for _, length, path in entries:
            if used <= room:
                break
            path.unlink(missing_ok=True)
            used -= length
        return used

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.glob("??/*.npy"):
            yield path, path.stat()


@contextmanager
def _locked(folder: Path) -> Iterator[io.FileIO]:
    """Hold the folder's lock; the locked file keeps the sum of the sizes of all entries."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with io.FileIO(os.open(folder / "total", os.O_RDWR | os.O_CREAT, 0o666), "r+") as total:
        fcntl.flock(total, fcntl.LOCK_EX)
        yield total


def _read_total(total: io.FileIO) -> int | None:
    text = total.read()
    return int(text) if text.isdigit() else None


def _write_total(total: io.FileIO, used: int) -> None:
    total.seek(0)
    total.write(b"%020d" % used)


def _header(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    return stream.getvalue()


def _checksum(array: NDArray[Any]) -> int:
    """Sum the bytes as 64-bit words: it finds pages that never reached the disk at the speed of memory."""
    flat = array.reshape(-1).view(np.uint8)
    whole = flat.size // 8 * 8
    return (int(flat[:whole].view(np.uint64).sum()) + 257 * int(flat[whole:].sum()) + 1) % 2**64


def _mapped(entry: Path) -> Picture | None:
    """Map an entry and mark it as used, or return nothing if it is missing or damaged.

    `torch.from_file` maps privately and keeps no file open, so thousands of entries stay within the limit on open files.
    """
    try:
        with entry.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            start, size = file.tell(), os.fstat(file.fileno()).st_size
        end = start + math.prod(shape) * dtype.itemsize
        if end + _FOOTER.size != size:
            return None
        contents = torch.from_file(str(entry), shared=False, size=size, dtype=torch.uint8)
        values = contents[start:end].view(_DTYPES[dtype]).view(shape)
        checksum, height, width = _FOOTER.unpack(contents[end:].numpy().tobytes())
        if checksum != _checksum(values.numpy()):
            return None
        os.utime(entry)
    except (OSError, ValueError, KeyError, RuntimeError):
        return None
    return Picture(values, (height, width))
