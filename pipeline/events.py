"""What TensorBoard shows of a training while it runs: an event file for each validation, which git does not hold.

A file is written before the state that goes on from it, and a resume writes it anew: no value is lost or doubled. Once
training has ended all are one file, as TensorBoard keeps every file open.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.files import atomic


def write_events(
    folder: Path, epoch: int, numbers: Mapping[str, float], pictures: Mapping[str, NDArray[np.float32]]
) -> None:
    """Writes what belongs to an epoch, in place of what was written of it before.

    Args:
        folder: That of one training. TensorBoard reads its files in the order of their names.
        epoch: How many are done, which TensorBoard calls the step.
        numbers: By the names of their curves.
        pictures: Gray, (rows, columns) float32 in [0, 1], by name.

    Raises:
        OSError: If the disk does not take it.
    """
    values = [tf.compat.v1.Summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
    values += [tf.compat.v1.Summary.Value(tag=name, image=_encoded(picture)) for name, picture in pictures.items()]
    now, event = time.time(), tf.compat.v1.Event
    events = [
        event(wall_time=now, file_version="brain.Event:2"),
        event(wall_time=now, step=epoch, summary=tf.compat.v1.Summary(value=values)),
    ]
    whole = folder / "next"  # TensorBoard would read a half file, too, if its name were like the last one
    with atomic(whole) as partial:
        try:
            with tf.io.TFRecordWriter(str(partial)) as writer:
                for one in events:
                    writer.write(one.SerializeToString())
        except tf.errors.OpError as error:  # as of a full disk
            raise OSError(error.message) from error
    os.replace(whole, folder / _name(epoch))


def forget_events(folder: Path, epoch: int) -> None:
    """Removes what an earlier run wrote of epochs after this one."""
    for path in _files(folder):
        if path > folder / _name(epoch):
            path.unlink()


def join_events(folder: Path) -> None:
    """Puts all of a training into its last file."""
    *earlier, last = _files(folder)
    whole = folder / "next"
    with atomic(whole) as partial:
        partial.write_bytes(b"".join(path.read_bytes() for path in (*earlier, last)))
    os.replace(whole, last)
    for path in earlier:
        path.unlink()


def _name(epoch: int) -> str:
    return f"events.out.tfevents.{epoch:06d}"


def _files(folder: Path) -> list[Path]:
    """In the order of epochs."""
    return sorted(folder.glob("events.out.tfevents.*"))


def _encoded(picture: NDArray[np.float32]) -> tf.compat.v1.Summary.Image:
    rows, columns = picture.shape
    png = tf.io.encode_png(np.round(picture[..., None] * 255).astype(np.uint8)).numpy()
    return tf.compat.v1.Summary.Image(height=rows, width=columns, colorspace=1, encoded_image_string=png)
