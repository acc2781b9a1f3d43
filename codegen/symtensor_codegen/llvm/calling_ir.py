"""LLVM IR of the entry of every compiled function: checking arguments, the slow path, raising errors."""

from __future__ import annotations

__all__ = ["TEXT"]

TEXT = r"""
; ---- what CPython and NumPy give us --------------------------------------------------------------
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

; ---- the vectorcall of every compiled function ---------------------------------------------------
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

; Bytes of the array of `rank` sizes at a place of the frame: [data, dims...].
define internal i64 @array_bytes(ptr %place, i64 %rank, i64 %itemsize) nounwind {
entry:
  br label %head
head:
  %axis = phi i64 [ 0, %entry ], [ %axis.next, %one ]
  %bytes = phi i64 [ %itemsize, %entry ], [ %bytes.next, %one ]
  %more = icmp slt i64 %axis, %rank
  br i1 %more, label %one, label %done
one:
  %axis.next = add i64 %axis, 1
  %extent.at = getelementptr i64, ptr %place, i64 %axis.next
  %extent = load i64, ptr %extent.at
  %bytes.next = mul i64 %bytes, %extent
  br label %head
done:
  ret i64 %bytes
}

; An argument may lie in the memory of a shared variable that this call writes in place (its `get_value` with
; `borrow`, a view of that): the program reads a copy of it. False when there is no memory for the copy.
define internal i1 @copy_overlapping(ptr %d, ptr %frame, ptr %call, ptr %cell) nounwind {
entry:
  %n.at = getelementptr i64, ptr %d, i64 $N_INPUTS
  %n = load i64, ptr %n.at
  %specs.at = getelementptr ptr, ptr %d, i64 $INPUTS
  %specs = load ptr, ptr %specs.at
  %cell.slot.at = getelementptr i64, ptr %cell, i64 $CELL_SLOT
  %cell.slot = load i64, ptr %cell.slot.at
  %cell.rank.at = getelementptr i64, ptr %cell, i64 $CELL_RANK
  %cell.rank = load i64, ptr %cell.rank.at
  %cell.itemsize.at = getelementptr i64, ptr %cell, i64 $CELL_ITEMSIZE
  %cell.itemsize = load i64, ptr %cell.itemsize.at
  %cell.place = getelementptr i64, ptr %frame, i64 %cell.slot
  %start = load i64, ptr %cell.place
  %cell.bytes = call i64 @array_bytes(ptr %cell.place, i64 %cell.rank, i64 %cell.itemsize)
  %end = add i64 %start, %cell.bytes
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %k.next, %next ]
  %slot = phi i64 [ 0, %entry ], [ %slot.next, %next ]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %argument, label %done
argument:
  %spec.word = mul i64 %k, $INPUT_WORDS
  %spec = getelementptr i64, ptr %specs, i64 %spec.word
  %rank.at = getelementptr i64, ptr %spec, i64 $IN_RANK
  %rank = load i64, ptr %rank.at
  %itemsize.at = getelementptr i64, ptr %spec, i64 $IN_ITEMSIZE
  %itemsize = load i64, ptr %itemsize.at
  %place = getelementptr i64, ptr %frame, i64 %slot
  %data = load i64, ptr %place
  %bytes = call i64 @array_bytes(ptr %place, i64 %rank, i64 %itemsize)
  %stop = add i64 %data, %bytes
  %before = icmp ult i64 %data, %end
  %behind = icmp ult i64 %start, %stop
  %overlaps = and i1 %before, %behind
  br i1 %overlaps, label %copy, label %next
copy:
  %own = call ptr @st_alloc(ptr %call, i64 %bytes)
  %failed = icmp eq ptr %own, null
  br i1 %failed, label %no.memory, label %copied
copied:
  %origin = inttoptr i64 %data to ptr
  %ignored = call ptr @memcpy(ptr %own, ptr %origin, i64 %bytes)
  store ptr %own, ptr %place
  br label %next
next:
  %k.next = add i64 %k, 1
  %slot.after = add i64 %slot, 1
  %slot.next = add i64 %slot.after, %rank
  br label %head
done:
  ret i1 true
no.memory:
  ret i1 false
}

; Sets the Python error for a status. -2: the error is set already. Otherwise the descriptor's `fail` is
; called with the status and the four detail words and returns the exception.
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
"""
