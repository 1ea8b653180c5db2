"""Damage to files of each format, at the joints of the format or in the raw bytes."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fuzz.draws import Draws
from fuzz.values import NUMBERS, TEXTS, array, json_value

ENDLESS = (10**6, 10**6)  # of a chunked data set that takes no place in the file


def damage(path: Path, draws: Draws) -> None:
    """Damages a file in place, as its ending says, once or a few times; every tenth in its bytes."""
    for _ in range(draws.one((1, 1, 1, 2, 3))):
        structured = _FORMATS.get(path.suffix)
        if structured is None or draws.whole(0, 9) == 0:
            _bytes(path, draws)
            return  # its structure may be gone
        structured(path, draws)


def _bytes(path: Path, draws: Draws) -> None:
    data = bytearray(path.read_bytes())
    match draws.whole(0, 3):
        case 0:
            del data[draws.whole(0, len(data)) :]
        case 1:
            place = draws.whole(0, len(data))
            data[place:place] = bytes(draws.whole(0, 255) for _ in range(draws.one((1, 4, 64))))
        case 2:
            del data[(start := draws.whole(0, len(data))) : start + draws.one((1, 8, 512))]
        case _:
            for _ in range(draws.one((1, 1, 4, 32)) if data else 0):
                data[draws.whole(0, min(len(data), draws.one((64, 2048, 10**9))) - 1)] = draws.whole(0, 255)
    path.write_bytes(bytes(data))


def _hdf5(path: Path, draws: Draws) -> None:
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        if not names:
            return
        name = draws.one(names)
        where = (
            file[name].parent if name in file and not isinstance(file.get(name, getlink=True), h5py.SoftLink) else file
        )
        key = name.rsplit("/", 1)[-1]
        was = file.get(name)
        match draws.whole(0, 11):
            case 0:
                del file[name]
            case 1:
                file.move(name, f"{where.name.rstrip('/')}/{draws.one(TEXTS[1:3])}{draws.whole(0, 9)}")
            case 2:
                file.copy(draws.one(names), where, name=f"copy{draws.whole(0, 9**9)}")
            case 3:
                del file[name]
                link = draws.one((h5py.SoftLink("/"), h5py.SoftLink("/nowhere"), h5py.ExternalLink("/dev/zero", "/")))
                where[key] = link
            case 4:
                del file[name]
                where[key] = file["/"]  # a group that holds itself
            case 5:
                holder = was if was is not None else file
                holder.attrs[draws.one(TEXTS[1:3])] = draws.whole(0, 9)
                for attribute in list(holder.attrs):
                    if draws.whole(0, 1):
                        del holder.attrs[attribute]
            case 6:
                del file[name]
                where.create_dataset(key, ENDLESS, draws.one(("f8", "i1")), chunks=(1000, 1000))
            case 7 if isinstance(was, h5py.Dataset):
                del file[name]
                where.create_group(key)
            case _:
                small = isinstance(was, h5py.Dataset) and was.shape is not None and was.size < 10**6  # not ENDLESS
                value = was[()] if small else None
                _replace(where, key, draws, value)


def _replace(where: h5py.Group, key: str, draws: Draws, was: object) -> None:
    rows = isinstance(was, np.ndarray) and was.dtype == object and was.size and isinstance(was.flat[0], np.ndarray)
    text = not rows and (isinstance(was, (bytes, str)) or (isinstance(was, np.ndarray) and was.dtype.kind in "OS"))
    del where[key]
    if rows and draws.whole(0, 3):
        assert isinstance(was, np.ndarray)
        kind = draws.one((was.flat[0].dtype, *("f2", "f4", "f8", "u2", "i8", "u1")))
        kept = where.create_dataset(key, (len(was) + draws.one((0, 0, 0, 1, -1)),), h5py.vlen_dtype(np.dtype(kind)))
        for index, row in zip(range(len(kept)), was, strict=False):
            with np.errstate(all="ignore"):
                kept[index] = (_numbers(draws, row) if draws.whole(0, 9) == 0 else row).astype(kind)
        return
    if text and draws.whole(0, 3):
        values = np.atleast_1d(np.asarray(was, object)).ravel().copy()
        if isinstance(was, np.ndarray) and values.size and draws.whole(0, 1):
            values[draws.whole(0, values.size - 1)] = draws.one(values.tolist())
            where.create_dataset(key, data=values.reshape(np.shape(was)), dtype=h5py.string_dtype())
        else:
            where[key] = draws.one(TEXTS).replace("\0", "")
        return
    value = array(draws, None if text else was)
    if value.dtype == object:
        where[key] = "object"
    else:
        where[key] = value


def _numbers(draws: Draws, was: np.ndarray) -> np.ndarray:
    """One axis of other numbers."""
    made = array(draws, was).ravel()
    return made if made.dtype.kind in "fiu" else np.zeros(3)


def _npy(path: Path, draws: Draws) -> None:
    path.write_bytes(_npy_bytes(path.read_bytes(), draws))


def _npy_bytes(data: bytes, draws: Draws) -> bytes:
    match draws.whole(0, 5):
        case 0:  # promises
            shape = draws.one(("(1000000000000,)", "(-1,)", "(2, 3", "()", "(99999, 99999)", "('a',)"))
            header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
            return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(draws.whole(0, 99))
        case 1:
            return data[: draws.whole(0, len(data))]
        case _:
            try:
                was = np.load(io.BytesIO(data), allow_pickle=False)
            except Exception:  # NumPy raises whatever comes on a file that is damaged already
                was = None
            out = io.BytesIO()
            np.save(out, array(draws, was), allow_pickle=True)
            return out.getvalue()


def _npz(path: Path, draws: Draws) -> None:
    try:
        with zipfile.ZipFile(path) as file:
            members = {name: file.read(name) for name in file.namelist()}
    except (zipfile.BadZipFile, OSError):
        return _bytes(path, draws)
    name = draws.one(sorted(members) or ["none.npy"])
    level = zipfile.ZIP_DEFLATED
    match draws.whole(0, 6):
        case 0:
            members.pop(name, None)
        case 1:
            members[draws.one(("x.npy", "a/b.npy", "../x.npy", "text"))] = members.pop(name, b"")
        case 2:
            members[name] = draws.one((b"", b"text", b"\x80\x04N.", members.get(name, b"")[:50]))
        case 3:
            level = draws.one((zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        case 4:
            members[name] = members.get(name, b"")[:128] + bytes(draws.one((0, 10**6, 3 * 10**8)))
        case _:
            members[name] = _npy_bytes(members.get(name, b""), draws)
    with zipfile.ZipFile(path, "w", level) as file:
        for member, data in members.items():
            file.writestr(member, data)
    return None


def _safetensors(path: Path, draws: Draws) -> None:
    data = path.read_bytes()
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    except (ValueError, struct.error, RecursionError):
        return _bytes(path, draws)
    if not isinstance(header, dict):
        return _bytes(path, draws)
    metadata = header.get("__metadata__")
    if isinstance(metadata, dict) and metadata and draws.whole(0, 2):
        key = draws.one(sorted(metadata))
        try:
            inner = json.loads(metadata[key])
        except (ValueError, TypeError, RecursionError):
            inner = metadata[key]
        value = json_value(draws, inner)
        metadata[key] = value if draws.whole(0, 9) == 0 else _text(value)
    else:
        header = json_value(draws, header)
    text = _text(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return None


def _text(value: Any) -> str:
    """JSON of a value; of one that damage upon damage nested deeper than Python writes, brackets."""
    try:
        return json.dumps(value)
    except RecursionError:
        return "[" * 5000 + "]" * 5000


def _json(path: Path, draws: Draws) -> None:
    try:
        was = json.loads(path.read_text())
    except (ValueError, RecursionError):
        return _bytes(path, draws)
    path.write_text(_text(json_value(draws, was)))
    return None


def _csv(path: Path, draws: Draws) -> None:
    rows = [line.split(",") for line in path.read_text(errors="replace").splitlines()]
    if not rows:
        return _bytes(path, draws)
    row = draws.one(rows)
    match draws.whole(0, 5):
        case 0:
            rows.remove(row)
        case 1:
            rows.append(row)
        case 2:
            row.append(draws.one(TEXTS))
        case 3:
            del row[-1:]
        case _:
            at = draws.whole(0, max(0, len(row) - 1))
            row[at : at + 1] = [str(draws.one((*NUMBERS, *TEXTS)))]
    path.write_text("\n".join(",".join(cells) for cells in rows) + "\n")
    return None


_FORMATS = {
    ".nir": _hdf5, ".h5": _hdf5, ".npy": _npy, ".npz": _npz, ".safetensors": _safetensors, ".json": _json, ".csv": _csv,
}  # fmt: skip
