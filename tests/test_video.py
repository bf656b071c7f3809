"""Videos and folders of frames: every frame once, at its own time, with its sound; what is damaged is said, the rest kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor

from pixelwise.asked import Footage, asked
from pixelwise.cli import main
from pixelwise.data import video
from pixelwise.data.video import FrameFolder, VideoFile
from pixelwise.errors import DataError, UsageError
from pixelwise.footage import predict_footage
from pixelwise.geometry.skeleton import Skeleton
from pixelwise.prediction import to_pillow
from pixelwise.predictions.keypoints import KeypointsPrediction

Finished = Callable[[str], Path]
HEIGHT, WIDTH = 48, 64
TICKS = (0, 40, 85, 90, 250, 251, 400, 433, 466, 500)
"""Milliseconds: no two frames are equally far apart."""
needs_av = pytest.mark.skipif(find_spec("av") is None, reason="av is not installed")


def grey(level: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), level, np.uint8)


def level(number: int) -> int:
    """The grey of frame `number`, by which it is known again."""
    return 20 + 20 * number


def written(
    path: Path, ticks: Sequence[int] = TICKS, sound: str = "", pictures: Sequence[np.ndarray[Any, Any]] = (), **options: Any
) -> Path:
    """Write a video of one grey per frame, with a tone if a codec is named."""
    import av

    options.setdefault("options", {})
    with av.open(str(path), "w", **options) as container:
        frames = [av.VideoFrame.from_ndarray(p, "rgb24") for p in pictures or [grey(level(n)) for n in range(len(ticks))]]
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = frames[0].height, frames[0].width, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.options = {"crf": "5", "g": "4"}
        tone = container.add_stream(sound, rate=48000) if sound else None
        for tick, frame in zip(ticks, frames, strict=True):
            frame.pts, frame.time_base = tick, Fraction(1, 1000)
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
        if tone:
            _add_tone(container, tone)
    return path


def _add_tone(container: Any, stream: Any) -> None:
    import av

    wave = np.sin(np.arange(24000) / 20).astype(np.float32) * 0.3
    size = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(stream.codec_context.format, stream.codec_context.layout, 48000)
    for start in range(0, len(wave) - size, size):
        block = np.stack([wave[start : start + size]] * len(stream.codec_context.layout.channels))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", stream.codec_context.layout)
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        for one in resampler.resample(frame):
            container.mux(stream.encode(one))
    container.mux(stream.encode(None))


def sound_of(path: Path) -> list[tuple[float, bytes]]:
    import av

    with av.open(str(path)) as container:
        return [(round(float(p.pts * p.time_base), 6), bytes(p)) for p in container.demux(container.streams.audio[0]) if p.size]


def marked(pixels: Tensor) -> KeypointsPrediction:
    """Answer with one point whose place is the grey of the frame: what a model sees is known from its answer."""
    points = pixels.float().mean().expand(1, 1, 2)
    return KeypointsPrediction(pixels, points, torch.full((1, 1), 0.5), Skeleton(names=("spot",)))


def table(path: str) -> list[dict[str, str]]:
    with Path(path).open() as file:
        return list(csv.DictReader(file))


# Folders of frames


def folder(path: Path, names: Sequence[str]) -> Path:
    path.mkdir()
    for number, name in enumerate(names):
        PillowImage.fromarray(grey(level(number))).save(path / name)
    return path


def test_frames_of_a_folder_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = ["a2.png", "a10.png", "a9_1.png", "b1.png"]
    ordered = ["a2.png", "a9_1.png", "a10.png", "b1.png"]
    shots = list(FrameFolder(folder(tmp_path / "in", names), 20))
    assert [shot.name for shot in shots] == [Path(name).stem for name in ordered]
    assert [int(shot.pixels[0, 0, 0]) for shot in shots] == [level(names.index(name)) for name in ordered]
    assert [shot.time for shot in shots] == [0, 0.05, 0.1, 0.15]


def test_a_damaged_frame_of_a_folder_is_left_out_and_said(tmp_path: Path) -> None:
    frames = folder(tmp_path / "in", ["0.png", "1.png", "2.png"])
    (frames / "1.png").write_bytes(b"no picture")
    done = predict_footage(marked, frames, tmp_path / "out", Footage(frames=True))  # type: ignore[arg-type]
    assert done["frames"] == 2 and len(done["flaws"]) == 1 and "frame 1 is left out" in done["flaws"][0]
    assert [row["frame"] for row in table(str(tmp_path / "out.csv"))] == ["0", "2"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.jpg", "2.jpg"]


def test_an_empty_folder_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="no image in"):
        FrameFolder(tmp_path / "in", 30)


# Files


@needs_av
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_every_frame_is_decoded_once_at_its_own_time(tmp_path: Path, name: str) -> None:
    shots = list(VideoFile(written(tmp_path / name)))
    assert [round(1000 * shot.time, 6) for shot in shots] == list(TICKS)
    assert [shot.number for shot in shots] == list(range(len(TICKS)))
    assert all(abs(float(shot.pixels.float().mean()) - level(shot.number)) < 2 for shot in shots)


@needs_av
def test_a_copy_has_the_same_frames_at_the_same_times_and_the_same_sound(tmp_path: Path) -> None:
    source = VideoFile(written(tmp_path / "a.mp4", sound="aac"))
    with source.writer(tmp_path / "copy") as writer:
        for shot in source:
            writer.write(shot, to_pillow(shot.pixels))
    assert source.flaws == [] and writer.notes == [] and writer.saved == tmp_path / "copy.mp4"
    copied = list(VideoFile(writer.saved))
    assert [shot.time for shot in copied] == [shot.time for shot in source]
    assert all(abs(float(shot.pixels.float().mean()) - level(shot.number)) < 3 for shot in copied)
    assert len(sound_of(tmp_path / "a.mp4")) > 15 and sound_of(tmp_path / "a.mp4") == sound_of(writer.saved)


@needs_av
def test_sound_goes_on_after_the_last_picture(tmp_path: Path) -> None:
    source = VideoFile(written(tmp_path / "a.mp4", ticks=(0, 40, 80), sound="aac"))
    with source.writer(tmp_path / "copy") as writer:
        for shot in source:
            writer.write(shot, to_pillow(shot.pixels))
    assert sound_of(writer.saved)[-1][0] > 0.4 and sound_of(tmp_path / "a.mp4") == sound_of(writer.saved)


@needs_av
def test_times_that_are_missing_or_stand_still_go_on_at_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 25 frames per second 40 ms stand for a time that is not stated or no later than the one before."""
    import av

    source = VideoFile(written(tmp_path / "a.mkv", ticks=tuple(range(0, 400, 40))))
    frames = [av.VideoFrame(8, 8, "rgb24") for _ in range(5)]
    for frame, stated in zip(frames, (0, 0, None, 30, 500), strict=True):
        frame.pts = stated
    monkeypatch.setattr(source, "_decoded", lambda container: iter(frames))
    assert [shot.ticks for shot in source] == [0, 40, 80, 120, 500]


