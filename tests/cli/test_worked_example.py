"""The worked example of the literature: a 5 x 5 image, two active sites, a 3 x 3 kernel; tables checked literally."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spcli.config import preset_names
from spcli.readers import find_scans, read

ROOT = Path(__file__).resolve().parents[2]
TENSOR = ROOT / "sample_data" / "worked_example.npz"

# output site (y, x) of each row, in canonical order
SPARSE_OUTPUTS = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)]
INPUTS = [(1, 2), (2, 3)]

# offset (y, x), count, v_in, v_out
SPARSE_RULES = [
    ((-1, -1), 0, 0, 5),
    ((-1, 0), 0, 0, 4),
    ((-1, 0), 1, 1, 7),
    ((-1, 1), 0, 0, 3),
    ((-1, 1), 1, 1, 6),
    ((0, -1), 0, 0, 2),
    ((0, 0), 0, 0, 1),
    ((0, 0), 1, 1, 5),
    ((0, 1), 0, 0, 0),
    ((0, 1), 1, 1, 4),
    ((1, 0), 0, 1, 2),
    ((1, 1), 0, 1, 1),
]
SUBMANIFOLD_RULES = [((-1, -1), 0, 0, 1), ((0, 0), 0, 0, 0), ((0, 0), 1, 1, 1), ((1, 1), 0, 1, 0)]

EXPECTED = {"sparse": (SPARSE_OUTPUTS, SPARSE_RULES), "submanifold": (INPUTS, SUBMANIFOLD_RULES)}


@pytest.fixture(params=["sparse", "submanifold"])
def kind(request):
    return request.param


@pytest.fixture
def arguments(kind):
    return [TENSOR, "--config", ROOT / "configs" / f"worked_example_{kind}.yaml"]


def test_the_tensor_is_that_of_the_papers():
    tensor = read(str(TENSOR)).content.tensor
    assert tensor.indices.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert tensor.spatial_shape == (5, 5)
    assert tensor.features.ravel().tolist() == pytest.approx([0.1] * 3 + [0.2] * 3)


def test_the_tables_and_rules_are_those_worked_out_by_hand(spcli, kind, arguments):
    outputs, rules = EXPECTED[kind]
    lines = spcli("inspect-rulebook", *arguments, "--hash-tables").lines
    tables = {
        name: [(tuple(line["site"]), line["row"]) for line in lines if line["table"] == name]
        for name in ("input", "output")
    }
    assert tables["input"] == [((0, *site), row) for row, site in enumerate(INPUTS)]
    assert tables["output"] == [((0, *site), row) for row, site in enumerate(outputs)]
    book = [line for line in lines if line["table"] == "rulebook"]
    assert [(tuple(rule["offset"]), rule["count"], rule["v_in"], rule["v_out"]) for rule in book] == rules
    for rule, ((y, x), _, v_in, v_out) in zip(book, rules, strict=True):
        assert rule["operation"] == f"out[{v_out}] += W[{y},{x}] · in[{v_in}]"


def test_every_offset_is_p_in_minus_p_out(kind):
    """Centred: a regular convolution without padding is one cell off, since its first window starts at the corner."""
    outputs, rules = EXPECTED[kind]
    shift = 1 if kind == "sparse" else 0
    for (y, x), _, v_in, v_out in rules:
        p_in, p_out = INPUTS[v_in], outputs[v_out]
        assert (y, x) == (p_in[0] - p_out[0] - shift, p_in[1] - p_out[1] - shift)


def test_the_table_for_people_has_the_same_rows(spcli, kind, arguments):
    outputs, rules = EXPECTED[kind]
    text = spcli("inspect-rulebook", *arguments, "--hash-tables", "--format", "table").out.decode()
    words = [line.split() for line in text.splitlines()]
    assert [line[:2] for line in words if len(line) == 2 and line[0].startswith("(") and line[1].isdecimal()] == [
        [f"({y},{x})", str(row)] for table in (INPUTS, outputs) for row, (y, x) in enumerate(table)
    ]
    drawn = [line for line in words if "+=" in line]
    assert drawn == [
        [f"({y},{x})", str(count), str(v_in), str(v_out), *f"out[{v_out}] += W[{y},{x}] · in[{v_in}]".split()]
        for (y, x), count, v_in, v_out in rules
    ]
    assert "v_in" in text and "v_out" in text and "offset" in text and "atomic operation" in text


def test_json_and_csv_hold_the_same(spcli, kind, arguments):
    lines = spcli("inspect-rulebook", *arguments, "--hash-tables").lines
    assert json.loads(spcli("inspect-rulebook", *arguments, "--hash-tables", "--format", "json").out) == lines
    rows = spcli("inspect-rulebook", *arguments, "--hash-tables", "--format", "csv").out.decode().splitlines()
    assert rows[0] == "key,table,batch,y,x,row,offset_y,offset_x,count,v_in,v_out,operation"
    first = EXPECTED[kind][1][0]
    (y, x), count, v_in, v_out = first
    assert f'conv,rulebook,,,,,{y},{x},{count},{v_in},{v_out},"out[{v_out}] += W[{y},{x}] · in[{v_in}]"' in rows
    assert rows[1] == "conv,input,0,1,2,0,,,,,,"


def test_the_features_are_the_sums_that_the_rules_say(spcli, kind, arguments, tmp_path):
    outputs, rules = EXPECTED[kind]
    for row in range(len(outputs)):
        told = json.loads(spcli("-q", "explain", *arguments, row, "--format", "json").out)
        assert [(tuple(t["offset"]), t["in"]) for t in told["terms"]] == [(r[0], r[2]) for r in rules if r[3] == row]
        summed = [sum(term["contribution"][channel] for term in told["terms"]) for channel in range(2)]
        assert told["total"] == pytest.approx(summed, abs=1e-12)
        assert told["largest_difference"] < 1e-6


def test_a_folder_of_scans_leaves_the_example_out():
    names = [Path(scan.source).name for scan in find_scans([str(ROOT / "sample_data")])]
    assert names == ["street_000.bin", "street_001.bin"]


def test_the_example_is_found_by_name_and_is_no_preset_for_scans(spcli, kind):
    assert f"worked_example_{kind}" not in preset_names()
    assert len(spcli("inspect-rulebook", TENSOR, "--config", f"worked_example_{kind}").lines) == len(EXPECTED[kind][1])
    assert len(spcli("inspect-rulebook", TENSOR, "--preset", f"worked_example_{kind}").lines) == len(EXPECTED[kind][1])
