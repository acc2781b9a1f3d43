"""LLVM IR of the fork-join pool that parallel loops and BLAS share.

Workers are native threads that never touch Python objects, started by CPython's own `PyThread` functions,
which exist on every platform. One job runs at a time; the caller works on it too. Who comes while the pool
is busy runs its loop alone, so nothing ever waits for a thread that is not already running.
"""

from __future__ import annotations

__all__ = ["MAX_THREADS", "TEXT", "machine_fragments"]

MAX_THREADS = 256

_PAUSE = {
    "x86_64": "call void @llvm.x86.sse2.pause()",
    "aarch64": "call void @llvm.aarch64.hint(i32 1)",
}
_COUNTER = {"x86_64": "llvm.readcyclecounter", "aarch64": "llvm.readsteadycounter"}
_TICKS = {"x86_64": 1 << 26, "aarch64": 1 << 19}
"""About 20 ms: of processor cycles on x86-64, of the 25 MHz timer on aarch64."""
_ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}


def machine_fragments(machine: str) -> dict[str, int | str]:
    """Instructions that have no portable spelling; KeyError for a processor other than x86-64 and aarch64."""
    name = _ALIASES.get(machine, machine)
    return {
        "PAUSE": _PAUSE[name],
        "DECLARE_PAUSE": "declare void @" + _PAUSE[name].split("@")[1].replace("i32 1", "i32"),
        "COUNTER": _COUNTER[name],
        "COUNTER_TICKS": _TICKS[name],
        "MAX_THREADS": MAX_THREADS,
    }