@needs_av
def test_a_title_in_another_encoding_is_no_reason_to_stop(tmp_path: Path) -> None:
    """As cameras and converters wrote them before UTF-8."""
    path = written(tmp_path / "a.avi")
    import av

    with av.open(str(path)) as source, av.open(str(tmp_path / "b.avi"), "w") as titled:
        titled.metadata["title"] = "CAFETIERE"
        copy = titled.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                titled.mux(packet)
    (tmp_path / "b.avi").write_bytes((tmp_path / "b.avi").read_bytes().replace(b"CAFETIERE", b"CAFETI\xc8RE"))
    assert len(list(VideoFile(tmp_path / "b.avi"))) == len(TICKS)


@needs_av
def test_sound_that_does_not_fit_is_left_out_and_said(tmp_path: Path) -> None:
    source = VideoFile(written(tmp_path / "a.avi", sound="adpcm_ms"))
    with source.writer(tmp_path / "copy") as writer:
        for shot in source:
            writer.write(shot, to_pillow(shot.pixels))
    assert writer.notes == ["the sound (adpcm_ms) does not fit into .mp4 and is left out"]
    assert len(list(VideoFile(writer.saved))) == len(TICKS)


@needs_av
def test_colours_come_back_as_they_were(tmp_path: Path) -> None:
    colours = [(200, 30, 40), (20, 180, 60), (30, 60, 210), (128, 128, 128)]
    source = VideoFile(written(tmp_path / "a.mp4", ticks=range(0, 160, 40)))
    with source.writer(tmp_path / "copy") as writer:
        for shot, colour in zip(source, colours, strict=True):
            writer.write(shot, PillowImage.new("RGB", (WIDTH, HEIGHT), colour))
    for shot, colour in zip(VideoFile(writer.saved), colours, strict=True):
        assert (shot.pixels[:, 10, 10].int() - torch.tensor(colour)).abs().max() <= 4


