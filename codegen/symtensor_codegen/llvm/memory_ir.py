"""LLVM IR of memory blocks: 64-byte aligned, big ones in huge pages and reused.

A block is known by its data pointer; the 64 bytes before that are its header. Blocks of at least
`BIG_BYTES` are mapped in units of 2 MB, asked to be huge pages, and kept in free lists by size when they are
freed (a page fault costs more than the arithmetic on a page). Smaller ones come from the C library's malloc.
"""

from __future__ import annotations

__all__ = ["BIG_BYTES", "BLOCK_LINK_BYTES", "OWN_BYTES", "platform_fragments", "text"]

BIG_BYTES = 1 << 20
"""From this size on, blocks are mapped and reused."""
OWN_BYTES = 4096
"""Results below this size are allocated by NumPy, which caches small ones."""
BLOCK_LINK_BYTES = -48
"""Where a block's header has the link that a list of blocks goes through."""


def platform_fragments(system: str) -> dict[str, int | str]:
    """Numbers of the operating system's interface."""
    return {
        "BIG_BYTES": BIG_BYTES,
        "OWN_BYTES": OWN_BYTES,
        "BLOCK_LINK_BYTES": BLOCK_LINK_BYTES,
        "MAP_FLAGS": 0x1002 if system == "darwin" else 0x22,  # MAP_PRIVATE | MAP_ANONYMOUS
        "YIELD": "SwitchToThread" if system == "win32" else "sched_yield",
    }


def text(system: str) -> str:
    """The part of the run-time module for `system` (a value of `sys.platform`)."""
    if system == "win32":
        return _TEXT + _MAP_WINDOWS
    if system == "linux":
        return _TEXT + _DECLARE_ADVISE + _MAP_POSIX.replace("; ADVISE", _ADVISE)
    return _TEXT + _MAP_POSIX


