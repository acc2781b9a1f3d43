"""A content-addressed store of small byte strings (object code), in memory and on disk.

Disk entries live in `SYMTENSOR_CACHE_DIR` (default: the user's cache folder; "" or "off" keeps everything in
memory). An entry is one file, written beside its place and renamed into it, so processes need no locks: a
reader sees a whole entry or none, and two writers of one key write the same bytes. Each file starts with a
magic word, the length and a checksum; an entry that does not agree is dropped with one `CacheWarning`, and
its owner computes it again. A folder that cannot be written (read-only, full) costs one warning; the process
goes on in memory. When the folder outgrows its bound, the least recently used entries go.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
import warnings
import zlib
from _thread import allocate_lock
from collections import OrderedDict
from typing import NamedTuple

try:
    from _blake2 import blake2b  # hashlib would load OpenSSL: 5 ms of a warm start
except ImportError:
    from hashlib import blake2b

__all__ = ["CacheInfo", "CacheWarning", "clear", "configure", "directory", "get", "info", "key", "put"]

_MAGIC = b"SYMTNSR1"
_HEADER = len(_MAGIC) + 12
_SUFFIX = ".bin"
_MEMORY_LIMIT = 64 << 20
_DISK_LIMIT = 512 << 20
_TOUCH_AFTER = 3600.0
"""A hit renews an entry's time stamp only when it is older than this (seconds): reading must not write."""


class CacheWarning(UserWarning):
    """The disk cache is damaged or cannot be written; the program goes on without it."""


class CacheInfo(NamedTuple):
    """State of the store: where it is, what it holds, and how this process has used it. Sizes in bytes."""

    directory: str | None
    disk_entries: int
    disk_bytes: int
    disk_limit: int
    memory_entries: int
    memory_bytes: int
    memory_hits: int
    disk_hits: int
    misses: int


def key(*parts: str | bytes) -> str:
    """The key of an entry that is determined by `parts`: a digest in hexadecimal."""
    digest = blake2b(digest_size=20)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def default_directory() -> str | None:
    """The folder asked for by the environment, else the platform's cache folder; None when disk is off."""
    asked = os.environ.get("SYMTENSOR_CACHE_DIR")
    if asked is not None:
        return None if asked in ("", "off") else os.path.expanduser(asked)
    home = os.path.expanduser("~")
    if home == "~":  # no home folder: a service account
        return None
    join = os.path.join
    if sys.platform == "darwin":
        return join(home, "Library", "Caches", "symtensor")
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or join(home, "AppData", "Local")
        return join(local, "symtensor", "Cache")
    return join(os.environ.get("XDG_CACHE_HOME") or join(home, ".cache"), "symtensor")


