"""`make structure`: what it reads from a program's text, what it allows, and that its page is made from its rows."""

import json

import pytest

from experiments.structure import __main__ as structure
from experiments.structure import hlo, page, programs, targets
from tests.test_docs import ROOT

COMMITTED = structure.Config().out

TEXT = """HloModule jit_f, entry_computation_layout={(bf16[8,1000]{1,0}, s32[8]{0})->f32[8]{0}}

%region_0.1 (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  ROOT %add.1 = f32[] add(%a, %a)
}

%fused_gather (p.0: bf16[8,1000], p.1: s32[8]) -> f32[8] {
  %p.0 = bf16[8,1000]{1,0} parameter(0)
  %p.1 = s32[8]{0} parameter(1)
  %bitcast.1 = bf16[8000]{0} bitcast(%p.0)
  %gather.1 = bf16[8]{0} gather(%bitcast.1, %p.1), offset_dims={}, slice_sizes={1}
  ROOT %convert.1 = f32[8]{0} convert(%gather.1)
}

%fused_reduce (p.2: bf16[8,1000]) -> (f32[8], f32[8]) {
  %p.2 = bf16[8,1000]{1,0} parameter(0)
  %convert.2 = f32[8,1000]{1,0} convert(%p.2)
  %c = f32[] constant(0)
  %reduce.1 = f32[8]{0} reduce(%convert.2, %c), dimensions={1}, to_apply=%region_0.1
  ROOT %tuple.1 = (f32[8]{0}, f32[8]{0}) tuple(%reduce.1, %reduce.1)
}

%fused_scatter (p.3: bf16[8,1000], p.4: s32[8], p.5: bf16[8]) -> bf16[8,1000] {
  %p.3 = bf16[8,1000]{1,0} parameter(0)
  %p.4 = s32[8]{0} parameter(1)
  %p.5 = bf16[8]{0} parameter(2)
  ROOT %scatter.1 = bf16[8,1000]{1,0} scatter(%p.3, %p.4, %p.5), to_apply=%region_0.1
}

ENTRY %main.9 (x.1: bf16[8,1000], y.1: s32[8]) -> f32[8] {
  %x.1 = bf16[8,1000]{1,0} parameter(0), metadata={op_name="x"}
  %y.1 = s32[8]{0} parameter(1)
  %looked_up = f32[8]{0} fusion(%x.1, %y.1), kind=kLoop, calls=%fused_gather
  %sums = (f32[8]{0}, f32[8]{0}) fusion(%x.1), kind=kInput, calls=%fused_reduce, metadata={op_name="sum"}
  %first = f32[8]{0} get-tuple-element(%sums), index=0
  %half = bf16[8]{0} convert(%first)
  %put = bf16[8,1000]{1,0} fusion(%x.1, %y.1, %half), kind=kInput, calls=%fused_scatter
  ROOT %out = f32[8]{0} add(%first, %looked_up)
}
"""


def test_what_is_read_from_a_program():
    found = {kernel.name: kernel[2:] for kernel in hlo.kernels(TEXT)}
    row, logits = 8 * 4, 8 * 1000 * 2
    assert found == {
        "looked_up": (16 + row, row),  # eight entries and their indices
        "sums": (logits, 2 * row),
        "half": (row, 16),
        "put": (16 + row + 16, 16),  # in place
        "out": (2 * row, row),
    }
    assert hlo.moved(hlo.kernels(TEXT)) == sum(read + written for read, written in found.values())


def test_programs_that_cannot_be_read():
    with pytest.raises(ValueError, match="while"):
        hlo.kernels(TEXT.replace("= bf16[8]{0} convert(%first)", "= bf16[8]{0} while(%first)"))
    with pytest.raises(ValueError, match="No instruction"):
        hlo.kernels(TEXT.replace("%half = bf16[8]{0} convert(%first)", "%half = nothing"))


def test_a_compiler_that_is_missing():
    absent = targets.TARGETS["v5e"]._replace(packages=("no-such-compiler",))
    with pytest.raises(targets.Unavailable, match="no-such-compiler is not installed"):
        targets.versions(absent)
    with pytest.raises(ValueError, match="'H200'"):
        structure.run(structure.Config(targets=("H200",)))


@pytest.fixture(scope="module")
def committed():
    return json.loads(COMMITTED.read_text(encoding="utf-8"))


def test_committed_rows_are_within_their_limits(committed):
    assert {row["target"] for row in committed["programs"]} == set(targets.TARGETS)
    assert [why for why in map(programs.broken, committed["programs"]) if why] == []
    worse = [row | {"passes": 1.01 * programs.limit(row)} for row in committed["programs"] if programs.limit(row)]
    more = [
        row | {"kernels": programs.most_kernels(row) + 1} for row in committed["programs"] if programs.most_kernels(row)
    ]
    larger = [row | {"temporary": 1.01 * programs.needs(row)} for row in committed["programs"]]
    for some in (worse, more, larger):
        assert len(some) > 20 and all(programs.broken(row) for row in some if row["function"] == "jsoftmax")


def test_the_page_is_made_from_the_rows(committed):
    text = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")
    assert page.with_tables(text, committed) == text
    with pytest.raises(ValueError, match="markers"):
        page.with_tables("no markers", committed)
