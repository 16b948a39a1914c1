"""Features on disk: computed once per backbone, picture and view, in memory-mapped files of bounded total size."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from roadwork_core.files import canonical_json, digest_json, write_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = "roadwork.features/1"
#: Where kept features are, below the cache that the runs of one directory share.
FEATURES_FOLDER = "features"
#: Names of the tensors in a file: features, float (n, D), and the keys of their samples, uint8 (n, 32).
FEATURES, KEYS = "features", "keys"
#: A file that nobody finished within this many seconds was left by a process that was killed.
ABANDONED = 3600.0


def sample_key(sha256: str, view: Any) -> bytes:
    """32 bytes for one view of one picture: `sha256` of its file in hex, `view` a JSON value."""
    return hashlib.blake2b(canonical_json([sha256, view]), digest_size=32).digest()


def weights_digest(module: nn.Module) -> str:
    """sha256 in hex over the names, types, shapes and bytes of all parameters and persistent buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]))
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


class FeatureStore:
    """The features that one extractor gave, by sample key. Files that are damaged are taken away and made anew.

    Any number of processes may read and add at the same time: a file appears whole or not at all, is never changed,
    and what is mapped here stays readable though another process deletes the file.
    """

    def __init__(self, folder: Path, extractor: Mapping[str, Any]) -> None:
        self.folder = folder
        self._extractor = extractor
        self._blocks: list[Tensor] = []
        self._places: dict[bytes, tuple[int, int]] = {}
        self._known: set[str] = set()
        self.refresh()

    def refresh(self) -> None:
        """Takes in what other processes have added."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name not in self._known:
                self._map(path)

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Numbers of the keys that have no features yet."""
        return [number for number, key in enumerate(keys) if key not in self._places]

    def add(self, keys: Sequence[bytes], features: Tensor) -> None:
        """Keeps features, float (n, D) on the CPU, of n samples. Raises OSError where they cannot be written."""
        from safetensors.torch import save

        features = features.contiguous()
        stacked = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).reshape(len(keys), -1)
        document = self._document(stacked, features)
        content = save({FEATURES: features, KEYS: stacked}, metadata={"roadwork": json.dumps(document)})
        path = self.folder / f"{hashlib.blake2b(b''.join(keys), digest_size=12).hexdigest()}.safetensors"
        write_atomic(path, content)
        self._known.discard(path.name)
        if not self._map(path):
            # Another process made room for its own features meanwhile: go on with those in memory.
            self.hold(keys, features)

    def hold(self, keys: Sequence[bytes], features: Tensor) -> None:
        """Takes features in for as long as this object lives; nothing is written."""
        self._places |= {key: (len(self._blocks), row) for row, key in enumerate(keys)}
        self._blocks.append(features)

    def places(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Where the features of each key are, int64 (n, 2), for `gather`. Raises KeyError for a missing one."""
        return np.array([self._places[key] for key in keys], dtype=np.int64).reshape(-1, 2)

    def gather(self, places: NDArray[np.int64]) -> Tensor:
        """Features, float (n, D), in the order of `places`."""
        blocks = np.unique(places[:, 0])
        if len(blocks) == 1:
            chosen: Tensor = self._blocks[blocks[0]][torch.from_numpy(places[:, 1])]
            return chosen
        first = self._blocks[blocks[0]]
        out = torch.empty((len(places), *first.shape[1:]), dtype=first.dtype)
        for block in blocks:
            here = np.flatnonzero(places[:, 0] == block)
            out[torch.from_numpy(here)] = self._blocks[block][torch.from_numpy(places[here, 1])]
        return out

    def _map(self, path: Path) -> bool:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                said = json.loads((file.metadata() or {})["roadwork"])
                features, stacked = file.get_tensor(FEATURES), file.get_tensor(KEYS)
            if said != self._document(stacked, features) or len(stacked) != len(features):
                raise ValueError("damaged, or of another extractor")
        except FileNotFoundError:
            return False
        except (SafetensorError, OSError, KeyError, ValueError, TypeError):
            with contextlib.suppress(OSError):
                path.unlink()
            return False
        self.hold([bytes(row) for row in stacked.numpy()], features)
        self._known.add(path.name)
        # The time of last use, by which `FeatureCache.trim` chooses.
        with contextlib.suppress(OSError):
            os.utime(path)
        return True

    def _document(self, keys: Tensor, features: Tensor) -> dict[str, Any]:
        """What a file says of itself: who made it, and a checksum of what it holds."""
        digest = hashlib.blake2b(keys.numpy().data, digest_size=32)
        digest.update(features.reshape(-1).view(torch.uint8).numpy().data)
        extractor = json.loads(canonical_json(self._extractor))
        return {"schema": SCHEMA, "extractor": extractor, "checksum": digest.hexdigest()}


class FeatureCache:
    """All feature stores below one folder, which together take at most `limit` bytes."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        self.folder = folder
        self.limit = limit

    def store(self, extractor: Mapping[str, Any]) -> FeatureStore:
        """The store of what computes features, described as a JSON value: weights, preprocessing, versions."""
        return FeatureStore(self.folder / digest_json(extractor)[:32], extractor)

    def trim(self) -> int:
        """Deletes the least recently used files until the rest fits; returns how many bytes went."""
        now, files = time.time(), []
        for path in self.folder.glob("*/*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                if path.suffix == ".safetensors" and not path.name.startswith("."):
                    files.append((status.st_mtime_ns, status.st_size, path))
                elif now - status.st_mtime > ABANDONED:
                    path.unlink()
        excess = sum(size for _, size, _ in files) - self.limit
        gone = 0
        for _, size, path in sorted(files):
            if gone >= excess:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                gone += size
        for folder in self.folder.glob("*"):
            with contextlib.suppress(OSError):
                folder.rmdir()
        return gone