_TEXT = r"""
; ---- memory blocks -------------------------------------------------------------------------------
; Header, in bytes before the data: -64 what malloc or mmap returned, -56 mapped bytes (0: malloc),
; -48 link, -40 size class, -32 usable bytes.
@memory_lock = internal global i32 0
; Free mapped blocks by size class, the bytes they hold, and the most they may hold.
@memory_free = internal global [512 x ptr] zeroinitializer
@st_memory_cached = global i64 0
@st_memory_limit = global i64 0

declare ptr @malloc(i64) nounwind
declare void @free(ptr) nounwind
declare i32 @$YIELD() nounwind

; A block of at least `bytes` bytes, or null.
define ptr @st_block(i64 %bytes) nounwind {
entry:
  %big = icmp uge i64 %bytes, $BIG_BYTES
  br i1 %big, label %mapped, label %small
small:
  %padded = add i64 %bytes, 128
  %raw = call ptr @malloc(i64 %padded)
  %none = icmp eq ptr %raw, null
  br i1 %none, label %failed, label %place
place:
  ; The first multiple of 64 that leaves 64 bytes for the header.
  %raw.number = ptrtoint ptr %raw to i64
  %beyond = add i64 %raw.number, 127
  %data.number = and i64 %beyond, -64
  %data = inttoptr i64 %data.number to ptr
  call void @write_header(ptr %data, ptr %raw, i64 0, i64 0, i64 %bytes)
  ret ptr %data
mapped:
  %huge = icmp ugt i64 %bytes, 1152921504606846976
  br i1 %huge, label %failed, label %size
size:
  ; Units of 2 MB; from 16 units on, eight size classes for each power of two.
  %with.header = add i64 %bytes, 2097215
  %units.exact = lshr i64 %with.header, 21
  %zeros = call i64 @llvm.ctlz.i64(i64 %units.exact, i1 false)
  %length = sub i64 64, %zeros
  %above = sub i64 %length, 4
  %positive = icmp sgt i64 %above, 0
  %shift = select i1 %positive, i64 %above, i64 0
  %one = shl i64 1, %shift
  %mask = sub i64 %one, 1
  %rounded = add i64 %units.exact, %mask
  %leading = lshr i64 %rounded, %shift
  %units = shl i64 %leading, %shift
  %octave = shl i64 %shift, 3
  %class = add i64 %octave, %leading
  %total = shl i64 %units, 21
  call void @lock(ptr @memory_lock)
  %list = getelementptr ptr, ptr @memory_free, i64 %class
  %free = load ptr, ptr %list
  %empty = icmp eq ptr %free, null
  br i1 %empty, label %fresh, label %reuse
reuse:
  %link.at = getelementptr i8, ptr %free, i64 $BLOCK_LINK_BYTES
  %link = load ptr, ptr %link.at
  store ptr %link, ptr %list
  %cached = load i64, ptr @st_memory_cached
  %cached.left = sub i64 %cached, %total
  store i64 %cached.left, ptr @st_memory_cached
  call void @unlock(ptr @memory_lock)
  ret ptr %free
fresh:
  call void @unlock(ptr @memory_lock)
  %first = call ptr @map(i64 %total)
  %refused = icmp eq ptr %first, null
  br i1 %refused, label %again, label %header
again:
  ; The system has no more: give back what lies unused, then ask once more.
  call void @st_memory_release()
  %second = call ptr @map(i64 %total)
  %refused.again = icmp eq ptr %second, null
  br i1 %refused.again, label %failed, label %header
header:
  %base = phi ptr [ %first, %fresh ], [ %second, %again ]
  %base.data = getelementptr i8, ptr %base, i64 64
  %usable = sub i64 %total, 64
  call void @write_header(ptr %base.data, ptr %base, i64 %total, i64 %class, i64 %usable)
  ret ptr %base.data
failed:
  ret ptr null
}

define internal void @write_header(ptr %data, ptr %base, i64 %total, i64 %class, i64 %usable) nounwind {
  %base.at = getelementptr i8, ptr %data, i64 -64
  store ptr %base, ptr %base.at
  %total.at = getelementptr i8, ptr %data, i64 -56
  store i64 %total, ptr %total.at
  %link.at = getelementptr i8, ptr %data, i64 $BLOCK_LINK_BYTES
  store ptr null, ptr %link.at
  %class.at = getelementptr i8, ptr %data, i64 -40
  store i64 %class, ptr %class.at
  %usable.at = getelementptr i8, ptr %data, i64 -32
  store i64 %usable, ptr %usable.at
  ret void
}

; Takes a block back.
define void @st_block_free(ptr %data) nounwind {
entry:
  %base.at = getelementptr i8, ptr %data, i64 -64
  %base = load ptr, ptr %base.at
  %total.at = getelementptr i8, ptr %data, i64 -56
  %total = load i64, ptr %total.at
  %small = icmp eq i64 %total, 0
  br i1 %small, label %by.malloc, label %mapped
by.malloc:
  call void @free(ptr %base)
  ret void
mapped:
  %limit = load i64, ptr @st_memory_limit
  %too.big = icmp ugt i64 %total, %limit
  br i1 %too.big, label %unmap, label %room
room:
  ; When the bound is reached the older blocks go: sizes that are no longer asked for must not fill the lists.
  %cached.seen = load atomic i64, ptr @st_memory_cached monotonic, align 8
  %cached.then = add i64 %cached.seen, %total
  %full = icmp ugt i64 %cached.then, %limit
  br i1 %full, label %make.room, label %keep
make.room:
  call void @st_memory_release()
  br label %keep
keep:
  %class.at = getelementptr i8, ptr %data, i64 -40
  %class = load i64, ptr %class.at
  call void @lock(ptr @memory_lock)
  %list = getelementptr ptr, ptr @memory_free, i64 %class
  %head = load ptr, ptr %list
  %link.at = getelementptr i8, ptr %data, i64 $BLOCK_LINK_BYTES
  store ptr %head, ptr %link.at
  store ptr %data, ptr %list
  %cached = load i64, ptr @st_memory_cached
  %cached.now = add i64 %cached, %total
  store i64 %cached.now, ptr @st_memory_cached
  call void @unlock(ptr @memory_lock)
  ret void
unmap:
  call void @unmap(ptr %base, i64 %total)
  ret void
}

; Gives every unused block back to the system.
define void @st_memory_release() nounwind {
entry:
  br label %class
class:
  %k = phi i64 [ 0, %entry ], [ %k.next, %class.done ]
  %list = getelementptr ptr, ptr @memory_free, i64 %k
  br label %pop
pop:
  call void @lock(ptr @memory_lock)
  %block = load ptr, ptr %list
  %empty = icmp eq ptr %block, null
  br i1 %empty, label %class.empty, label %take
take:
  %link.at = getelementptr i8, ptr %block, i64 $BLOCK_LINK_BYTES
  %link = load ptr, ptr %link.at
  store ptr %link, ptr %list
  %total.at = getelementptr i8, ptr %block, i64 -56
  %total = load i64, ptr %total.at
  %cached = load i64, ptr @st_memory_cached
  %cached.left = sub i64 %cached, %total
  store i64 %cached.left, ptr @st_memory_cached
  call void @unlock(ptr @memory_lock)
  %base.at = getelementptr i8, ptr %block, i64 -64
  %base = load ptr, ptr %base.at
  call void @unmap(ptr %base, i64 %total)
  br label %pop
class.empty:
  call void @unlock(ptr @memory_lock)
  br label %class.done
class.done:
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k.next, 512
  br i1 %more, label %class, label %done
done:
  ret void
}

; A lock for a few instructions: spin, and let the owner run when it was descheduled.
define internal void @lock(ptr %lock) nounwind {
entry:
  br label %try
try:
  %spins = phi i32 [ 0, %entry ], [ %spins.next, %wait ]
  %old = atomicrmw xchg ptr %lock, i32 1 acquire
  %got = icmp eq i32 %old, 0
  br i1 %got, label %done, label %busy
busy:
  %spins.next = add i32 %spins, 1
  %patience = and i32 %spins.next, 63
  %out = icmp eq i32 %patience, 0
  br i1 %out, label %yield, label %wait
yield:
  %ignored = call i32 @$YIELD()
  br label %wait
wait:
  $PAUSE
  br label %try
done:
  ret void
}

define internal void @unlock(ptr %lock) nounwind {
  store atomic i32 0, ptr %lock release, align 4
  ret void
}

; After a fork no other thread is left that could hold the lock.
define void @st_memory_forked() nounwind {
  store atomic i32 0, ptr @memory_lock release, align 4
  ret void
}

; ---- the four functions of NumPy's memory handler (NEP 49) ---------------------------------------
define ptr @st_handler_malloc(ptr %context, i64 %bytes) nounwind {
  %block = call ptr @st_block(i64 %bytes)
  ret ptr %block
}

define ptr @st_handler_calloc(ptr %context, i64 %count, i64 %size) nounwind {
entry:
  %product = call { i64, i1 } @llvm.umul.with.overflow.i64(i64 %count, i64 %size)
  %bytes = extractvalue { i64, i1 } %product, 0
  %over = extractvalue { i64, i1 } %product, 1
  br i1 %over, label %failed, label %allocate
allocate:
  %block = call ptr @st_block(i64 %bytes)
  %none = icmp eq ptr %block, null
  br i1 %none, label %failed, label %clear
clear:
  %ignored = call ptr @memset(ptr %block, i32 0, i64 %bytes)
  ret ptr %block
failed:
  ret ptr null
}

define ptr @st_handler_realloc(ptr %context, ptr %old, i64 %bytes) nounwind {
entry:
  %fresh = icmp eq ptr %old, null
  br i1 %fresh, label %new, label %resize
new:
  %first = call ptr @st_block(i64 %bytes)
  ret ptr %first
resize:
  %usable.at = getelementptr i8, ptr %old, i64 -32
  %usable = load i64, ptr %usable.at
  %block = call ptr @st_block(i64 %bytes)
  %none = icmp eq ptr %block, null
  br i1 %none, label %failed, label %copy
copy:
  %smaller = call i64 @llvm.umin.i64(i64 %usable, i64 %bytes)
  %ignored = call ptr @memcpy(ptr %block, ptr %old, i64 %smaller)
  call void @st_block_free(ptr %old)
  ret ptr %block
failed:
  ret ptr null
}

define void @st_handler_free(ptr %context, ptr %block, i64 %bytes) nounwind {
entry:
  %none = icmp eq ptr %block, null
  br i1 %none, label %done, label %give
give:
  call void @st_block_free(ptr %block)
  br label %done
done:
  ret void
}

declare ptr @memset(ptr, i32, i64) nounwind
declare ptr @memcpy(ptr, ptr, i64) nounwind
declare i64 @llvm.ctlz.i64(i64, i1)
declare i64 @llvm.umin.i64(i64, i64)
"""

