"""LLVM IR of one call: shared variables, the program, results, committing updates."""

from __future__ import annotations

__all__ = ["TEXT"]

TEXT = r"""
; Runs the program on a frame whose inputs are filled; a new reference to the result, or null with an
; error set.
define internal ptr @run(ptr %d, ptr %frame, i64 %input.bytes) nounwind {
entry:
  %n_cells.at = getelementptr i64, ptr %d, i64 $N_CELLS
  %n_cells = load i64, ptr %n_cells.at
  %n_outputs.at = getelementptr i64, ptr %d, i64 $N_OUTPUTS
  %n_outputs = load i64, ptr %n_outputs.at
  %cells.at = getelementptr ptr, ptr %d, i64 $CELLS
  %cells = load ptr, ptr %cells.at
  %outputs.at = getelementptr ptr, ptr %d, i64 $OUTPUTS
  %outputs = load ptr, ptr %outputs.at
  %flags.at = getelementptr i64, ptr %d, i64 $FLAGS
  %flags = load i64, ptr %flags.at
  %threshold.at = getelementptr i64, ptr %d, i64 $THRESHOLD
  %threshold = load i64, ptr %threshold.at
  %call = alloca [$CALL_TOTAL_BYTES x i8], align 64
  %held = alloca ptr, i64 %n_cells, align 16
  ; Two words a result: the array made for it, or the memory block not yet wrapped into one.
  %result.words = shl i64 %n_outputs, 1
  %results = alloca i64, i64 %result.words, align 16
  %d.at = getelementptr ptr, ptr %call, i64 $CALL_DESCRIPTOR
  store ptr %d, ptr %d.at
  %frame.at = getelementptr ptr, ptr %call, i64 $CALL_FRAME
  store ptr %frame, ptr %frame.at
  %thread.at = getelementptr ptr, ptr %call, i64 $CALL_THREAD
  store ptr null, ptr %thread.at
  %requested.at = getelementptr i64, ptr %call, i64 $CALL_REQUESTED
  store i64 0, ptr %requested.at
  %blocks.at = getelementptr ptr, ptr %call, i64 $CALL_BLOCKS
  store ptr null, ptr %blocks.at
  %scratch.at = getelementptr i64, ptr %call, i64 $CALL_SCRATCH
  store i64 0, ptr %scratch.at
  %clock.at = getelementptr i64, ptr %call, i64 $CALL_CLOCK
  store i64 0, ptr %clock.at
  %results.at = getelementptr ptr, ptr %call, i64 $CALL_RESULTS
  store ptr %results, ptr %results.at
  %updates.bit = and i64 %flags, 1
  %updates = icmp ne i64 %updates.bit, 0
  %long.bit = and i64 %flags, 2
  %always.long = icmp ne i64 %long.bit, 0
  br label %read

; -- shared variables: hold a reference to each array for the time of the call
read:
  br label %cell.head
cell.head:
  %c = phi i64 [ 0, %read ], [ %c.next, %cell.done ]
  %bytes = phi i64 [ %input.bytes, %read ], [ %bytes.next, %cell.done ]
  %c.more = icmp slt i64 %c, %n_cells
  br i1 %c.more, label %cell, label %decide
cell:
  %cell.word = mul i64 %c, $CELL_WORDS
  %cell.spec = getelementptr i64, ptr %cells, i64 %cell.word
  %cell.object.at = getelementptr ptr, ptr %cell.spec, i64 $CELL_OBJECT
  %cell.object = load ptr, ptr %cell.object.at
  %array.at = getelementptr i8, ptr %cell.object, i64 $CELL_ARRAY_BYTES
  %array = load ptr, ptr %array.at
  call void @Py_IncRef(ptr %array)
  %held.at = getelementptr ptr, ptr %held, i64 %c
  store ptr %array, ptr %held.at
  %cell.slot.at = getelementptr i64, ptr %cell.spec, i64 $CELL_SLOT
  %cell.slot = load i64, ptr %cell.slot.at
  %cell.rank.at = getelementptr i64, ptr %cell.spec, i64 $CELL_RANK
  %cell.rank = load i64, ptr %cell.rank.at
  %cell.itemsize.at = getelementptr i64, ptr %cell.spec, i64 $CELL_ITEMSIZE
  %cell.itemsize = load i64, ptr %cell.itemsize.at
  %cell.data.at = getelementptr i8, ptr %array, i64 16
  %cell.data = load i64, ptr %cell.data.at
  %cell.data.slot = getelementptr i64, ptr %frame, i64 %cell.slot
  store i64 %cell.data, ptr %cell.data.slot
  %cell.dims.at = getelementptr i8, ptr %array, i64 32
  %cell.dims = load ptr, ptr %cell.dims.at
  br label %cell.axes
cell.axes:
  %axis = phi i64 [ 0, %cell ], [ %axis.next, %cell.axis ]
  %size = phi i64 [ %cell.itemsize, %cell ], [ %size.next, %cell.axis ]
  %axis.more = icmp slt i64 %axis, %cell.rank
  br i1 %axis.more, label %cell.axis, label %cell.done
cell.axis:
  %extent.at = getelementptr i64, ptr %cell.dims, i64 %axis
  %extent = load i64, ptr %extent.at
  %axis.next = add i64 %axis, 1
  %extent.slot = getelementptr i64, ptr %cell.data.slot, i64 %axis.next
  store i64 %extent, ptr %extent.slot
  %size.next = mul i64 %size, %extent
  br label %cell.axes
cell.done:
  %bytes.next = add i64 %bytes, %size
  %c.next = add i64 %c, 1
  br label %cell.head

; -- long calls run without the GIL; those with updates one at a time
decide:
  %big = icmp sgt i64 %bytes, %threshold
  %long = or i1 %big, %always.long
  %owner = load i64, ptr @st_update_owner
  %owned = icmp ne i64 %owner, 0
  %contended = or i1 %long, %owned
  %exclusive = and i1 %updates, %contended
  br i1 %exclusive, label %lock, label %start
lock:
  %me = call i64 @PyThread_get_thread_ident()
  %nested = icmp eq i64 %owner, %me
  br i1 %nested, label %start, label %lock.other
lock.other:
  br i1 %owned, label %wait, label %take
take:
  store i64 %me, ptr @st_update_owner
  %update.lock = load ptr, ptr @st_update_lock
  %taken = call i32 @PyThread_acquire_lock(ptr %update.lock, i32 1)
  br label %start
wait:
  ; The values read may be old by the time the other call is done: let them go and read again.
  call void @release_all(ptr %held, i64 %n_cells)
  %waiting = call ptr @PyEval_SaveThread()
  %other.lock = load ptr, ptr @st_update_lock
  %waited = call i32 @PyThread_acquire_lock(ptr %other.lock, i32 1)
  call void @PyThread_release_lock(ptr %other.lock)
  call void @PyEval_RestoreThread(ptr %waiting)
  br label %read

start:
  %locked = phi i1 [ false, %decide ], [ false, %lock ], [ true, %take ]
  ; Only a call without updates, or one that holds the lock, may let other threads run in between.
  %no.updates = xor i1 %updates, true
  %releasable = or i1 %no.updates, %locked
  %releasable.word = zext i1 %releasable to i64
  %releasable.at = getelementptr i64, ptr %call, i64 $CALL_RELEASABLE
  store i64 %releasable.word, ptr %releasable.at
  %locked.word = zext i1 %locked to i64
  %locked.at = getelementptr i64, ptr %call, i64 $CALL_LOCKED
  store i64 %locked.word, ptr %locked.at
  br label %prepare.head
prepare.head:
  %p = phi i64 [ 0, %start ], [ %p.next, %prepare.done ]
  %p.more = icmp slt i64 %p, %n_outputs
  br i1 %p.more, label %prepare, label %prepared
prepare:
  %p.word = shl i64 %p, 1
  %p.object.at = getelementptr i64, ptr %results, i64 %p.word
  store i64 0, ptr %p.object.at
  %p.block.at = getelementptr i64, ptr %p.object.at, i64 1
  store i64 0, ptr %p.block.at
  %p.spec.word = mul i64 %p, $OUTPUT_WORDS
  %p.spec = getelementptr i64, ptr %outputs, i64 %p.spec.word
  %p.kind.at = getelementptr i64, ptr %p.spec, i64 $OUT_KIND
  %p.kind = load i64, ptr %p.kind.at
  %in.place = icmp eq i64 %p.kind, 2
  br i1 %in.place, label %prepare.in.place, label %prepare.done
prepare.in.place:
  %p.index.at = getelementptr i64, ptr %p.spec, i64 $OUT_INDEX
  %p.index = load i64, ptr %p.index.at
  %p.array.at = getelementptr ptr, ptr %held, i64 %p.index
  %p.array = load ptr, ptr %p.array.at
  %p.data.at = getelementptr i8, ptr %p.array, i64 16
  %p.data = load i64, ptr %p.data.at
  %p.slot.at = getelementptr i64, ptr %p.spec, i64 $OUT_SLOT
  %p.slot = load i64, ptr %p.slot.at
  %p.data.slot = getelementptr i64, ptr %frame, i64 %p.slot
  store i64 %p.data, ptr %p.data.slot
  %p.cell.word = mul i64 %p.index, $CELL_WORDS
  %p.cell.spec = getelementptr i64, ptr %cells, i64 %p.cell.word
  %p.copied = call i1 @copy_overlapping(ptr %d, ptr %frame, ptr %call, ptr %p.cell.spec)
  br i1 %p.copied, label %prepare.done, label %returned
prepare.done:
  %p.next = add i64 %p, 1
  br label %prepare.head
prepared:
  %unlock.gil = and i1 %long, %releasable
  br i1 %unlock.gil, label %release, label %execute
release:
  %saved = call ptr @PyEval_SaveThread()
  store ptr %saved, ptr %thread.at
  br label %execute

execute:
  %program = load ptr, ptr %d
  %status.program = call i64 %program(ptr %frame, ptr %call)
  %thread = load ptr, ptr %thread.at
  %kept = icmp eq ptr %thread, null
  br i1 %kept, label %returned, label %reacquire
reacquire:
  call void @PyEval_RestoreThread(ptr %thread)
  store ptr null, ptr %thread.at
  br label %returned
returned:
  %status.run = phi i64 [ -1, %prepare.in.place ], [ %status.program, %execute ],
                        [ %status.program, %reacquire ]
  %blocks = load ptr, ptr %blocks.at
  %no.blocks = icmp eq ptr %blocks, null
  br i1 %no.blocks, label %collect, label %free.blocks
free.blocks:
  call void @free_scratch(ptr %blocks)
  br label %collect

collect:
  %good = icmp eq i64 %status.run, 0
  br i1 %good, label %results.make, label %failed
results.make:
  %result = call ptr @make_results(ptr %d, ptr %frame, ptr %results)
  %unmade = icmp eq ptr %result, null
  br i1 %unmade, label %failed, label %commit

; -- nothing below can fail: swap the new values in, then drop what is no longer needed
commit:
  br i1 %updates, label %swap.head, label %cleanup
swap.head:
  %s = phi i64 [ 0, %commit ], [ %s.next, %swap.done ]
  %s.more = icmp slt i64 %s, %n_outputs
  br i1 %s.more, label %swap.one, label %cleanup
swap.one:
  %s.spec.word = mul i64 %s, $OUTPUT_WORDS
  %s.spec = getelementptr i64, ptr %outputs, i64 %s.spec.word
  %s.kind.at = getelementptr i64, ptr %s.spec, i64 $OUT_KIND
  %s.kind = load i64, ptr %s.kind.at
  %is.swap = icmp eq i64 %s.kind, 1
  br i1 %is.swap, label %swap, label %swap.done
swap:
  %s.cell.at = getelementptr ptr, ptr %s.spec, i64 $OUT_CELL
  %s.cell = load ptr, ptr %s.cell.at
  %s.array.at = getelementptr i8, ptr %s.cell, i64 $CELL_ARRAY_BYTES
  %s.word = shl i64 %s, 1
  %s.new.at = getelementptr ptr, ptr %results, i64 %s.word
  %s.new = load ptr, ptr %s.new.at
  %s.old = load ptr, ptr %s.array.at
  store ptr %s.new, ptr %s.array.at
  store ptr %s.old, ptr %s.new.at
  br label %swap.done
swap.done:
  %s.next = add i64 %s, 1
  br label %swap.head

failed:
  %status = phi i64 [ %status.run, %collect ], [ -1, %results.make ]
  br label %cleanup
cleanup:
  %outcome = phi ptr [ %result, %commit ], [ %result, %swap.head ], [ null, %failed ]
  %status.final = phi i64 [ 0, %commit ], [ 0, %swap.head ], [ %status, %failed ]
  ; The program may have taken the lock (st_release_gil).
  %locked.now = load i64, ptr %locked.at
  %locked.finally = icmp ne i64 %locked.now, 0
  br i1 %locked.finally, label %unlock, label %drop
unlock:
  %my.lock = load ptr, ptr @st_update_lock
  call void @PyThread_release_lock(ptr %my.lock)
  store i64 0, ptr @st_update_owner
  br label %drop
drop:
  call void @release_all(ptr %held, i64 %n_cells)
  %failure = icmp ne i64 %status.final, 0
  %dropping = or i1 %failure, %updates
  br i1 %dropping, label %drop.results, label %finish
drop.results:
  call void @drop_results(ptr %results, i64 %n_outputs)
  br i1 %failure, label %raise, label %finish
raise:
  %raise.requested = load i64, ptr %requested.at
  %no.memory = icmp eq i64 %status.final, -1
  br i1 %no.memory, label %raise.memory, label %raise.other
raise.memory:
  ; The bytes that could not be had are the first detail of this status.
  %detail.slot.at = getelementptr i64, ptr %d, i64 $DETAIL_SLOT
  %detail.slot = load i64, ptr %detail.slot.at
  %detail.at = getelementptr i64, ptr %frame, i64 %detail.slot
  store i64 %raise.requested, ptr %detail.at
  br label %raise.other
raise.other:
  call void @raise_status(ptr %d, ptr %frame, i64 %status.final)
  ret ptr null

finish:
  %finish.at = getelementptr ptr, ptr %d, i64 $FINISH
  %finisher = load ptr, ptr %finish.at
  %as.is = icmp eq ptr %finisher, null
  br i1 %as.is, label %leave, label %finish.call
finish.call:
  %argument = alloca ptr, align 8
  store ptr %outcome, ptr %argument
  %finished = call ptr @PyObject_Vectorcall(ptr %finisher, ptr %argument, i64 1, ptr null)
  call void @Py_DecRef(ptr %outcome)
  ret ptr %finished
leave:
  ret ptr %outcome
}

; Drops `count` references.
define internal void @release_all(ptr %objects, i64 %count) nounwind {
entry:
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %k.next, %one ]
  %more = icmp slt i64 %k, %count
  br i1 %more, label %one, label %done
one:
  %at = getelementptr ptr, ptr %objects, i64 %k
  %object = load ptr, ptr %at
  call void @Py_DecRef(ptr %object)
  %k.next = add i64 %k, 1
  br label %head
done:
  ret void
}

; Drops what the result table still owns: arrays, and blocks that were never wrapped.
define internal void @drop_results(ptr %results, i64 %count) nounwind {
entry:
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %k.next, %next ]
  %more = icmp slt i64 %k, %count
  br i1 %more, label %one, label %done
one:
  %word = shl i64 %k, 1
  %object.at = getelementptr ptr, ptr %results, i64 %word
  %object = load ptr, ptr %object.at
  call void @Py_DecRef(ptr %object)
  %block.at = getelementptr ptr, ptr %object.at, i64 1
  %block = load ptr, ptr %block.at
  %no.block = icmp eq ptr %block, null
  br i1 %no.block, label %next, label %free
free:
  call void @st_block_free(ptr %block)
  br label %next
next:
  %k.next = add i64 %k, 1
  br label %head
done:
  ret void
}

; Wraps the blocks that were filled without the GIL, then makes the object that the call returns: one
; array or a list. Ownership of returned arrays moves out of the table. Null, without an error set, when
; memory ran out.
define internal ptr @make_results(ptr %d, ptr %frame, ptr %results) nounwind {
entry:
  %n.at = getelementptr i64, ptr %d, i64 $N_OUTPUTS
  %n = load i64, ptr %n.at
  %outputs.at = getelementptr ptr, ptr %d, i64 $OUTPUTS
  %outputs = load ptr, ptr %outputs.at
  %mode.at = getelementptr i64, ptr %d, i64 $RESULT
  %mode = load i64, ptr %mode.at
  %one.array = icmp eq i64 %mode, 0
  br label %wrap.head
wrap.head:
  %k = phi i64 [ 0, %entry ], [ %k.next, %wrap.next ]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %wrap.one, label %wrapped
wrap.one:
  %k.word = shl i64 %k, 1
  %object.at = getelementptr ptr, ptr %results, i64 %k.word
  %block.at = getelementptr ptr, ptr %object.at, i64 1
  %block = load ptr, ptr %block.at
  %no.block = icmp eq ptr %block, null
  br i1 %no.block, label %wrap.next, label %wrap
wrap:
  %spec.word = mul i64 %k, $OUTPUT_WORDS
  %spec = getelementptr i64, ptr %outputs, i64 %spec.word
  %descr.at = getelementptr ptr, ptr %spec, i64 $OUT_DESCR
  %descr = load ptr, ptr %descr.at
  %rank.at = getelementptr i64, ptr %spec, i64 $OUT_RANK
  %rank = load i64, ptr %rank.at
  %rank.narrow = trunc i64 %rank to i32
  %slot.at = getelementptr i64, ptr %spec, i64 $OUT_SLOT
  %slot = load i64, ptr %slot.at
  %dims.slot = add i64 %slot, 1
  %dims = getelementptr i64, ptr %frame, i64 %dims.slot
  call void @Py_IncRef(ptr %descr)
  ; flags: C-contiguous, aligned, writeable
  %array = call ptr @PyArray_NewFromDescr(ptr @PyArray_Type, ptr %descr, i32 %rank.narrow, ptr %dims,
                                          ptr null, ptr %block, i32 1281, ptr null)
  %failed = icmp eq ptr %array, null
  br i1 %failed, label %no.memory, label %own
own:
  ; The array owns the block: OWNDATA (4), freed through our handler.
  %flags.at = getelementptr i8, ptr %array, i64 64
  %flags = load i32, ptr %flags.at
  %flags.own = or i32 %flags, 4
  store i32 %flags.own, ptr %flags.at
  %handler = load ptr, ptr @st_handler
  call void @Py_IncRef(ptr %handler)
  %handler.at = getelementptr i8, ptr %array, i64 88
  store ptr %handler, ptr %handler.at
  store ptr %array, ptr %object.at
  store ptr null, ptr %block.at
  br label %wrap.next
wrap.next:
  %k.next = add i64 %k, 1
  br label %wrap.head

wrapped:
  br i1 %one.array, label %take.head, label %list
list:
  %n_returned.at = getelementptr i64, ptr %d, i64 $N_RETURNED
  %n_returned = load i64, ptr %n_returned.at
  %made = call ptr @PyList_New(i64 %n_returned)
  %no.list = icmp eq ptr %made, null
  br i1 %no.list, label %no.memory, label %take.head
take.head:
  %t = phi i64 [ 0, %wrapped ], [ 0, %list ], [ %t.next, %take.next ]
  %object = phi ptr [ null, %wrapped ], [ %made, %list ], [ %object.next, %take.next ]
  %t.more = icmp slt i64 %t, %n
  br i1 %t.more, label %take.one, label %done
take.one:
  %t.spec.word = mul i64 %t, $OUTPUT_WORDS
  %t.spec = getelementptr i64, ptr %outputs, i64 %t.spec.word
  %kind.at = getelementptr i64, ptr %t.spec, i64 $OUT_KIND
  %kind = load i64, ptr %kind.at
  %returned = icmp eq i64 %kind, 0
  br i1 %returned, label %take, label %take.next
take:
  %t.word = shl i64 %t, 1
  %t.object.at = getelementptr ptr, ptr %results, i64 %t.word
  %t.object = load ptr, ptr %t.object.at
  store ptr null, ptr %t.object.at
  br i1 %one.array, label %take.next, label %append
append:
  %position.at = getelementptr i64, ptr %t.spec, i64 $OUT_INDEX
  %position = load i64, ptr %position.at
  %ignored = call i32 @PyList_SetItem(ptr %object, i64 %position, ptr %t.object)
  br label %take.next
take.next:
  %object.next = phi ptr [ %object, %take.one ], [ %t.object, %take ], [ %object, %append ]
  %t.next = add i64 %t, 1
  br label %take.head
done:
  ret ptr %object
no.memory:
  call void @PyErr_Clear()
  ret ptr null
}
"""