@needs_av
def test_a_video_that_is_to_be_turned_is_turned(tmp_path: Path) -> None:
    """The display matrix of a phone held upright, 0 1 / -1 0: what is at the left comes to the top."""
    picture = grey(30)
    picture[:, : WIDTH // 2] = 220
    path = written(tmp_path / "a.mp4", ticks=[0, 40], pictures=[picture, picture])
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    one, zero = (1 << 16).to_bytes(4, "big"), bytes(4)
    assert data[start : start + 20] == one + zero * 3 + one
    data[start : start + 20] = zero + one + zero + (-(1 << 16)).to_bytes(4, "big", signed=True) + zero
    path.write_bytes(data)
    source = VideoFile(path)
    with source.writer(tmp_path / "copy") as writer:
        for shot in source:
            assert shot.pixels.shape == (3, WIDTH, HEIGHT)
            assert shot.pixels[0, 10, 20] > 210 and shot.pixels[0, 50, 20] < 40
            writer.write(shot, to_pillow(shot.pixels))
    (upright, _) = VideoFile(writer.saved)
    assert upright.pixels.shape == (3, WIDTH, HEIGHT) and upright.pixels[0, 10, 20] > 210


@needs_av
def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    import av

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        container.mux([*stream.encode(av.VideoFrame.from_ndarray(grey(90), "rgb24")), *stream.encode(None)])
    source = VideoFile(path)
    with source.writer(tmp_path / "copy") as writer:
        for shot in source:
            writer.write(shot, to_pillow(shot.pixels))
    assert source.aspect == VideoFile(writer.saved).aspect == Fraction(16, 11)


@needs_av
def test_odd_sides_are_padded_and_said(tmp_path: Path) -> None:
    source = VideoFile(written(tmp_path / "a.mp4"))
    with source.writer(tmp_path / "copy") as writer:
        for shot in source:
            writer.write(shot, to_pillow(shot.pixels[:, :-1, :-3]))
    assert writer.notes == ["padded from 61x47 to 62x48: H.264 wants even sides"]
    assert next(iter(VideoFile(writer.saved))).pixels.shape == (3, 48, 62)


@needs_av
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_video_that_ends_within_a_frame_keeps_the_frames_before_it(tmp_path: Path, suffix: str, capsys: Any) -> None:
    noise = [np.random.RandomState(n).randint(0, 255, (HEIGHT, WIDTH, 3), np.uint8) for n in range(12)]
    ticks = range(0, 480, 40)
    options = {"options": {"movflags": "faststart"}} if suffix == ".mp4" else {}
    path = written(tmp_path / f"a{suffix}", ticks, pictures=noise, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    done = predict_footage(marked, path, tmp_path / "out", Footage())  # type: ignore[arg-type]
    assert 4 <= done["frames"] < 12 and done["flaws"], done
    assert len(list(VideoFile(tmp_path / "out.mp4"))) == done["frames"]
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == done["frames"]
    means = [float(row["x"]) for row in table(str(tmp_path / "out.csv"))]
    assert means == pytest.approx([noise[n].mean() for n in range(done["frames"])], abs=3)


@needs_av
def test_times_that_are_missing_or_go_back_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = VideoFile(written(tmp_path / "a.mp4", ticks=range(0, 240, 40)))
    decoded = VideoFile._decoded

    def odd(self: VideoFile, container: Any) -> Any:
        for frame, ticks in zip(decoded(self, container), [None, 2000, 1000, None, 9000, 9000], strict=True):
            frame.pts = ticks
            yield frame

    monkeypatch.setattr(VideoFile, "_decoded", odd)
    step = round(1 / source.rate / source.clock)
    assert [shot.ticks for shot in source] == [0, 2000, 2000 + step, 2000 + 2 * step, 9000, 9000 + step]


@needs_av
def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "a.mp4")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.mp4\n#EXT-X-ENDLIST\n")
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("list.mp4", "text.mp4", "empty.mp4", "none.mp4"):
        with pytest.raises(DataError, match=f"{name} is no video that can be read"):
            VideoFile(tmp_path / name)


def test_without_av_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="reading a video needs av") as refused:
        VideoFile(tmp_path / "a.mp4")
    assert "pip install 'pixelwise[video]'" in refused.value.hint and "frames=true" in refused.value.hint


# Predicting