_MAP_POSIX = r"""
declare ptr @mmap(ptr, i64, i32, i32, i32, i64) nounwind
declare i32 @munmap(ptr, i64) nounwind

; Fresh zeroed memory aligned to 2 MB, or null.
define internal ptr @map(i64 %total) nounwind {
entry:
  %wider = add i64 %total, 2097152
  %region = call ptr @mmap(ptr null, i64 %wider, i32 3, i32 $MAP_FLAGS, i32 -1, i64 0)
  %start = ptrtoint ptr %region to i64
  %failed = icmp eq i64 %start, -1
  br i1 %failed, label %none, label %trim
trim:
  %beyond = add i64 %start, 2097151
  %aligned = and i64 %beyond, -2097152
  %front = sub i64 %aligned, %start
  %back = sub i64 2097152, %front
  %end = add i64 %aligned, %total
  %end.at = inttoptr i64 %end to ptr
  %block = inttoptr i64 %aligned to ptr
  %no.front = icmp eq i64 %front, 0
  br i1 %no.front, label %trim.back, label %trim.front
trim.front:
  %front.ignored = call i32 @munmap(ptr %region, i64 %front)
  br label %trim.back
trim.back:
  %no.back = icmp eq i64 %back, 0
  br i1 %no.back, label %trimmed, label %trim.end
trim.end:
  %back.ignored = call i32 @munmap(ptr %end.at, i64 %back)
  br label %trimmed
trimmed:
  ; ADVISE
  ret ptr %block
none:
  ret ptr null
}

define internal void @unmap(ptr %base, i64 %total) nounwind {
  %ignored = call i32 @munmap(ptr %base, i64 %total)
  ret void
}
"""

# MADV_HUGEPAGE (14); a kernel that does not have huge pages says no, which changes nothing.
_ADVISE = "%advised = call i32 @madvise(ptr %block, i64 %total, i32 14)"

_DECLARE_ADVISE = "declare i32 @madvise(ptr, i64, i32) nounwind\n"

_MAP_WINDOWS = r"""
declare ptr @VirtualAlloc(ptr, i64, i32, i32) nounwind
declare i32 @VirtualFree(ptr, i64, i32) nounwind

; Fresh zeroed memory, or null: MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE.
define internal ptr @map(i64 %total) nounwind {
  %block = call ptr @VirtualAlloc(ptr null, i64 %total, i32 12288, i32 4)
  ret ptr %block
}

define internal void @unmap(ptr %base, i64 %total) nounwind {
  %ignored = call i32 @VirtualFree(ptr %base, i64 0, i32 32768)
  ret void
}
"""
