"""The YAML that a configuration may hold: scalars, anchors, limits, and what is written back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configurations import HEAD, LAYER, Load, Problems
from spcli.config import load_config, preset_path
from spcli.config.yaml_text import YamlError, flow, parse, parse_value
from spcli.errors import ConfigError, UsageError


def test_anchors_and_merges_are_written_out(load: Load) -> None:
    config = load(f"""{HEAD}layers:
- &base {{name: a, type: SubMConv3d, out_channels: 4, kernel_size: &k [3, 1, 1]}}
- {{<<: *base, name: b, out_channels: 6}}
- {{name: c, type: SubMConv3d, out_channels: 2, kernel_size: *k}}
""")
    sizes = [(layer.name, layer.out_channels, layer.kernel_size) for layer in config.layers]  # type: ignore[attr-defined]
    assert sizes == [("a", 4, (3, 1, 1)), ("b", 6, (3, 1, 1)), ("c", 2, (3, 1, 1))]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("012", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("160_000", 160000),
        (".inf", float("inf")),
        ("12:30:00", "12:30:00"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("[.05, .05, .1]", [0.05, 0.05, 0.1]),
        ("{type: LeakyReLU}", {"type": "LeakyReLU"}),
        ("9" * 50, float("9" * 50)),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), max_size=8),
    lambda child: st.lists(child, max_size=4) | st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), child),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_reads_back_the_same(value: Any) -> None:
    assert parse_value(flow(value)) == value


def test_small_numbers_are_written_so_that_readers_of_yaml_1_1_take_them_for_numbers() -> None:
    assert flow([float("inf"), float("-inf"), float("nan")]) == "[.inf, -.inf, .nan]"
    assert flow([1e-05, 1e-3, 2.5e-07, 1e22]) == "[1.0e-05, 0.001, 2.5e-07, 1.0e+22]"


def test_duplicate_keys_name_both_lines(problems: Problems) -> None:
    text = f"{HEAD}layers:\n- name: a\n  type: ToDense\n  name: b\nname: x\nname: y\n"
    expected = "stands twice, first on line {}; keep one"
    assert problems(text) == [(5, "name", expected.format(3)), (7, "name", expected.format(6))]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: [1\nb: 2\n", 2, "is not valid YAML: while parsing a flow sequence"),
        ("a:\n\t- b\n", 2, "is not valid YAML: while scanning for the next token found character"),
        ("a: 'x\n", 2, "is not valid YAML: while scanning a quoted scalar"),
        ("a: \x01\n", None, "is not valid YAML: unacceptable character"),
        ("a: 1\n---\nb: 2\n", 2, "holds more than one YAML document; keep one"),
        ("a: !!python/name:os.system x\n", 1, "the tag 'tag:yaml.org,2002:python/name:os.system' is not allowed"),
        ("a: !!timestamp 2001-01-01\n", 1, "the tag"),
        ("a: *b\n", 1, "the alias *b names no anchor before it"),
        ("a: &b\n  - *b\n", 2, "the alias *b stands inside what it names"),
        ("? [a]\n: 1\n", 1, "has a key that is not a single word"),
        ("a: {<<: 5}\n", 1, "'<<' merges mappings; give it an alias of one"),
        ("[" * 300_000, 1, "is nested more than 16 levels deep"),
        ("{a: " * 1000, 1, "is nested more than 16 levels deep"),
    ],
)
def test_text_that_is_no_plain_yaml_is_refused_with_its_line(text: str, line: int | None, message: str) -> None:
    with pytest.raises(YamlError) as caught:
        parse(text)
    assert caught.value.problem.line == line
    assert caught.value.problem.message.startswith(message)


def test_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(YamlError, match="holds more than 100000 values"):
        parse("\n".join(lines))
    chain = ["a0: &a0 [1]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 2000)]
    with pytest.raises(YamlError, match="nested more than 16"):
        parse("\n".join(chain))


def test_files_that_are_not_text_or_too_large_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 3\); give a configuration file"):
        load_config(str(path))
    path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="is larger than 1000000 bytes"):
        load_config(str(path))
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(str(tmp_path))


def test_a_byte_order_mark_is_passed_over(load: Load) -> None:
    assert load(f"\ufeff{HEAD}layers:\n{LAYER}").layers[0].name == "a"


@given(st.text(st.sampled_from("ab:-[]{}&*!|>'\"#%@`,? \n\t~0.e<$"), max_size=60))
def test_no_text_gives_anything_but_data_or_a_yaml_error(text: str) -> None:
    try:
        json.dumps(parse(text).data)
    except YamlError as error:
        assert error.problem.message


def test_the_pure_python_parser_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    text = Path(preset_path("spunet-scannet")).read_text()
    with_c = parse(text)
    monkeypatch.setattr("spcli.config.yaml_text._LOADER", yaml.SafeLoader)
    in_python = parse(text)
    assert (in_python.data, in_python.lines) == (with_c.data, with_c.lines)
