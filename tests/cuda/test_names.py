"""Names: whatever the user calls things, the text is right; and every function that it calls is in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

import symtensor.tensor as T
from symtensor.graph import Tensor
from symtensor.lower.plan import Result, plan
from symtensor.pipeline import GRAPH_PASSES, rewritten
from symtensor_codegen.cuda.compiling import nvrtc
from symtensor_codegen.cuda.schedules.schedule import schedule
from symtensor_codegen.cuda.text import prelude
from symtensor_codegen.cuda.text.emit import emit_kernel
from symtensor_codegen.cuda.text.values import Identifiers

KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class
    co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype default
    delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int long
    mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
    reinterpret_cast requires return short signed sizeof static static_assert static_cast struct switch template this
    thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor
    xor_eq
    """.split()  # noqa: SIM905
OTHERS = ["NULL", "main", "exp", "expf", "p0", "v1", "f32_4", "st_pack", "k", "x.y", "2x", "__x"]


def programs(name: str) -> Iterator[tuple[list[Tensor], Tensor]]:
    """A program for each form of a stage, with something of this name in it."""
    rows, numbers, places = T.fmatrix(name), T.fvector(name), T.lvector(name)
    other, index = T.fmatrix("other"), T.lvector("index")
    yield [rows, other], T.exp(rows) * 2 + other
    yield [rows, other], rows + other.T
    yield [rows, other], (rows * other).sum(1) + rows.max(1)
    yield [rows], ((rows - rows.mean(0)) ** 2).mean(0)
    yield [rows], rows.argmax(1) + (rows > 0).any(1)
    yield [rows], T.nnet.softmax(rows)
    yield [rows], T.cumsum(rows, 1)
    yield [rows], T.cumsum(rows, 0)
    yield [numbers], numbers.sum() + T.cumprod(numbers)[-1]
    yield [index, numbers], T.inc_subtensor(T.zeros((5,), "float32")[index], T.exp(numbers))
    yield [index, rows], T.inc_subtensor(T.zeros((5, 3), "float32")[index], rows)
    yield [places], T.bincount(places)
    yield [other, places], T.set_subtensor(other[places], 1)
    yield [rows], T.cast(rows, "uint64") + T.cast(T.erf(rows), "int8")
    yield [rows, other], T.concatenate([rows, other], 1)


def texts(name: str) -> list[str]:
    """The CUDA text of all their kernels."""
    found: list[str] = []
    for number, (inputs, result) in enumerate(programs(name)):
        made = plan("f", inputs, [], [Result(rewritten([result], GRAPH_PASSES)[-1].outputs[0])])
        for position, kernel in enumerate(made.program.kernels()):
            found.append(emit_kernel(kernel, schedule(kernel), f"k_{number}_{position}"))
    return found


def code(text: str) -> str:
    """What of a kernel's text follows the functions that it calls, without comments and what has a scope of its own."""
    return re.sub(r"//.*|\"C\"|#.*|\[\]\(.*?\}", "", text[text.index('extern "C" __global__') :])


def test_words_of_texts_are_not_given_to_things(monkeypatch: pytest.MonkeyPatch) -> None:
    """All words but those that were chosen for things are ones that nothing else can be called."""
    given: set[str] = set()
    fresh = Identifiers.fresh

    def noted(self: Identifiers, wanted: str) -> str:
        name = fresh(self, wanted)
        given.add(name)
        return name

    monkeypatch.setattr(Identifiers, "fresh", noted)
    words = {word for text in texts("neutral") for word in re.findall(r"(?<![.\w])[A-Za-z_]\w*", code(text))}
    monkeypatch.undo()
    functions = {word for word in words if re.match(r"k_\d+_\d+", word)}
    fixed = words - given - functions
    assert {"near", "neutral"} <= given
    assert {"rank", "scratch", "f32", "gridDim", "const", "u"} <= fixed
    assert {word for word in (*fixed, *KEYWORDS, *OTHERS) if Identifiers().fresh(word) == word} == set()


@pytest.mark.skipif(nvrtc.find() is None, reason="needs NVRTC")
@pytest.mark.parametrize("name", ["u", "scratch", "f64", "typename", "exp", "st_pack", "x.y", "2x"])
def test_the_compiler_takes_them(name: str) -> None:
    library = nvrtc.find()
    assert library is not None
    together = "\n".join(f"namespace n{k} {{\n{source}\n}}" for k, source in enumerate(texts(name)))
    options = ("-arch=sm_90", "-std=c++20", "-default-device", "--minimal", "-fdevice-syntax-only", "-w")
    assert "error" not in nvrtc.compile_text(library, together, "names.cu", options, "PTX").log


def test_texts_are_the_same_in_every_process() -> None:
    """Code is stored by its text: what depends on the order of a set would be compiled again."""
    told = "from tests.cuda.test_names import texts; print('\\n'.join(texts('neutral')))"
    here = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    found = set()
    for seed in ("1", "2", "3"):
        command, environment = [sys.executable, "-c", told], here | {"PYTHONHASHSEED": seed}
        found.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1


def test_functions_bring_what_they_call() -> None:
    for name in prelude.FUNCTIONS:
        brought = prelude.functions([name])
        defined = set(re.findall(r"(?:struct|[\w>&] )\s*(st_\w+)\s*(?:[({<;]|$)", brought))
        called = set(re.findall(r"\b(st_\w+)\s*(?:<[\w, ]*>)?\(", brought))
        assert called <= defined, (name, called - defined)