class Store:
    """Bytes by key: a bounded dictionary in front of a bounded folder."""

    def __init__(
        self, folder: str | None, disk_limit: int = _DISK_LIMIT, memory_limit: int = _MEMORY_LIMIT
    ) -> None:
        self.folder = folder
        self.disk_limit = disk_limit
        self.memory_limit = memory_limit
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._memory_bytes = 0
        self._lock = allocate_lock()
        self._writable = folder is not None
        self._written = 0
        self._measured = False
        self._warned: set[str] = set()
        self._memory_hits = self._disk_hits = self._misses = 0

    def get(self, key: str) -> bytes | None:
        """The bytes stored under `key`, or None."""
        with self._lock:
            data = self._memory.get(key)
            if data is not None:
                self._memory.move_to_end(key)
                self._memory_hits += 1
                return data
        data = self._read(key)
        if data is None:
            self._misses += 1
            return None
        self._disk_hits += 1
        self._remember(key, data)
        return data

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`; trouble with the disk is a warning, never an error."""
        self._remember(key, data)
        if self._writable:
            self._write(key, data)

    def clear(self) -> int:
        """Forget every entry, in memory and on disk; the number of files removed."""
        with self._lock:
            self._memory.clear()
            self._memory_bytes = 0
        removed = 0
        for path, _, _ in self._entries():
            with contextlib.suppress(OSError):
                os.unlink(path)
                removed += 1
        return removed

    def info(self) -> CacheInfo:
        """Counts and sizes, read from the folder now."""
        entries = self._entries()
        size = sum(entry[1] for entry in entries)
        return CacheInfo(
            self.folder, len(entries), size, self.disk_limit, len(self._memory), self._memory_bytes,
            self._memory_hits, self._disk_hits, self._misses,
        )  # fmt: skip

    def reset_after_fork(self) -> None:
        """A lock that another thread held at the time of the fork would stay locked for ever."""
        self._lock = allocate_lock()

    def _remember(self, key: str, data: bytes) -> None:
        with self._lock:
            previous = self._memory.pop(key, None)
            if previous is not None:
                self._memory_bytes -= len(previous)
            self._memory[key] = data
            self._memory_bytes += len(data)
            while self._memory_bytes > self.memory_limit and len(self._memory) > 1:
                _, oldest = self._memory.popitem(last=False)
                self._memory_bytes -= len(oldest)

    def _path(self, key: str) -> str:
        assert self.folder is not None
        return f"{self.folder}{os.sep}{key[:2]}{os.sep}{key}{_SUFFIX}"

    def _read(self, key: str) -> bytes | None:
        if self.folder is None:
            return None
        path = self._path(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn("read", f"cannot read the kernel cache {self.folder}: {error}; going on without it")
            return None
        try:
            status = os.fstat(descriptor)
            content = os.read(descriptor, status.st_size + 1)
        finally:
            os.close(descriptor)
        data = _checked(content)
        if data is None:
            self._warn("damage", f"damaged entry in the kernel cache dropped and computed again: {path}")
            with contextlib.suppress(OSError):
                os.unlink(path)
            return None
        self._renew(path, status)
        return data

    def _renew(self, path: str, status: os.stat_result) -> None:
        """Mark an entry as used, for the eviction order; seldom, so that reading does not write."""

        if self._writable and time.time() - status.st_mtime > _TOUCH_AFTER:
            with contextlib.suppress(OSError):
                os.utime(path)

    def _write(self, key: str, data: bytes) -> None:
        path = self._path(key)
        temporary = None
        try:
            parent = os.path.dirname(path)
            os.makedirs(parent, exist_ok=True)
            # Unique among processes and threads, forked ones included.
            temporary = f"{parent}{os.sep}.new-{os.getpid()}-{os.urandom(8).hex()}"
            with open(temporary, "xb") as stream:
                stream.write(_header(data) + data)
            os.replace(temporary, path)
        except OSError as error:
            self._writable = False
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            self._warn("write", f"cannot write the kernel cache {self.folder}: {error}; going on in memory")
            return
        self._written += len(data)
        if not self._measured or self._written > self.disk_limit // 16:
            self._measured = True
            self._written = 0
            self._evict()

    def _entries(self) -> list[tuple[str, int, float]]:
        """Every file of the folder as (path, bytes, time of last use), left-over temporary files included."""
        if self.folder is None:
            return []
        found: list[tuple[str, int, float]] = []
        try:
            parents = [entry.path for entry in os.scandir(self.folder) if len(entry.name) == 2]
        except OSError:
            return []
        for parent in parents:
            with contextlib.suppress(OSError):
                for entry in os.scandir(parent):
                    if entry.name.endswith(_SUFFIX) or entry.name.startswith(".new-"):
                        with contextlib.suppress(OSError):  # another process may have removed it meanwhile
                            status = entry.stat()
                            found.append((entry.path, status.st_size, status.st_mtime))
        return found

    def _evict(self) -> None:
        """Remove the least recently used entries until three quarters of the bound are left."""
        entries = self._entries()
        total = sum(entry[1] for entry in entries)
        if total <= self.disk_limit:
            return
        for path, size, _ in sorted(entries, key=lambda entry: entry[2]):
            if total <= self.disk_limit * 3 // 4:
                return
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size

    def _warn(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(message, CacheWarning, stacklevel=4)


def _header(data: bytes) -> bytes:
    """What a file holds before `data`: magic word, length, checksum."""
    return _MAGIC + len(data).to_bytes(8, "little") + zlib.crc32(data).to_bytes(4, "little")


def _checked(content: bytes) -> bytes | None:
    """The payload of a file's `content`, or None when it is not a whole, undamaged entry."""
    if content[: len(_MAGIC)] != _MAGIC or len(content) < _HEADER:
        return None
    data = content[_HEADER:]
    length = int.from_bytes(content[len(_MAGIC) : len(_MAGIC) + 8], "little")
    checksum = int.from_bytes(content[len(_MAGIC) + 8 : _HEADER], "little")
    return data if length == len(data) and checksum == zlib.crc32(data) else None


@functools.cache
def _store() -> Store:
    store = Store(default_directory())
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=store.reset_after_fork)
    return store


def get(key: str) -> bytes | None:
    """The bytes stored under `key` in this process or on disk, or None."""
    return _store().get(key)


def put(key: str, data: bytes) -> None:
    """Store `data` under `key`; trouble with the disk is a `CacheWarning`, never an error."""
    _store().put(key, data)


def info() -> CacheInfo:
    """Where the cache is, what it holds, and how this process has used it."""
    return _store().info()


def clear() -> int:
    """Remove every entry from memory and disk; the number of files removed."""
    return _store().clear()


def directory() -> str | None:
    """The folder in use, or None when the disk is off."""
    return _store().folder


def configure(*, disk_limit: int | None = None, memory_limit: int | None = None) -> None:
    """Change the size bounds (bytes) of this process's store; they hold from the next `put`."""
    store = _store()
    if disk_limit is not None:
        store.disk_limit = disk_limit
    if memory_limit is not None:
        store.memory_limit = memory_limit
