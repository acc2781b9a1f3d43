"""LLVM IR of what programs call: results, scratch memory, the GIL, Ctrl-C."""

from __future__ import annotations

__all__ = ["TEXT"]

TEXT = r"""
; ---- what programs call --------------------------------------------------------------------------
; Allocates result `k` for the sizes in its frame slots, writes its data pointer into the frame and
; returns it; null when memory ran out.
define ptr @st_output(ptr %call, i64 %k) nounwind {
entry:
  %d = load ptr, ptr %call
  %frame.at = getelementptr ptr, ptr %call, i64 $CALL_FRAME
  %frame = load ptr, ptr %frame.at
  %outputs.at = getelementptr ptr, ptr %d, i64 $OUTPUTS
  %outputs = load ptr, ptr %outputs.at
  %spec.word = mul i64 %k, $OUTPUT_WORDS
  %spec = getelementptr i64, ptr %outputs, i64 %spec.word
  %rank.at = getelementptr i64, ptr %spec, i64 $OUT_RANK
  %rank = load i64, ptr %rank.at
  %itemsize.at = getelementptr i64, ptr %spec, i64 $OUT_ITEMSIZE
  %itemsize = load i64, ptr %itemsize.at
  %slot.at = getelementptr i64, ptr %spec, i64 $OUT_SLOT
  %slot = load i64, ptr %slot.at
  %data.slot = getelementptr i64, ptr %frame, i64 %slot
  %dims = getelementptr i64, ptr %data.slot, i64 1
  br label %axes
axes:
  %axis = phi i64 [ 0, %entry ], [ %axis.next, %one.axis ]
  %size = phi i64 [ %itemsize, %entry ], [ %size.next, %one.axis ]
  %more = icmp slt i64 %axis, %rank
  br i1 %more, label %one.axis, label %sized
one.axis:
  ; An extent or product beyond 2^62 bytes becomes 2^62, which no allocator can give.
  %extent.at = getelementptr i64, ptr %dims, i64 %axis
  %extent = load i64, ptr %extent.at
  %product = call { i64, i1 } @llvm.umul.with.overflow.i64(i64 %size, i64 %extent)
  %product.value = extractvalue { i64, i1 } %product, 0
  %product.over = extractvalue { i64, i1 } %product, 1
  %product.big = icmp ugt i64 %product.value, 4611686018427387904
  %product.bad = or i1 %product.over, %product.big
  %size.next = select i1 %product.bad, i64 4611686018427387904, i64 %product.value
  %axis.next = add i64 %axis, 1
  br label %axes
sized:
  %results.at = getelementptr ptr, ptr %call, i64 $CALL_RESULTS
  %results = load ptr, ptr %results.at
  %word = shl i64 %k, 1
  %object.at = getelementptr ptr, ptr %results, i64 %word
  %thread.at = getelementptr ptr, ptr %call, i64 $CALL_THREAD
  %thread = load ptr, ptr %thread.at
  %has.gil = icmp eq ptr %thread, null
  %small = icmp slt i64 %size, $OWN_BYTES
  %by.numpy = and i1 %has.gil, %small
  br i1 %by.numpy, label %numpy, label %block
numpy:
  %descr.at = getelementptr ptr, ptr %spec, i64 $OUT_DESCR
  %descr = load ptr, ptr %descr.at
  call void @Py_IncRef(ptr %descr)
  %rank.narrow = trunc i64 %rank to i32
  %array = call ptr @PyArray_NewFromDescr(ptr @PyArray_Type, ptr %descr, i32 %rank.narrow, ptr %dims,
                                          ptr null, ptr null, i32 0, ptr null)
  %unmade = icmp eq ptr %array, null
  br i1 %unmade, label %clear, label %made
made:
  store ptr %array, ptr %object.at
  %array.data.at = getelementptr i8, ptr %array, i64 16
  %array.data = load ptr, ptr %array.data.at
  store ptr %array.data, ptr %data.slot
  ret ptr %array.data
clear:
  call void @PyErr_Clear()
  br label %no.memory
block:
  %memory = call ptr @st_block(i64 %size)
  %no.block = icmp eq ptr %memory, null
  br i1 %no.block, label %no.memory, label %keep
keep:
  %block.at = getelementptr ptr, ptr %object.at, i64 1
  store ptr %memory, ptr %block.at
  store ptr %memory, ptr %data.slot
  ret ptr %memory
no.memory:
  %requested.at = getelementptr i64, ptr %call, i64 $CALL_REQUESTED
  store i64 %size, ptr %requested.at
  ret ptr null
}

; Scratch memory for the rest of the call, 64-byte aligned; null when memory ran out.
define ptr @st_alloc(ptr %call, i64 %bytes) nounwind {
entry:
  ; Small requests share the bytes behind the call record, on the native stack.
  %scratch.at = getelementptr i64, ptr %call, i64 $CALL_SCRATCH
  %used = load i64, ptr %scratch.at
  %end = add i64 %used, %bytes
  %end.up = add i64 %end, 63
  %end.aligned = and i64 %end.up, -64
  %room = icmp ule i64 %end.aligned, $SCRATCH_BYTES
  %sane = icmp ule i64 %bytes, $SCRATCH_BYTES
  %fits = and i1 %room, %sane
  br i1 %fits, label %bump, label %block
bump:
  store i64 %end.aligned, ptr %scratch.at
  %offset = add i64 %used, $CALL_BYTES
  %inside = getelementptr i8, ptr %call, i64 %offset
  ret ptr %inside
block:
  %memory = call ptr @st_block(i64 %bytes)
  %failed = icmp eq ptr %memory, null
  br i1 %failed, label %no.memory, label %keep
keep:
  ; The block's header links the scratch blocks of one call.
  %blocks.at = getelementptr ptr, ptr %call, i64 $CALL_BLOCKS
  %previous = load ptr, ptr %blocks.at
  %link.at = getelementptr i8, ptr %memory, i64 $BLOCK_LINK_BYTES
  store ptr %previous, ptr %link.at
  store ptr %memory, ptr %blocks.at
  ret ptr %memory
no.memory:
  %requested.at = getelementptr i64, ptr %call, i64 $CALL_REQUESTED
  store i64 %bytes, ptr %requested.at
  ret ptr null
}

define internal void @free_scratch(ptr %first) nounwind {
entry:
  br label %head
head:
  %block = phi ptr [ %first, %entry ], [ %link, %one ]
  %end = icmp eq ptr %block, null
  br i1 %end, label %done, label %one
one:
  %link.at = getelementptr i8, ptr %block, i64 $BLOCK_LINK_BYTES
  %link = load ptr, ptr %link.at
  call void @st_block_free(ptr %block)
  br label %head
done:
  ret void
}

; Notes the state of the scratch memory in two words at `mark`.
define void @st_mark(ptr %call, ptr %mark) nounwind {
entry:
  %scratch.at = getelementptr i64, ptr %call, i64 $CALL_SCRATCH
  %used = load i64, ptr %scratch.at
  store i64 %used, ptr %mark
  %blocks.at = getelementptr ptr, ptr %call, i64 $CALL_BLOCKS
  %blocks = load ptr, ptr %blocks.at
  %mark.blocks.at = getelementptr ptr, ptr %mark, i64 1
  store ptr %blocks, ptr %mark.blocks.at
  ret void
}

; Gives back the scratch memory that was allocated after a mark.
define void @st_give_back(ptr %call, ptr %mark) nounwind {
entry:
  %used = load i64, ptr %mark
  %scratch.at = getelementptr i64, ptr %call, i64 $CALL_SCRATCH
  store i64 %used, ptr %scratch.at
  %mark.blocks.at = getelementptr ptr, ptr %mark, i64 1
  %last = load ptr, ptr %mark.blocks.at
  %blocks.at = getelementptr ptr, ptr %call, i64 $CALL_BLOCKS
  %first = load ptr, ptr %blocks.at
  br label %head
head:
  %block = phi ptr [ %first, %entry ], [ %link, %one ]
  %end = icmp eq ptr %block, %last
  br i1 %end, label %done, label %one
one:
  %link.at = getelementptr i8, ptr %block, i64 $BLOCK_LINK_BYTES
  %link = load ptr, ptr %link.at
  call void @st_block_free(ptr %block)
  br label %head
done:
  store ptr %last, ptr %blocks.at
  ret void
}

; Lets other Python threads run from here to the end of the call, when that is safe for shared variables.
define void @st_release_gil(ptr %call) nounwind {
entry:
  %thread.at = getelementptr ptr, ptr %call, i64 $CALL_THREAD
  %thread = load ptr, ptr %thread.at
  %held = icmp eq ptr %thread, null
  %releasable.at = getelementptr i64, ptr %call, i64 $CALL_RELEASABLE
  %releasable = load i64, ptr %releasable.at
  %allowed = icmp ne i64 %releasable, 0
  br i1 %held, label %may, label %done
may:
  br i1 %allowed, label %release, label %lock
lock:
  ; A call with updates. The GIL has been held since it read the shared variables, so nobody has changed them:
  ; with the update lock others may run. When this thread has the lock for a call around this one, they may not.
  %owner = load i64, ptr @st_update_owner
  %owned = icmp ne i64 %owner, 0
  br i1 %owned, label %done, label %take
take:
  %me = call i64 @PyThread_get_thread_ident()
  store i64 %me, ptr @st_update_owner
  %update.lock = load ptr, ptr @st_update_lock
  %taken = call i32 @PyThread_acquire_lock(ptr %update.lock, i32 1)
  %locked.at = getelementptr i64, ptr %call, i64 $CALL_LOCKED
  store i64 1, ptr %locked.at
  store i64 1, ptr %releasable.at
  br label %release
release:
  %saved = call ptr @PyEval_SaveThread()
  store ptr %saved, ptr %thread.at
  br label %done
done:
  ret void
}

; True when a signal handler raised (Ctrl-C): the program must then return -2. Looks only every 20 ms or so,
; so it may be called often. In a call with updates that holds the GIL a handler would let other threads see
; half of it; such calls are short and are not interrupted.
define i1 @st_interrupted(ptr %call) nounwind {
entry:
  %releasable.at = getelementptr i64, ptr %call, i64 $CALL_RELEASABLE
  %releasable = load i64, ptr %releasable.at
  %allowed = icmp ne i64 %releasable, 0
  br i1 %allowed, label %clock, label %no
clock:
  %clock.at = getelementptr i64, ptr %call, i64 $CALL_CLOCK
  %last = load i64, ptr %clock.at
  %now = call i64 @$COUNTER()
  %elapsed = sub i64 %now, %last
  %due = icmp ugt i64 %elapsed, $COUNTER_TICKS
  br i1 %due, label %look, label %no
look:
  store i64 %now, ptr %clock.at
  %thread.at = getelementptr ptr, ptr %call, i64 $CALL_THREAD
  %thread = load ptr, ptr %thread.at
  %held = icmp eq ptr %thread, null
  br i1 %held, label %check, label %acquire
acquire:
  call void @PyEval_RestoreThread(ptr %thread)
  br label %check
check:
  %raised = call i32 @PyErr_CheckSignals()
  %interrupted = icmp ne i32 %raised, 0
  br i1 %held, label %answer, label %release
release:
  %saved = call ptr @PyEval_SaveThread()
  store ptr %saved, ptr %thread.at
  br label %answer
answer:
  ret i1 %interrupted
no:
  ret i1 false
}

declare { i64, i1 } @llvm.umul.with.overflow.i64(i64, i64)
declare i64 @$COUNTER()
"""