TEXT = r"""
; ---- the pool ------------------------------------------------------------------------------------
; The ticket says whether a job is open and who is at work: generation << 32 | open << 16 | workers inside.
@ticket = internal global i64 0, align 64
@busy = internal global i32 0, align 64
@st_threads = global i64 1
@started = internal global i64 0
; A worker, 64 bytes: the PyThread lock it sleeps on, whether it sleeps, its number.
@workers = internal global [$MAX_THREADS x [8 x i64]] zeroinitializer, align 64
; The job: written by the caller while the ticket is closed and nobody is inside.
@job_kernel = internal global ptr null
@job_args = internal global ptr null
@job_extent = internal global i64 0
@job_chunk = internal global i64 0
@job_next = internal global i64 0, align 64
; The first failure: chunk number << 48 | status, all ones when there is none.
@job_failure = internal global i64 -1, align 64

declare ptr @PyThread_allocate_lock() nounwind
declare i64 @PyThread_start_new_thread(ptr, ptr) nounwind
$DECLARE_PAUSE

; Runs kernel(lo, hi, args) over [0, extent) in pieces of at least `grain`; 0, or the status of the lowest
; piece that failed.
define i64 @st_parallel_for(ptr %kernel, ptr %args, i64 %extent, i64 %grain) nounwind {
entry:
  %nothing = icmp sle i64 %extent, 0
  br i1 %nothing, label %empty, label %size
empty:
  ret i64 0
size:
  %threads = load i64, ptr @st_threads
  %several = icmp sgt i64 %threads, 1
  %grain.positive = call i64 @llvm.smax.i64(i64 %grain, i64 1)
  %pieces.all = udiv i64 %extent, %grain.positive
  %enough = icmp uge i64 %pieces.all, 2
  %worth = and i1 %several, %enough
  br i1 %worth, label %try, label %serial
serial:
  %status = call i64 %kernel(i64 0, i64 %extent, ptr %args)
  ret i64 %status
try:
  %was.busy = atomicrmw xchg ptr @busy, i32 1 acquire
  %free = icmp eq i32 %was.busy, 0
  br i1 %free, label %parallel, label %serial
parallel:
  ; Four pieces a thread, so that a thread that starts late or is interrupted delays the rest little.
  %pieces.most = shl i64 %threads, 2
  %pieces = call i64 @llvm.umin.i64(i64 %pieces.all, i64 %pieces.most)
  %extent.up = add i64 %extent, %pieces
  %extent.less = sub i64 %extent.up, 1
  %piece = udiv i64 %extent.less, %pieces
  %piece.up = add i64 %piece, %grain.positive
  %piece.less = sub i64 %piece.up, 1
  %grains = udiv i64 %piece.less, %grain.positive
  %chunk = mul i64 %grains, %grain.positive
  %helpers = sub i64 %threads, 1
  %others = sub i64 %pieces, 1
  %wanted = call i64 @llvm.umin.i64(i64 %helpers, i64 %others)
  call void @start_workers(i64 %helpers)
  %result = call i64 @fork_join(ptr %kernel, ptr %args, i64 %extent, i64 %chunk, i64 %wanted)
  store atomic i32 0, ptr @busy release, align 4
  ret i64 %result
}

; One job, from opening the ticket to the last worker leaving. The caller owns @busy.
define internal i64 @fork_join(ptr %kernel, ptr %args, i64 %extent, i64 %chunk, i64 %helpers) nounwind {
entry:
  store ptr %kernel, ptr @job_kernel
  store ptr %args, ptr @job_args
  store i64 %extent, ptr @job_extent
  store i64 %chunk, ptr @job_chunk
  store i64 0, ptr @job_next
  store i64 -1, ptr @job_failure
  %old = load atomic i64, ptr @ticket monotonic, align 8
  %old.generation = lshr i64 %old, 32
  %generation = add i64 %old.generation, 1
  %generation.high = shl i64 %generation, 32
  %open = or i64 %generation.high, 65536
  %ignored.old = atomicrmw xchg ptr @ticket, i64 %open seq_cst
  br label %wake.head
wake.head:
  %w = phi i64 [ 0, %entry ], [ %w.next, %wake.next ]
  %w.more = icmp slt i64 %w, %helpers
  br i1 %w.more, label %look, label %work
look:
  %worker = getelementptr [8 x i64], ptr @workers, i64 %w
  %sleeping.at = getelementptr i64, ptr %worker, i64 1
  %asleep = load atomic i64, ptr %sleeping.at seq_cst, align 8
  %sleeps = icmp ne i64 %asleep, 0
  br i1 %sleeps, label %claim, label %wake.next
claim:
  %was.asleep = atomicrmw xchg ptr %sleeping.at, i64 0 seq_cst
  %still = icmp ne i64 %was.asleep, 0
  br i1 %still, label %wake, label %wake.next
wake:
  %bed = load ptr, ptr %worker
  call void @PyThread_release_lock(ptr %bed)
  br label %wake.next
wake.next:
  %w.next = add i64 %w, 1
  br label %wake.head
work:
  call void @run_chunks()
  %closing = atomicrmw and ptr @ticket, i64 -65537 acq_rel
  br label %join
join:
  %spins = phi i32 [ 0, %work ], [ %spins.next, %join.pause ]
  %now = load atomic i64, ptr @ticket acquire, align 8
  %inside = and i64 %now, 65535
  %all.out = icmp eq i64 %inside, 0
  br i1 %all.out, label %joined, label %join.wait
join.wait:
  %spins.next = add i32 %spins, 1
  %patience = icmp ult i32 %spins.next, 2000
  br i1 %patience, label %join.pause, label %join.yield
join.yield:
  %yielded = call i32 @$YIELD()
  br label %join.pause
join.pause:
  $PAUSE
  br label %join
joined:
  %failure = load i64, ptr @job_failure
  %fine = icmp eq i64 %failure, -1
  %status.high = shl i64 %failure, 16
  %status = ashr i64 %status.high, 16
  %result = select i1 %fine, i64 0, i64 %status
  ret i64 %result
}

; Takes chunks of the open job until none are left or one has failed.
define internal void @run_chunks() nounwind {
entry:
  %kernel = load ptr, ptr @job_kernel
  %args = load ptr, ptr @job_args
  %extent = load i64, ptr @job_extent
  %chunk = load i64, ptr @job_chunk
  br label %next
next:
  %index = atomicrmw add ptr @job_next, i64 1 monotonic
  %lo = mul i64 %index, %chunk
  %left = icmp slt i64 %lo, %extent
  br i1 %left, label %piece, label %done
piece:
  %end = add i64 %lo, %chunk
  %hi = call i64 @llvm.smin.i64(i64 %end, i64 %extent)
  %status = call i64 %kernel(i64 %lo, i64 %hi, ptr %args)
  %good = icmp eq i64 %status, 0
  br i1 %good, label %next, label %failed
failed:
  ; Chunks are handed out in order: every lower one is done or under way, so the minimum is the first.
  %order = shl i64 %index, 48
  %status.low = and i64 %status, 281474976710655
  %mark = or i64 %order, %status.low
  %ignored = atomicrmw umin ptr @job_failure, i64 %mark monotonic
  %ignored.next = atomicrmw umax ptr @job_next, i64 1125899906842624 monotonic
  br label %done
done:
  ret void
}

; Brings the number of workers to `wanted`; fewer when the system gives no more threads. The caller owns
; @busy.
define internal void @start_workers(i64 %wanted) nounwind {
entry:
  br label %head
head:
  %n = load i64, ptr @started
  %more = icmp slt i64 %n, %wanted
  br i1 %more, label %one, label %done
one:
  %worker = getelementptr [8 x i64], ptr @workers, i64 %n
  %bed = call ptr @PyThread_allocate_lock()
  %no.bed = icmp eq ptr %bed, null
  br i1 %no.bed, label %fewer, label %lock
lock:
  %ignored = call i32 @PyThread_acquire_lock(ptr %bed, i32 1)
  store ptr %bed, ptr %worker
  %sleeping.at = getelementptr i64, ptr %worker, i64 1
  store i64 0, ptr %sleeping.at
  %number.at = getelementptr i64, ptr %worker, i64 2
  store i64 %n, ptr %number.at
  %thread = call i64 @PyThread_start_new_thread(ptr @worker, ptr %worker)
  %no.thread = icmp eq i64 %thread, -1
  br i1 %no.thread, label %fewer, label %counted
counted:
  %n.next = add i64 %n, 1
  store i64 %n.next, ptr @started
  br label %head
fewer:
  %possible = add i64 %n, 1
  store i64 %possible, ptr @st_threads
  br label %done
done:
  ret void
}

; Life of a worker: look for a job for about 50 us, then sleep until one is announced.
define internal void @worker(ptr %me) nounwind {
entry:
  %sleeping.at = getelementptr i64, ptr %me, i64 1
  %number.at = getelementptr i64, ptr %me, i64 2
  %number = load i64, ptr %number.at
  br label %look
look:
  %seen = phi i64 [ 0, %entry ], [ %seen, %rest ], [ %seen, %enter ], [ %generation, %leave ],
                  [ %seen, %awake ]
  %idle = phi i32 [ 0, %entry ], [ %idle.next, %rest ], [ %idle, %enter ], [ 0, %leave ], [ 0, %awake ]
  %now = load atomic i64, ptr @ticket acquire, align 8
  %generation = lshr i64 %now, 32
  %invited = call i1 @invited(i64 %now, i64 %seen, i64 %number)
  br i1 %invited, label %enter, label %wait
enter:
  %with.me = add i64 %now, 1
  %exchange = cmpxchg ptr @ticket, i64 %now, i64 %with.me acq_rel monotonic
  %entered = extractvalue { i64, i1 } %exchange, 1
  br i1 %entered, label %work, label %look
work:
  call void @run_chunks()
  %before = atomicrmw sub ptr @ticket, i64 1 release
  br label %leave
leave:
  br label %look
wait:
  %idle.next = add i32 %idle, 1
  %tired = icmp ugt i32 %idle.next, 2000
  br i1 %tired, label %sleep, label %rest
rest:
  $PAUSE
  br label %look
sleep:
  ; Say so first, then look once more: a job opened in between would otherwise wake nobody.
  store atomic i64 1, ptr %sleeping.at seq_cst, align 8
  %late = load atomic i64, ptr @ticket seq_cst, align 8
  %late.invited = call i1 @invited(i64 %late, i64 %seen, i64 %number)
  br i1 %late.invited, label %stay, label %bed
stay:
  %mine = atomicrmw xchg ptr %sleeping.at, i64 0 seq_cst
  %nobody.woke.me = icmp ne i64 %mine, 0
  br i1 %nobody.woke.me, label %awake, label %bed
bed:
  %lock = load ptr, ptr %me
  %ignored = call i32 @PyThread_acquire_lock(ptr %lock, i32 1)
  br label %awake
awake:
  br label %look
}

; True when the ticket announces a job that worker `number` has not been at.
define internal i1 @invited(i64 %ticket, i64 %seen, i64 %number) nounwind alwaysinline {
  %open.bit = and i64 %ticket, 65536
  %open = icmp ne i64 %open.bit, 0
  %generation = lshr i64 %ticket, 32
  %new = icmp ne i64 %generation, %seen
  %threads = load i64, ptr @st_threads
  %helpers = sub i64 %threads, 1
  %wanted = icmp slt i64 %number, %helpers
  %open.new = and i1 %open, %new
  %yes = and i1 %open.new, %wanted
  ret i1 %yes
}

; Starts the workers now; the number of threads there are, the caller included.
define i64 @st_start_threads() nounwind {
entry:
  br label %try
try:
  %was.busy = atomicrmw xchg ptr @busy, i32 1 acquire
  %free = icmp eq i32 %was.busy, 0
  br i1 %free, label %start, label %wait
wait:
  %yielded = call i32 @$YIELD()
  br label %try
start:
  %threads = load i64, ptr @st_threads
  %helpers = sub i64 %threads, 1
  call void @start_workers(i64 %helpers)
  store atomic i32 0, ptr @busy release, align 4
  %possible = load i64, ptr @st_threads
  ret i64 %possible
}

; Before a matrix product: a small one is for this thread alone. (OpenBLAS's own limit is so low that its threads,
; which wait for each other, cost more than they do, and on a busy machine up to a hundred times the product.)
@st_blas_limit = global ptr null
define void @st_blas_threads(i1 %small) nounwind {
entry:
  %limit = load ptr, ptr @st_blas_limit
  %unknown = icmp eq ptr %limit, null
  br i1 %unknown, label %done, label %set
set:
  %threads = load i64, ptr @st_threads
  %narrow = trunc i64 %threads to i32
  %count = select i1 %small, i32 1, i32 %narrow
  call void %limit(i32 %count)
  br label %done
done:
  ret void
}

; The child of a fork has no workers and no job.
define void @st_threads_forked() nounwind {
  store i64 0, ptr @started
  store i64 0, ptr @ticket
  store atomic i32 0, ptr @busy release, align 4
  ret void
}

; OpenBLAS's thread callback: run do_job(k, job_data + k * size, data) for k in [0, count), all at the
; same time (its matrix products wait for each other): each job is a piece of its own, and the caller
; waits for the pool.
define void @st_blas_jobs(i32 %sync, ptr %do_job, i32 %count, i64 %size, ptr %job_data, i32 %data) nounwind {
entry:
  %args = alloca [4 x i64], align 16
  store ptr %do_job, ptr %args
  %size.at = getelementptr i64, ptr %args, i64 1
  store i64 %size, ptr %size.at
  %jobs.at = getelementptr i64, ptr %args, i64 2
  store ptr %job_data, ptr %jobs.at
  %data.at = getelementptr i64, ptr %args, i64 3
  %data.wide = sext i32 %data to i64
  store i64 %data.wide, ptr %data.at
  %count.wide = sext i32 %count to i64
  %helpers = sub i64 %count.wide, 1
  %alone = icmp sle i64 %count.wide, 1
  br i1 %alone, label %serial, label %try
serial:
  %ignored.serial = call i64 @blas_jobs(i64 0, i64 %count.wide, ptr %args)
  ret void
try:
  %was.busy = atomicrmw xchg ptr @busy, i32 1 acquire
  %free = icmp eq i32 %was.busy, 0
  br i1 %free, label %run, label %wait
wait:
  %yielded = call i32 @$YIELD()
  br label %try
run:
  call void @start_workers(i64 %helpers)
  %ignored.run = call i64 @fork_join(ptr @blas_jobs, ptr %args, i64 %count.wide, i64 1, i64 %helpers)
  store atomic i32 0, ptr @busy release, align 4
  ret void
}

define internal i64 @blas_jobs(i64 %lo, i64 %hi, ptr %args) nounwind {
entry:
  %do_job = load ptr, ptr %args
  %size.at = getelementptr i64, ptr %args, i64 1
  %size = load i64, ptr %size.at
  %jobs.at = getelementptr i64, ptr %args, i64 2
  %jobs = load ptr, ptr %jobs.at
  %data.at = getelementptr i64, ptr %args, i64 3
  %data.wide = load i64, ptr %data.at
  %data = trunc i64 %data.wide to i32
  br label %head
head:
  %k = phi i64 [ %lo, %entry ], [ %k.next, %one ]
  %more = icmp slt i64 %k, %hi
  br i1 %more, label %one, label %done
one:
  %offset = mul i64 %k, %size
  %job = getelementptr i8, ptr %jobs, i64 %offset
  %number = trunc i64 %k to i32
  call void %do_job(i32 %number, ptr %job, i32 %data)
  %k.next = add i64 %k, 1
  br label %head
done:
  ret i64 0
}

declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)
"""
