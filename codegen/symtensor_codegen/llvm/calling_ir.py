"""LLVM IR of one call: checking arguments, running the program, making results, committing updates."""

from __future__ import annotations

__all__ = ["TEXT"]

TEXT = r"""
; ---- what CPython and NumPy give us ------------------------------------------------------------------------
@PyArray_Type = external global i8
@PyFloat_Type = external global i8
@PyLong_Type = external global i8
declare void @Py_IncRef(ptr) nounwind
declare void @Py_DecRef(ptr) nounwind
declare i64 @PyLong_AsLongLongAndOverflow(ptr, ptr) nounwind
declare ptr @PyLong_FromLongLong(i64) nounwind
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr) nounwind
declare ptr @PyList_New(i64) nounwind
declare i32 @PyList_SetItem(ptr, i64, ptr) nounwind
declare void @PyErr_SetObject(ptr, ptr) nounwind
declare void @PyErr_Clear() nounwind
declare i32 @PyErr_CheckSignals() nounwind
declare ptr @PyEval_SaveThread() nounwind
declare void @PyEval_RestoreThread(ptr) nounwind
declare i64 @PyThread_get_thread_ident() nounwind
declare i32 @PyThread_acquire_lock(ptr, i32) nounwind
declare void @PyThread_release_lock(ptr) nounwind
declare ptr @PyArray_NewFromDescr(ptr, ptr, i32, ptr, ptr, ptr, i32, ptr) nounwind

; The PyDataMem handler capsule of our memory blocks, set once.
@st_handler = global ptr null
; Update lock: the thread whose long-running call may change shared variables, 0 when free. Read and written
; only with the GIL held; the PyThread lock beside it is what the others wait for.
@st_update_owner = global i64 0
@st_update_lock = global ptr null

; ---- the vectorcall of every compiled function -------------------------------------------------------------
define ptr @st_entry(ptr %callable, ptr %args, i64 %nargsf, ptr %names) nounwind {
entry:
  %d.at = getelementptr i8, ptr %callable, i64 $DESCRIPTOR_BYTES
  %d = load ptr, ptr %d.at
  %n = and i64 %nargsf, 9223372036854775807
  %n_inputs.at = getelementptr i64, ptr %d, i64 $N_INPUTS
  %n_inputs = load i64, ptr %n_inputs.at
  %words.at = getelementptr i64, ptr %d, i64 $FRAME_WORDS
  %words = load i64, ptr %words.at
  %frame = alloca i64, i64 %words, align 16
  %unnamed = icmp eq ptr %names, null
  %complete = icmp eq i64 %n, %n_inputs
  %plain = and i1 %unnamed, %complete
  br i1 %plain, label %fast, label %slow
fast:
  %size = call i64 @read_inputs(ptr %d, ptr %args, ptr %frame)
  %unusual = icmp slt i64 %size, 0
  br i1 %unusual, label %slow, label %run
run:
  %result = call ptr @run(ptr %d, ptr %frame, i64 %size)
  ret ptr %result
slow:
  ; A Python function converts or raises; it returns a tuple of arrays that conform.
  %slow_path.at = getelementptr ptr, ptr %d, i64 $SLOW_PATH
  %slow_path = load ptr, ptr %slow_path.at
  %converted = call ptr @PyObject_Vectorcall(ptr %slow_path, ptr %args, i64 %n, ptr %names)
  %raised = icmp eq ptr %converted, null
  br i1 %raised, label %error, label %again
again:
  %items = getelementptr i8, ptr %converted, i64 24
  %size.again = call i64 @read_inputs(ptr %d, ptr %items, ptr %frame)
  %wrong = icmp slt i64 %size.again, 0
  br i1 %wrong, label %broken, label %run.again
run.again:
  %result.again = call ptr @run(ptr %d, ptr %frame, i64 %size.again)
  call void @Py_DecRef(ptr %converted)
  ret ptr %result.again
broken:
  call void @Py_DecRef(ptr %converted)
  call void @raise_status(ptr %d, ptr %frame, i64 -3)
  br label %error
error:
  ret ptr null
}

; Checks the arguments and writes [data, dims...] of each into the frame. Returns the bytes they hold
; together, or -1 when one of them needs the slow path.
define internal i64 @read_inputs(ptr %d, ptr %args, ptr %frame) nounwind {
entry:
  %n.at = getelementptr i64, ptr %d, i64 $N_INPUTS
  %n = load i64, ptr %n.at
  %specs.at = getelementptr ptr, ptr %d, i64 $INPUTS
  %specs = load ptr, ptr %specs.at
  %words.at = getelementptr i64, ptr %d, i64 $FRAME_WORDS
  %words = load i64, ptr %words.at
  %first.scalar = sub i64 %words, %n
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %k.next, %next ]
  %slot = phi i64 [ 0, %entry ], [ %slot.next, %next ]
  %total = phi i64 [ 0, %entry ], [ %total.next, %next ]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %argument, label %done
argument:
  %spec.word = mul i64 %k, $INPUT_WORDS
  %spec = getelementptr i64, ptr %specs, i64 %spec.word
  %object.at = getelementptr ptr, ptr %args, i64 %k
  %object = load ptr, ptr %object.at
  %type.at = getelementptr i8, ptr %object, i64 8
  %type = load ptr, ptr %type.at
  %rank.at = getelementptr i64, ptr %spec, i64 $IN_RANK
  %rank = load i64, ptr %rank.at
  %itemsize.at = getelementptr i64, ptr %spec, i64 $IN_ITEMSIZE
  %itemsize = load i64, ptr %itemsize.at
  %data.slot = getelementptr i64, ptr %frame, i64 %slot
  %is.array = icmp eq ptr %type, @PyArray_Type
  br i1 %is.array, label %array, label %scalar

array:
  ; C-contiguous (1) and aligned (256), the right rank, the right element type.
  %flags.at = getelementptr i8, ptr %object, i64 64
  %flags = load i32, ptr %flags.at
  %wanted.flags = and i32 %flags, 257
  %good.flags = icmp eq i32 %wanted.flags, 257
  %nd.at = getelementptr i8, ptr %object, i64 24
  %nd = load i32, ptr %nd.at
  %nd.wide = sext i32 %nd to i64
  %good.rank = icmp eq i64 %nd.wide, %rank
  %good.layout = and i1 %good.flags, %good.rank
  br i1 %good.layout, label %element, label %unusual
element:
  %descr.at = getelementptr i8, ptr %object, i64 56
  %descr = load ptr, ptr %descr.at
  %descr.wanted.at = getelementptr ptr, ptr %spec, i64 $IN_DESCR
  %descr.wanted = load ptr, ptr %descr.wanted.at
  %same.descr = icmp eq ptr %descr, %descr.wanted
  br i1 %same.descr, label %shaped, label %equivalent
equivalent:
  ; An equal but distinct dtype object: same type number, native byte order ('=' or '|').
  %number.at = getelementptr i8, ptr %descr, i64 28
  %number = load i32, ptr %number.at
  %number.wide = sext i32 %number to i64
  %number.wanted.at = getelementptr i64, ptr %spec, i64 $IN_TYPE_NUMBER
  %number.wanted = load i64, ptr %number.wanted.at
  %same.number = icmp eq i64 %number.wide, %number.wanted
  %order.at = getelementptr i8, ptr %descr, i64 26
  %order = load i8, ptr %order.at
  %order.equal = icmp eq i8 %order, 61
  %order.none = icmp eq i8 %order, 124
  %native = or i1 %order.equal, %order.none
  %same.type = and i1 %same.number, %native
  br i1 %same.type, label %shaped, label %unusual
shaped:
  %data.at = getelementptr i8, ptr %object, i64 16
  %data = load i64, ptr %data.at
  store i64 %data, ptr %data.slot
  %dims.at = getelementptr i8, ptr %object, i64 32
  %dims = load ptr, ptr %dims.at
  %static.at = getelementptr ptr, ptr %spec, i64 $IN_DIMS
  %static = load ptr, ptr %static.at
  br label %axes
axes:
  %axis = phi i64 [ 0, %shaped ], [ %axis.next, %axis.good ]
  %size = phi i64 [ %itemsize, %shaped ], [ %size.next, %axis.good ]
  %axis.more = icmp slt i64 %axis, %rank
  br i1 %axis.more, label %one.axis, label %next
one.axis:
  %extent.at = getelementptr i64, ptr %dims, i64 %axis
  %extent = load i64, ptr %extent.at
  %static.axis.at = getelementptr i64, ptr %static, i64 %axis
  %static.axis = load i64, ptr %static.axis.at
  %any = icmp slt i64 %static.axis, 0
  %equal = icmp eq i64 %static.axis, %extent
  %good.extent = or i1 %any, %equal
  %axis.next = add i64 %axis, 1
  %extent.slot = getelementptr i64, ptr %data.slot, i64 %axis.next
  store i64 %extent, ptr %extent.slot
  %size.next = mul i64 %size, %extent
  br i1 %good.extent, label %axis.good, label %unusual
axis.good:
  br label %axes

scalar:
  ; NumPy scalars and Python floats hold their value right behind the object header: use it in place.
  %zero.rank = icmp eq i64 %rank, 0
  br i1 %zero.rank, label %scalar.type, label %unusual
scalar.type:
  %numpy.type.at = getelementptr ptr, ptr %spec, i64 $IN_SCALAR_TYPE
  %numpy.type = load ptr, ptr %numpy.type.at
  %is.numpy = icmp eq ptr %type, %numpy.type
  %python.at = getelementptr i64, ptr %spec, i64 $IN_PYTHON
  %python = load i64, ptr %python.at
  %takes.float = icmp eq i64 %python, 1
  %is.float = icmp eq ptr %type, @PyFloat_Type
  %float.good = and i1 %takes.float, %is.float
  %in.place = or i1 %is.numpy, %float.good
  br i1 %in.place, label %boxed, label %integer
boxed:
  %value.at = getelementptr i8, ptr %object, i64 16
  %value.address = ptrtoint ptr %value.at to i64
  store i64 %value.address, ptr %data.slot
  br label %next
integer:
  %is.int = icmp eq ptr %type, @PyLong_Type
  %takes.int = icmp ne i64 %python, 0
  %int.good = and i1 %is.int, %takes.int
  br i1 %int.good, label %convert, label %unusual
convert:
  ; The value is kept in a spare word at the end of the frame; the high half is free for the overflow flag.
  %spare = add i64 %first.scalar, %k
  %spare.at = getelementptr i64, ptr %frame, i64 %spare
  %spare.address = ptrtoint ptr %spare.at to i64
  store i64 %spare.address, ptr %data.slot
  %int = call i64 @PyLong_AsLongLongAndOverflow(ptr %object, ptr %spare.at)
  %overflow = load i32, ptr %spare.at
  %fits = icmp eq i32 %overflow, 0
  br i1 %fits, label %converted, label %unusual
converted:
  %shifted = add i64 %int, 9007199254740992
  %exact = icmp ule i64 %shifted, 18014398509481984
  %float = sitofp i64 %int to double
  %float.bits = bitcast double %float to i64
  %bits = select i1 %takes.float, i64 %float.bits, i64 %int
  store i64 %bits, ptr %spare.at
  %as.int = icmp eq i64 %python, 2
  %kept = or i1 %as.int, %exact
  br i1 %kept, label %next, label %unusual

next:
  %size.argument = phi i64 [ %size, %axes ], [ %itemsize, %boxed ], [ %itemsize, %converted ]
  %total.next = add i64 %total, %size.argument
  %k.next = add i64 %k, 1
  %slot.after = add i64 %slot, 1
  %slot.next = add i64 %slot.after, %rank
  br label %head
done:
  ret i64 %total
unusual:
  ret i64 -1
}

; Runs the program on a frame whose inputs are filled; a new reference to the result, or null with an error set.
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
  br label %prepare.done
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
  %blocks = load ptr, ptr %blocks.at
  %no.blocks = icmp eq ptr %blocks, null
  br i1 %no.blocks, label %collect, label %free.blocks
free.blocks:
  call void @free_scratch(ptr %blocks)
  br label %collect

collect:
  %good = icmp eq i64 %status.program, 0
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
  %status = phi i64 [ %status.program, %collect ], [ -1, %results.make ]
  br label %cleanup
cleanup:
  %outcome = phi ptr [ %result, %commit ], [ %result, %swap.head ], [ null, %failed ]
  %status.final = phi i64 [ 0, %commit ], [ 0, %swap.head ], [ %status, %failed ]
  br i1 %locked, label %unlock, label %drop
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

; Wraps the blocks that were filled without the GIL, then makes the object that the call returns: one array
; or a list. Ownership of returned arrays moves out of the table. Null, without an error set, when memory ran out.
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
  %array = call ptr @PyArray_NewFromDescr(ptr @PyArray_Type, ptr %descr, i32 %rank.narrow, ptr %dims, ptr null,
                                          ptr %block, i32 1281, ptr null)
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

; Sets the Python error for a status. -2: the error is set already. Otherwise the descriptor's `fail` is called
; with the status and the four detail words and returns the exception.
define internal void @raise_status(ptr %d, ptr %frame, i64 %status) nounwind {
entry:
  %set = icmp eq i64 %status, -2
  br i1 %set, label %done, label %build
build:
  %arguments = alloca [5 x ptr], align 16
  %detail.at = getelementptr i64, ptr %d, i64 $DETAIL_SLOT
  %detail = load i64, ptr %detail.at
  %details = getelementptr i64, ptr %frame, i64 %detail
  %first = call ptr @PyLong_FromLongLong(i64 %status)
  store ptr %first, ptr %arguments
  br label %head
head:
  %k = phi i64 [ 0, %build ], [ %k.next, %one ]
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k, 4
  br i1 %more, label %one, label %invoke
one:
  %value.at = getelementptr i64, ptr %details, i64 %k
  %value = load i64, ptr %value.at
  %boxed = call ptr @PyLong_FromLongLong(i64 %value)
  %argument.at = getelementptr ptr, ptr %arguments, i64 %k.next
  store ptr %boxed, ptr %argument.at
  br label %head
invoke:
  %fail.at = getelementptr ptr, ptr %d, i64 $FAIL
  %fail = load ptr, ptr %fail.at
  %exception = call ptr @PyObject_Vectorcall(ptr %fail, ptr %arguments, i64 5, ptr null)
  call void @release_all(ptr %arguments, i64 5)
  %raised = icmp eq ptr %exception, null
  br i1 %raised, label %done, label %set.error
set.error:
  %type.at = getelementptr i8, ptr %exception, i64 8
  %type = load ptr, ptr %type.at
  call void @PyErr_SetObject(ptr %type, ptr %exception)
  call void @Py_DecRef(ptr %exception)
  br label %done
done:
  ret void
}

; ---- what programs call ------------------------------------------------------------------------------------
; Allocates result `k` for the sizes in its frame slots, writes its data pointer into the frame and returns it;
; null when memory ran out.
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
  %array = call ptr @PyArray_NewFromDescr(ptr @PyArray_Type, ptr %descr, i32 %rank.narrow, ptr %dims, ptr null,
                                          ptr null, i32 0, ptr null)
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

; Lets other Python threads run from here to the end of the call, when that is safe for shared variables.
define void @st_release_gil(ptr %call) nounwind {
entry:
  %thread.at = getelementptr ptr, ptr %call, i64 $CALL_THREAD
  %thread = load ptr, ptr %thread.at
  %held = icmp eq ptr %thread, null
  %releasable.at = getelementptr i64, ptr %call, i64 $CALL_RELEASABLE
  %releasable = load i64, ptr %releasable.at
  %allowed = icmp ne i64 %releasable, 0
  %go = and i1 %held, %allowed
  br i1 %go, label %release, label %done
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
