"""The frames of a video file, or of a folder of images, one after another: each is decoded once and keeps its own time.

Video files are read and written with PyAV (`pip install 'pixelwise[video]'`), imported only then; folders need nothing.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import Tensor

from pixelwise.data.images import SUFFIXES as IMAGES
from pixelwise.data.images import decode_image
from pixelwise.errors import DataError, UsageError

SUFFIXES = frozenset({".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})
OPENING = {"protocol_whitelist": "file", "format_whitelist": "mov,matroska,avi,mpeg,mpegts,asf"}
"""Only containers are ever tried, so that no playlist can name other files or addresses."""
ENCODER = "libx264"
QUALITY = {"crf": "18", "preset": "veryfast"}
BT709, BT601 = 1, 5
"""How YUV becomes RGB, by FFmpeg's numbers of its scaler."""
COLOUR_SPACES = {1: BT709, 7: 7, 9: 9, 10: 9}
"""The scaler's numbers for those that streams state; others, and streams that state none, are BT.601."""
JPEG_QUALITY = 95


class Shot(NamedTuple):
    """One frame: its number from 0, its time in seconds, and its pixels as they are to be seen, uint8 `(3, H, W)`."""

    number: int
    time: float
    pixels: Tensor
    ticks: int
    """The time in units of the file's own clock."""
    name: str = ""


class Writer(ABC):
    """Where the drawn frames go, in order; used as a context, so that what was written can be read whatever happens.

    Attributes:
        saved: What is written.
        notes: What the user should know about it.
    """

    saved: Path

    def __init__(self) -> None:
        self.notes: list[str] = []

    @abstractmethod
    def write(self, shot: Shot, picture: PillowImage.Image) -> None:
        """Add the picture of the next frame."""

    def complete(self) -> None:  # noqa: B027 (a hook)
        """Write what is held back; by default nothing is."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Complete the file."""
        self.complete()


class Footage(ABC):
    """Frames in the order of time.

    Attributes:
        path: The file or folder.
        count: How many frames there should be; None if that is not known.
        flaws: What was found to be damaged or missing, as far as the frames have been read.
    """

    count: int | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.flaws: list[str] = []

    @abstractmethod
    def __iter__(self) -> Iterator[Shot]:
        """Decode the frames one by one."""

    @abstractmethod
    def writer(self, target: Path) -> Writer:
        """Return what writes pictures of the frames to `target`, with the suffix added that fits."""


def natural(name: str) -> list[tuple[int, str]]:
    """Return a key by which frame 10 comes after frame 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


class FrameFolder(Footage):
    """The images of a folder, in the order of their names, numbers by their value."""

    def __init__(self, path: Path, rate: float) -> None:
        """Look for images.

        Args:
            path: The folder.
            rate: Frames per second.

        Raises:
            DataError: It holds none.
        """
        super().__init__(path)
        images = [file for file in path.iterdir() if file.suffix.lower() in IMAGES] if path.is_dir() else []
        if not images:
            raise DataError(f"no image in {path}", "known suffixes: " + " ".join(sorted(IMAGES)))
        self.images = sorted(images, key=lambda file: natural(file.name))
        self.count = len(images)
        self.rate = rate

    def __iter__(self) -> Iterator[Shot]:
        """Decode the images; one that cannot be read is passed over, and keeps its number and time."""
        for number, file in enumerate(self.images):
            try:
                pixels = decode_image(file)
            except DataError as error:
                self.flaws.append(f"frame {number} is left out: {error}")
                continue
            yield Shot(number, number / self.rate, pixels, number, file.stem)

    def writer(self, target: Path) -> Writer:
        """Return what writes pictures into the folder `target`."""
        return FolderWriter(target)


class FolderWriter(Writer):
    """Writes every picture as a JPEG file of the frame's name."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.saved = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, shot: Shot, picture: PillowImage.Image) -> None:
        """Write one file."""
        picture.convert("RGB").save(self.saved / f"{shot.name}.jpg", quality=JPEG_QUALITY)


def _av() -> Any:
    if find_spec("av") is None:
        raise UsageError(
            "reading a video needs av", "pip install 'pixelwise[video]'; or name a folder of its frames, with frames=true"
        )
    import av

    return av


