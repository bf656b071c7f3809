"""Single frames of a video as pictures in the cache folder, for labels that name frames by their number.

The video is decoded from its beginning, since seeking is not exact in every container; so a number means the same frame that
`footage` and OpenCV give it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image as PillowImage

from pixelwise.data.video import VideoFile
from pixelwise.errors import DataError
from pixelwise.folders import cache_folder


def extracted(video: Path, numbers: Iterable[int]) -> dict[int, Path]:
    """Return a PNG of each frame, counted from 0; those that are not in the cache yet are decoded in one pass.

    A frame that the video does not have gets a path without a file.

    Raises:
        DataError: The file is no video, or is damaged, so that numbers mean nothing.
        UsageError: PyAV is not installed.
    """
    about = video.resolve().stat()
    digest = hashlib.blake2b(f"{video.resolve()} {about.st_size} {about.st_mtime_ns}".encode(), digest_size=12).hexdigest()
    folder = cache_folder() / "frames" / digest
    files = {number: folder / f"{number:06}.png" for number in numbers}
    wanted = {number for number, file in files.items() if not file.exists()}
    if wanted:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as unsure:  # damage is known at the end only
            footage = VideoFile(video)
            for shot in footage:
                if shot.number in wanted:
                    pixels = shot.pixels.permute(1, 2, 0).contiguous().numpy()
                    PillowImage.fromarray(pixels).save(Path(unsure) / files[shot.number].name)
            if footage.flaws:
                raise DataError(f"{video}: {footage.flaws[0]}", "numbers of frames mean nothing there: extract them by hand")
            for made in Path(unsure).iterdir():
                made.replace(folder / made.name)
    return files