@needs_av
@pytest.mark.parametrize("smooth", ["none", "one_euro", "gaussian"])
def test_every_frame_gets_its_own_answer_whatever_waits(tmp_path: Path, smooth: Any) -> None:
    path = written(tmp_path / "a.mp4")
    done = predict_footage(marked, path, tmp_path / "out", Footage(track=True, smooth=smooth))  # type: ignore[arg-type]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(len(TICKS)))
    assert [round(1000 * line["time"]) for line in lines] == list(TICKS)
    assert done["saved"] == [str(tmp_path / f"out.{suffix}") for suffix in ("mp4", "jsonl", "csv")]
    if smooth == "none":
        rows = table(str(tmp_path / "out.csv"))
        assert list(rows[0]) == ["frame", "time", "identity", "name", "x", "y", "confidence"]
        assert all(abs(float(row["x"]) - level(int(row["frame"]))) < 2 and row["confidence"] == "0.5" for row in rows)
        assert sum(track["frames"] for track in done["tracks"]) == len(TICKS)


@needs_av
def test_the_video_itself_is_never_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp4")
    before = path.read_bytes()
    with pytest.raises(DataError, match="would overwrite it"):
        predict_footage(marked, path, tmp_path / "a", Footage())  # type: ignore[arg-type]
    assert path.read_bytes() == before


def test_any_task_answers_frames_but_only_points_are_tracked(finished: Finished, tmp_path: Path, capsys: Any) -> None:
    frames, run = folder(tmp_path / "in", ["1.png", "2.png", "10.png"]), str(finished("segmentation"))
    assert main(["predict", run, str(frames), "frames=true", "fps=10", f"out={tmp_path / 'out'}", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["videos"]
    assert told["frames"] == 3 and told["flaws"] == [] and "tracks" not in told
    lines = [json.loads(line) for line in (tmp_path / "out" / "in.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["time"]) for line in lines] == [(0, 0), (1, 0.1), (2, 0.2)]
    assert all(line["height"] == HEIGHT and line["kind"] for line in lines)
    assert not (tmp_path / "out" / "in.csv").exists() and len(list((tmp_path / "out" / "in").iterdir())) == 3
    assert main(["predict", run, str(frames), "frames=true", "track=true", f"out={tmp_path / 'other'}"]) == 2
    assert "track and smooth are for key points" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_a_damaged_frame_ends_the_command_with_1(finished: Finished, tmp_path: Path, capsys: Any) -> None:
    frames = folder(tmp_path / "in", ["0.png", "1.png"])
    (frames / "1.png").write_bytes(b"no picture")
    assert main(["predict", str(finished("keypoints")), str(frames), "frames=true", f"out={tmp_path / 'out'}"]) == 1
    out, err = capsys.readouterr()
    assert "frame 1 is left out" in err and "1 frames" in out
    (frames / "0.png").write_bytes(b"no picture")
    assert main(["predict", str(finished("keypoints")), str(frames), "frames=true", f"out={tmp_path / 'none'}"]) == 1
    assert "no frame of" in capsys.readouterr().err and not (tmp_path / "none").exists()


@needs_av
def test_images_and_videos_together(finished: Finished, tmp_path: Path, capsys: Any) -> None:
    PillowImage.fromarray(grey(90)).save(tmp_path / "a.png")
    clip, out = written(tmp_path / "a.mp4"), tmp_path / "out"
    words = [str(tmp_path / "a.png"), str(clip), str(tmp_path / "no.mp4"), f"out={out}", "smooth=one_euro"]
    assert main(["predict", str(finished("keypoints")), *words]) == 1
    assert "predicted: 2" in (captured := capsys.readouterr()).out and "no.mp4 is no video" in captured.err
    assert {path.name for path in out.iterdir()} == {"a.png", "a.json", "a.mp4.mp4", "a.mp4.jsonl", "a.mp4.csv"}


def test_what_is_asked() -> None:
    told = asked(["a.mp4", "b", "track=true", "smooth=gaussian", "frames=true", "fps=12", "out=o"])
    assert told.footage == Footage(True, "gaussian", True, 12) and told.paths == [Path("a.mp4"), Path("b")]
    assert asked(["a.mp4"]).footage == Footage()
    with pytest.raises(UsageError, match="smooth = 'one_eruo'") as refused:
        asked(["a.mp4", "smooth=one_eruo"])
    assert refused.value.hint == "did you mean 'one_euro'?"
    with pytest.raises(UsageError, match="track = 'yes': should be one of false, true"):
        asked(["a.mp4", "track=yes"])