class VideoFile(Footage):
    """A video file, turned upright as its display matrix says."""

    def __init__(self, path: Path) -> None:
        """Look at the header.

        Raises:
            DataError: The file is no video that can be read.
            UsageError: PyAV is not installed.
        """
        super().__init__(path)
        self.av = _av()
        with closing(self.open()) as container:
            if not container.streams.video:
                raise DataError(f"{path} holds no pictures")
            stream = container.streams.video[0]
            self.count = stream.frames or None
            self.rate = stream.average_rate or Fraction(30)
            self.clock: Fraction = stream.time_base
            self.aspect = stream.sample_aspect_ratio
            self.size = stream.height, stream.width

    def open(self) -> Any:
        """Return the opened container."""
        try:
            return self.av.open(str(self.path.resolve()), options=OPENING, metadata_errors="replace")
        except (self.av.FFmpegError, OSError) as error:
            raise DataError(f"{self.path} is no video that can be read: {error.strerror}") from None

    def __iter__(self) -> Iterator[Shot]:
        """Decode every frame once; what is damaged is passed over and goes into `flaws`."""
        with closing(self.open()) as container:
            step = max(1, round(1 / self.rate / self.clock))
            ticks = None
            for number, frame in enumerate(self._decoded(container)):
                following = 0 if ticks is None else ticks + step
                ticks = frame.pts if frame.pts is not None and (ticks is None or frame.pts > ticks) else following
                space = COLOUR_SPACES.get(frame.colorspace, BT601)
                coloured = frame.reformat(format="rgb24", src_colorspace=space, dst_colorspace=space).to_ndarray()
                pixels = np.rot90(coloured, frame.rotation // 90)
                whole = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
                yield Shot(number, float(ticks * self.clock), whole, ticks)

    def _decoded(self, container: Any) -> Iterator[Any]:
        stream = container.streams.video[0]
        packets, found, damaged = container.demux(stream), 0, 0
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                found += packet.size > 0
                damaged += packet.is_corrupt
                frames = [] if packet.is_corrupt else packet.decode()
            except self.av.FFmpegError:
                damaged += 1
                frames = []
            yield from frames
        if damaged:
            self.flaws.append(f"{damaged} of {found} frames are damaged")
        if self.count and found < self.count:
            self.flaws.append(f"the file announces {self.count} frames and ends after {found}")

    def writer(self, target: Path) -> Writer:
        """Return what writes a video beside the sound of this one."""
        return VideoWriter(Path(f"{target}.mp4"), self)


class VideoWriter(Writer):
    """Writes H.264 in MP4 at the times of the frames, and copies the sound without decoding it."""

    def __init__(self, path: Path, source: VideoFile) -> None:
        super().__init__()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.saved, self.source = path, source
        self._open = ExitStack()
        self._container = self._open.enter_context(closing(source.av.open(str(path), "w")))
        self._stream: Any = None
        self._size = (0, 0)
        self._sound: Iterator[Any] = iter(())
        self._next: Any = None

    def write(self, shot: Shot, picture: PillowImage.Image) -> None:
        """Encode one picture, of the first one's size; then let the sound catch up."""
        pixels = np.asarray(picture.convert("RGB"))
        if self._stream is None:
            self._begin(*pixels.shape[:2])
        frame = self.source.av.VideoFrame.from_ndarray(_filling(pixels, *self._size), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=BT709)
        frame.pts, frame.time_base, frame.colorspace = shot.ticks, self.source.clock, BT709
        self._container.mux(self._stream.encode(frame))
        self._copy_sound(shot.time)

    def _begin(self, height: int, width: int) -> None:
        self._size = height + height % 2, width + width % 2
        if self._size != (height, width):
            self.notes.append(f"padded from {width}x{height} to {self._size[1]}x{self._size[0]}: H.264 wants even sides")
        stream = self._container.add_stream(ENCODER, rate=self.source.rate, options=QUALITY)
        stream.height, stream.width, stream.pix_fmt = *self._size, "yuv420p"
        stream.codec_context.time_base = self.source.clock
        stream.codec_context.colorspace = BT709
        if self.source.aspect and (height, width) == self.source.size:  # a turned picture has other pixels
            stream.codec_context.sample_aspect_ratio = self.source.aspect
        self._stream = stream
        self._begin_sound()

    def _begin_sound(self) -> None:
        source = self._open.enter_context(closing(self.source.open()))
        for stream in source.streams.audio[:1]:
            name = stream.codec_context.name if stream.codec_context else "of unknown kind"
            if name not in self._container.supported_codecs:
                self.notes.append(f"the sound ({name}) does not fit into {self.saved.suffix} and is left out")
                continue
            copy = self._container.add_stream_from_template(stream)
            self._sound = self._packets(source.demux(stream), copy)
            self._next = next(self._sound, None)

    def _packets(self, packets: Iterator[Any], copy: Any) -> Iterator[Any]:
        with suppress(self.source.av.FFmpegError):
            for packet in packets:
                if packet.size and packet.dts is not None and not packet.is_corrupt:
                    packet.stream = copy
                    yield packet

    def _copy_sound(self, until: float) -> None:
        while self._next is not None and self._next.dts * self._next.time_base <= until:
            self._container.mux(self._next)
            self._next = next(self._sound, None)

    def complete(self) -> None:
        """Write what the encoder holds back, and the sound that is left."""
        with self._open:
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
                self._copy_sound(float("inf"))


def _filling(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return pixels `(H, W, 3)` cut to a size, or continued by their last row and column."""
    pixels = pixels[:height, :width]
    missing = ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0))
    return np.ascontiguousarray(np.pad(pixels, missing, mode="edge"))
